"""`load`: what a file holds, as the object that was saved."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from .checks import file_paths, scalars
from .checks.scalars import shown
from .files import groups_file, model_file, population_file, storage
from .group_models import GroupModels
from .model import Model
from .population import Population
from .settings.custom import Activation, Loss


def load(path: str | os.PathLike[str], *, custom: Mapping[str, Activation | Loss] | None = None) -> Any:
    """What `save` wrote: a `Model`, a `Population`, `GroupModels`, or a fitted `MLPClassifier` or another estimator.

    An estimator predicts and goes on training with the same bits as the one that was saved. Files of estimators need
    scikit-learn, others do not.

    A file holds the names of activations and losses of your own, but not their functions: `custom` maps the names to
    them. Nothing can tell whether they are the functions that the model was trained with.

    Raises ValueError for a file that is truncated, changed since it was saved, not safetensors, not fastnn's, of a
    newer format version, with parameters that are not finite or an optimizer's state that cannot be, or with an
    estimator whose parameters, classes and networks do not fit each other. Raises FileNotFoundError where there is no
    file, and TypeError for a path that is neither a string nor a path object.

    Examples
    --------
    >>> import fastnn, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> fastnn.Model([4, 3], rng=0).save(path)
    >>> fastnn.load(path).sizes
    (4, 3)
    >>> fastnn.Population([4, 3], 10, rng=0).save(path)
    >>> len(fastnn.load(path))
    10
    """
    path = file_paths.path(path)
    if custom is not None and not isinstance(custom, Mapping):
        raise TypeError(f"custom must be a dict of names and what they stand for, got {shown(custom)}")
    description, tensors = storage.read(path)
    try:
        found = json.loads(description)
        if "estimator" in found:
            return _estimator(found, tensors, custom or {})
        if "groups" in found:
            return GroupModels._of(groups_file.read(found, tensors, custom or {}))
        if "population" in found:
            return Population._of(population_file.read(found, tensors, custom or {}))
        contents = model_file.read(found, tensors, custom or {})
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"path must name a consistent model file, got {str(path)!r}: {error}") from None
    return Model._of(contents)


def _estimator(found: dict[str, Any], tensors: storage.Tensors, custom: Mapping[str, Any]) -> Any:
    """The estimator of a description and its tensors."""
    from .estimators import ensembles, estimators, tabular  # these import scikit-learn, which no other file needs

    known: list[Any] = [estimators.MLPClassifier, estimators.MLPRegressor]
    known += [ensembles.MLPEnsembleClassifier, ensembles.MLPEnsembleRegressor]
    known += [tabular.TabularClassifier, tabular.TabularRegressor]
    kinds = {kind.__name__: kind for kind in known}
    return kinds[scalars.choice("kind", found["estimator"]["kind"], kinds)]._of(found, tensors, custom)
