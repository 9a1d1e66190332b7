"""`save` of the estimators, and what they are made of from a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..checks import file_paths, scalars
from ..checks.scalars import shown
from ..files import estimator_file, model_file, storage
from ..files.exportable import Exportable
from ..settings.layers import Architecture

MAX_COUNT = 2**62  # of steps, epochs and samples, which the kernels count in int64
Tensors = model_file.Tensors


class Saved(Exportable):
    """What estimators have that a file can hold. Their classes are scikit-learn's, so an instance is `Any` here."""

    # The attributes in a file, beside networks: what checks one, and gives it back. All in `_needed` must be there.
    _noted: ClassVar[dict[str, Callable[[str, Any], Any]]] = {}
    _needed: ClassVar[set[str]] = set()
    _trained: ClassVar[str]  # the attribute that shows that there was a fit

    def save(self, path: str | os.PathLike[str], *, optimizer: bool = True) -> None:
        """Write the fitted estimator to a safetensors file, which `fastnn.load` reads, without pickle.

        It holds the parameters, the classes, the names of the features, the attributes of the fit and the networks.
        With `optimizer` also what the optimizer keeps, which may be as large as the coefficients or twice as large: so
        `partial_fit` goes on after `fastnn.load` with the same bits. Without it the optimizer starts afresh. What
        `set_fit_request` and the like have set, and attributes of your own, are not in the file. Of an `Activation` or
        a `Loss` of your own it holds the name, see `fastnn.load`. The rest is as in `Model.save`.

        Raises NotFittedError, a ValueError, before there is a fit; TypeError for a parameter that is or contains a
        function or another object that no file holds, such as `callbacks`, and for a subclass; ValueError for
        `set_callbacks`, for a parameter that `fit` would refuse, for coefficients that are not finite or wider than
        float64, and where coefficients and classes do not fit each other. All this is before anything is written.

        Examples
        --------
        >>> import fastnn, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "labels.safetensors")
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"]
        >>> model = fastnn.MLPClassifier(10, solver="lbfgs", random_state=0).fit(X, y)
        >>> model.save(path)
        >>> fastnn.load(path).predict([[0.5], [2.5]]).tolist()
        ['low', 'high']
        """
        optimizer, path = scalars.boolean("optimizer", optimizer), file_paths.path(path)
        kind: Any = type(self)
        if kind.__module__.rpartition(".")[0] != __package__:
            raise TypeError(f"the estimator must be of fastnn's own class to be saved, got {kind.__name__}")
        check_is_fitted(self, self._trained)
        values = self._values()
        if values.get("_skl_callbacks"):
            raise ValueError(f"set_callbacks must have none to be saved, got {shown(values['_skl_callbacks'])}")
        parameters = {name: values[name] for name in kind._get_param_names()}
        attributes = {name: values[name] for name in self._noted if name in values}
        solver = self._solver_values() if optimizer else {}
        contents = estimator_file.Contents(kind.__name__, parameters, attributes, solver)
        described, functions = estimator_file.written(contents)
        description, tensors, architecture = self._written(optimizer)
        description["estimator"] = described
        custom = model_file.by_name([*functions, *model_file.functions_of(architecture)])
        kind._of(json.loads(json.dumps(description)), tensors, custom)  # raises where its parts do not fit
        storage.write(path, description, tensors)

    @classmethod
    def _of(cls, d: dict[str, Any], tensors: Tensors, custom: Mapping[str, Any]) -> Any:
        """The estimator of a description and its tensors; raises where they do not fit each other."""
        kind: Any = cls
        contents = estimator_file.read(d["estimator"], custom)
        given, expected = contents.parameters.keys(), {*kind._get_param_names()}
        if given != expected:
            raise ValueError(f"{kind.__name__} must have the parameters {sorted(expected)}, got {sorted(given)}")
        made = kind(**contents.parameters)
        made._validate_params()
        for name, value in contents.attributes.items():
            scalars.choice("attributes", name, cls._noted)
            setattr(made, name, cls._noted[name](name, value))
        if missing := cls._needed - contents.attributes.keys():
            raise ValueError(f"attributes must have {sorted(missing)}")
        made._take(contents.solver, d, tensors, custom)
        return made

    def _values(self) -> dict[str, Any]:
        """What the estimator holds, by name."""
        return vars(self)

    def _solver_values(self) -> dict[str, Any]:
        """What trained last, as values by name; empty where nothing goes on from there."""
        return {}

    def _written(self, optimizer: bool) -> tuple[dict[str, Any], Tensors, Architecture]:
        """(description, tensors, architecture) of the networks."""
        raise NotImplementedError

    def _take(self, solver: dict[str, Any], d: dict[str, Any], tensors: Tensors, custom: Mapping[str, Any]) -> None:
        """Let the estimator, whose parameters and attributes are there, have the networks of a file."""
        raise NotImplementedError


# ---- what attributes are ----


def count(name: str, value: Any) -> Any:
    """A number of steps, epochs or samples."""
    scalars.integer(name, value, 0, MAX_COUNT)
    return value


def number(name: str, value: Any) -> Any:
    """A number, NaN and infinite ones too."""
    if not isinstance(value, Real) or isinstance(value, (bool, np.timedelta64)):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    return value


def number_or_none(name: str, value: Any) -> Any:
    """A number or None."""
    return None if value is None else number(name, value)


def numbers(name: str, value: Any) -> Any:
    """A list of numbers."""
    if not isinstance(value, list):
        raise TypeError(f"{name} must be a list of numbers, got {shown(value)}")
    return [number(name, each) for each in value]


def numbers_or_none(name: str, value: Any) -> Any:
    """A list of numbers or None."""
    return None if value is None else numbers(name, value)


def vector(name: str, value: Any) -> Any:
    """An array (n,) of float64."""
    return _floats(name, value, 1)


def matrix(name: str, value: Any) -> Any:
    """An array (n, columns) of float64."""
    return _floats(name, value, 2)


def _floats(name: str, value: Any, axes: int) -> Any:
    if type(value) is not np.ndarray or value.dtype != np.float64 or value.ndim != axes:
        raise TypeError(f"{name} must be an array of float64 with {axes} axes, got {shown(value)}")
    return value


def classes(name: str, value: Any) -> Any:
    """An array (n_classes,) of labels, sorted, no two of which are equal."""
    if type(value) is not np.ndarray or value.ndim != 1 or not len(value):
        raise TypeError(f"{name} must be an array of labels, got {shown(value)}")
    if not np.array_equal(np.unique(value), value):
        raise ValueError(f"{name} must be sorted labels, all different, got {shown(value)}")
    return value


def named(estimator: Any, n_features: int, names: tuple[str, ...] | None) -> None:
    """Let an estimator have the number of features and their names."""
    estimator.n_features_in_ = n_features
    if names is not None:
        estimator.feature_names_in_ = np.array(names, object)


def names_of(estimator: Any) -> tuple[str, ...] | None:
    """The names of the features, where there are some."""
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else tuple(names)
