"""Derivatives by central differences."""

import numpy as np


def central_differences(value, array, h=1e-6, places=None):
    """The derivatives of value() by the elements of an array, which is changed in place and changed back.

    places are the indices of some elements; those of the others are zero.
    """
    numeric = np.zeros(array.shape)
    for i in np.ndindex(array.shape) if places is None else places:
        before, ends = array[i], []
        for step in (h, -h):
            array[i] = before + step
            ends.append(value())
        array[i] = before
        numeric[i] = (ends[0] - ends[1]) / (2 * h)
    return numeric
