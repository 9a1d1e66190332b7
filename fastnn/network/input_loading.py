"""How the inputs of networks are loaded: multiplied by a number, or shifted and scaled by an operand of programs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import calls
from ..kernels.programs.memory import Layout, aligned_zeros
from ..kernels.running.python_api import address_of
from ..settings.layers import Architecture

_NOTHING = np.empty((0, 0))


def scale_of(architecture: Architecture) -> float | None:
    """What inputs are multiplied by in programs; None where these read operands that shift and scale them."""
    if architecture.shifted:
        return None
    scale = architecture.input_scale
    assert not isinstance(scale, tuple)
    return 1.0 if scale is None else scale


def operands(layout: Layout, affines: NDArray[np.float64]) -> NDArray[Any]:
    """The operands `Layout.affine` of networks whose inputs have these shifts and scales (m, 2, n_inputs): (m, ..).

    A number of float32 holds 24 bits of a shift. What is left of it is a second number.
    """
    matrix, dtype = layout.affine, np.dtype(layout.number_dtype)
    n_bytes = matrix.rows * matrix.row_stride
    made = aligned_zeros(len(affines) * n_bytes, dtype).reshape(len(affines), matrix.rows, -1)
    shift, scale, n = affines[:, 0], affines[:, 1], matrix.cols
    made[:, 0, :n] = shift
    made[:, 1, :n] = shift - made[:, 0, :n]
    made[:, 2, :n] = scale
    flat = made.reshape(len(affines), -1)
    flat[:, 3 * made.shape[2] :].view(np.float64)[:, :n] = shift
    return flat


class Loading(NamedTuple):
    """How the inputs of networks are loaded: by a scale that programs hold, or where that is None by operands."""

    scale: float | None
    operands: NDArray[Any]  # (m, ..), a row for each network, or one for all; empty where there is a scale

    @classmethod
    def of(cls, architecture: Architecture, layout: Layout, members: NDArray[np.float64] | None = None) -> Loading:
        """The loading for an architecture; `members` (n, 2, n_inputs) have shifts and scales of their own."""
        scale = scale_of(architecture)
        if scale is not None:
            return cls(scale, _NOTHING)
        affines = members if architecture.own_inputs else architecture.affine[None]
        return cls(None, _NOTHING if affines is None else operands(layout, affines))

    @property
    def address(self) -> int:
        """Where the first operand lies; 0 where there is none."""
        return address_of(self.operands) if self.operands.size else 0

    def scales(self, layout: Layout) -> NDArray[Any]:
        """The scale of each input, (m, n_inputs) in the networks' dtype, where there are operands."""
        matrix = layout.affine
        return self.operands.reshape(len(self.operands), matrix.rows, -1)[:, 2, : matrix.cols]

    def rounded(self, layout: Layout, inputs: NDArray[Any]) -> tuple[NDArray[Any], Loading]:
        """(inputs, their loading), with the same bits, for rows that are read many times.

        float64 rows of a float32 network are rounded once, without their shift; all other rows stay as they are.
        """
        if len(self.operands) != 1 or inputs.dtype != np.float64 or layout.number_dtype == "float64":
            return inputs, self
        matrix = layout.affine
        shift = self.operands[0].reshape(matrix.rows, -1)[3:].reshape(-1).view(np.float64)[: matrix.cols]
        found = np.empty(inputs.shape, layout.number_dtype)
        with np.errstate(all="ignore"):  # training says where a number is too large
            for rows in calls.row_slices(len(inputs), inputs[:1].nbytes):
                np.subtract(inputs[rows], shift, out=found[rows], dtype=np.float64, casting="same_kind")
        scales = self.scales(layout)
        return found, Loading(None, operands(layout, np.stack([np.zeros_like(scales), scales], axis=1)))

    @property
    def stride(self) -> int:
        """The bytes between operands, 0 where there is one for all."""
        return self.operands.strides[0] if len(self.operands) > 1 else 0
