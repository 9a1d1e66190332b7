"""What the file of an estimator holds beside its networks: parameters, and what its fits noted.

All of it stands in the description. JSON has None, bool, int, str, finite floats and lists as they are, and a dict of
one name for anything else: {"tuple": [1, 2]}. The name says what it is, see `_RESTORED`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..checks import scalars
from ..checks.scalars import shown
from ..settings import losses, optimizers
from ..settings.custom import Activation, Loss
from ..settings.each import Each
from ..settings.learning_rates import LearningRate
from ..settings.losses import Huber, Quantile
from ..settings.optimizers import Optimizer
from . import model_file

# Arrays have numbers, strings, dates, which stand as integers, or as objects any of these.
DTYPES = re.compile(r"[<>|][biuf][1248]|[<>]U[0-9]{1,9}|[<>][mM]8\[[0-9]{0,9}[A-Za-z]{1,2}\]|\|O")
MAX_ARRAY = 2**30  # bytes of an array: short strings may be in a very wide one
KEY = 624  # how many numbers the state of NumPy's RandomState has


class Contents(NamedTuple):
    """Of an estimator: the name of its class, and values by name."""

    kind: str
    parameters: dict[str, Any]
    attributes: dict[str, Any]
    solver: dict[str, Any]  # what trained last; it may be empty


def written(contents: Contents) -> tuple[dict[str, Any], list[Activation | Loss]]:
    """(the description, the functions of the user's that it names) of an estimator.

    Raises TypeError, which names the parameter, for what no file holds.
    """
    found: dict[str, Any] = {"kind": contents.kind}
    functions: list[Any] = []
    for part, of in zip(Contents._fields[1:], ("", "", " of the last fit"), strict=True):
        values = getattr(contents, part)
        found[part] = {name: _described(name + of, value, functions) for name, value in values.items()}
    return found, functions


def read(d: Any, custom: Mapping[str, Any]) -> Contents:
    """The contents of a description; raises where it is none."""
    found = dict(d)
    if found.keys() != {*Contents._fields}:
        raise ValueError(f"an estimator must have {sorted(Contents._fields)}, got {sorted(found)}")
    for part in Contents._fields[1:]:
        if not isinstance(found[part], dict):
            raise TypeError(f"{part} must be values by name, got {shown(found[part])}")
        found[part] = {name: _restored(name, value, custom) for name, value in found[part].items()}
    return Contents(**found)


# ---- a value in JSON ----


def _described(name: str, value: Any, functions: list[Any]) -> Any:
    """A value in JSON; functions of the user's in it are appended to `functions`."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if type(value) in (list, tuple):
        values = [_described(name, each, functions) for each in value]
        return values if type(value) is list else {"tuple": values}
    if type(value) is Each:
        value = value.values
    if (type(value) is np.ndarray or isinstance(value, np.generic)) and DTYPES.fullmatch(value.dtype.str):
        flat = value.ravel().view(_plain(value.dtype.str))
        values = [_described(name, each, functions) for each in flat.tolist()]
        return {"array": {"dtype": value.dtype.str, "shape": list(value.shape), "values": values}}
    if isinstance(value, (Optimizer, LearningRate)) and optimizers.described(value) is not None:
        settings = {key: _described(name, each, functions) for key, each in vars(value).items()}
        return {"settings": {"name": type(value).__name__, "settings": settings}}
    if type(value) in (Huber, Quantile):
        return {"loss": losses.described(value)}
    if type(value) in (Activation, Loss):
        functions.append(value)
        return {type(value).__name__: value.name}
    if type(value) is np.random.RandomState and value.get_state(legacy=False)["bit_generator"] == "MT19937":
        _, key, *numbers = value.get_state()
        return {"random_state": [np.asarray(key).tolist(), *numbers]}
    raise TypeError(
        f"{name} must hold numbers, strings, arrays of them or fastnn's objects to be saved, "
        f"and no functions of Python, got {shown(value)}"
    )


def _restored(name: str, value: Any, custom: Mapping[str, Any]) -> Any:
    """The value that `_described` described."""
    if isinstance(value, list):
        return [_restored(name, each, custom) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must not hold {value} as a number of JSON")
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or not value.keys() <= _RESTORED.keys():
        raise ValueError(f"{name} must be a value with one name of {sorted(_RESTORED)}, got {shown(value)}")
    ((kind, content),) = value.items()
    return _RESTORED[kind](name, content, custom)


def _float(name: str, content: Any, custom: Mapping[str, Any]) -> float:
    return float(scalars.choice(name, content, ("nan", "inf", "-inf")))


def _tuple(name: str, content: Any, custom: Mapping[str, Any]) -> tuple[Any, ...]:
    if not isinstance(content, list):
        raise TypeError(f"{name} must hold the items of a tuple, got {shown(content)}")
    return tuple(_restored(name, content, custom))


def _plain(code: str) -> str:
    """The dtype whose numbers or strings a file holds for a dtype: itself but for dates and differences of dates."""
    return f"{code[0]}i8" if code[1] in "mM" else code


def _array(name: str, content: Any, custom: Mapping[str, Any]) -> Any:
    """An array, or a scalar of NumPy's where the shape is ()."""
    code, shape, values = content["dtype"], content["shape"], content["values"]
    if not isinstance(code, str) or not DTYPES.fullmatch(code):
        raise ValueError(f"{name} must be an array of numbers or strings, got dtype {shown(code)}")
    shape, values, dtype = _tuple(name, shape, custom), _tuple(name, values, custom), np.dtype(_plain(code))
    if math.prod(scalars.integer("shape", n, 0) for n in shape) != len(values):
        raise ValueError(f"{name} must have shape {shown(shape)}, got {len(values)} numbers")
    if len(values) * dtype.itemsize > MAX_ARRAY:
        raise ValueError(f"{name} must have {MAX_ARRAY} bytes at most, got {len(values)} of dtype {code}")
    found = np.empty(len(values), dtype)
    with np.errstate(all="ignore"):
        for i, each in enumerate(values):
            if not isinstance(each, (bool, int, float, str, np.generic)):
                raise TypeError(f"{name} must be an array of numbers or strings, got {shown(each)}")
            found[i] = each
    if repr(found.tolist()) != repr([*values]):  # what does not fit the dtype was changed
        raise ValueError(f"{name} must hold values of dtype {code}, got {shown(values)}")
    return found.view(code).reshape(shape)[()]


def _settings(name: str, content: Any, custom: Mapping[str, Any]) -> Any:
    settings = {key: _restored(name, each, custom) for key, each in dict(content["settings"]).items()}
    return optimizers.restored({"name": content["name"], "settings": settings})


def _loss(name: str, content: Any, custom: Mapping[str, Any]) -> Any:
    return losses.restored(dict(content))


def _activation(name: str, content: Any, custom: Mapping[str, Any]) -> Any:
    return model_file.user_function({"custom": content}, Activation, custom)


def _own_loss(name: str, content: Any, custom: Mapping[str, Any]) -> Any:
    return model_file.user_function({"custom": content}, Loss, custom)


def _random_state(name: str, content: Any, custom: Mapping[str, Any]) -> np.random.RandomState:
    """A generator. NumPy does not check the position in the key."""
    key, position, has_gauss, gauss = content
    key = _array(name, {"dtype": "<u4", "shape": [KEY], "values": key}, custom)
    position, has_gauss = scalars.integer(name, position, 0, KEY), scalars.integer(name, has_gauss, 0, 1)
    made = np.random.RandomState(0)
    made.set_state(("MT19937", key, position, has_gauss, scalars.number(name, gauss, -np.inf)))
    return made


_RESTORED = {
    "float": _float,
    "tuple": _tuple,
    "array": _array,
    "settings": _settings,
    "loss": _loss,
    "Activation": _activation,
    "Loss": _own_loss,
    "random_state": _random_state,
}
