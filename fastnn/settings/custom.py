"""Activations and losses of a user's own: a function of numbers and its derivative."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np

from ..checks import scalars
from ..checks.scalars import shown
from ..kernels.formulas import user_functions
from ..kernels.formulas.activations import UNBOUNDED
from ..kernels.vector import library

POINTS = (-2.3, -0.7, -0.1, 0.3, 0.9, 2.1)  # where a derivative is compared with central differences
STEP = 1e-5
FAR = (-100.0, -10.0, 10.0, 100.0)  # where a value is compared with the range, beside POINTS


@dataclass(frozen=True)
class _Pair:
    value: Callable[..., float] = field(repr=False, compare=False)
    derivative: Callable[..., float] = field(repr=False, compare=False)
    name: str = ""
    check: bool = field(default=True, repr=False, compare=False)
    # The kernels' name of the pair, by which objects are equal: one function with other globals is another pair.
    _kernel: str = field(init=False, repr=False)
    arguments: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        self._normalise()
        compiled = self._take()
        if not self.name:
            object.__setattr__(self, "name", getattr(self.value, "__name__", "custom"))
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a string, got {shown(self.name)}")
        if scalars.boolean("check", self.check):
            self._compare(*compiled)

    def _take(self) -> list[Any]:
        """Compile the functions with what they refer to now."""
        compiled = [self._compiled(which, getattr(self, which)) for which in ("value", "derivative")]
        object.__setattr__(self, "_kernel", self._row(*compiled))
        return compiled

    def _compiled(self, which: str, function: Callable[..., float]) -> Any:
        """Raise where Numba cannot compile a function."""
        arguments = ", ".join(self.arguments)
        expected = f"{which} must be a function of ({arguments}) that Numba can compile"
        if not callable(function):
            raise TypeError(f"{expected}, got {shown(function)}")
        try:
            return user_functions.compiled(function, len(self.arguments))
        except Exception as error:  # Numba raises errors of many kinds
            raise ValueError(f"{expected}, got {shown(function)}: {error}") from error

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # its globals are those of its making

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self._take()

    def _normalise(self) -> None:
        """Check what the object states of its functions."""

    def _row(self, value: Any, derivative: Any) -> str:
        raise NotImplementedError

    def _points(self) -> Iterable[tuple[float, ...]]:
        raise NotImplementedError

    def _compare(self, *compiled: Any) -> None:
        """Raise where compiled code gives no numbers, or the derivative is far from the central difference of value."""
        value, derivative = (library.scalar_function(each, len(self.arguments), "float64") for each in compiled)
        nothing, compared = [], []
        for x, *rest in self._points():
            where = ", ".join(f"{name} = {at:g}" for name, at in zip(self.arguments, (x, *rest), strict=True))
            high, low, got = value(x + STEP, *rest), value(x - STEP, *rest), derivative(x, *rest)
            nan = [which for which, f in (("value", value), ("derivative", derivative)) if math.isnan(f(x, *rest))]
            if nan:
                nothing.append(f"{self._explained(nan[0], where, x, *rest)} at {where}")
                continue
            compared.append((x, *rest))
            want = (high - low) / (2 * STEP)
            if math.isfinite(want) and not abs(got - want) <= 1e-4 * max(1.0, abs(want)):
                raise ValueError(
                    f"derivative must be that of value, {want:g} at {where} by central differences, got {got:g}; "
                    "check=False allows it"
                )
        if not compared:
            raise ValueError(f"value and derivative must give numbers somewhere, got {'; '.join(nothing[:2])}")
        self._check_value(value)
        self._try_float32(compiled, compared)

    def _check_value(self, value: Callable[..., float]) -> None:
        """Raise where the compiled value is not as the object states."""

    def _explained(self, which: str, where: str, *point: float) -> str:
        """Why a compiled function gives NaN; raises where that is no matter of its domain."""
        function = getattr(self, which)
        try:
            got = float(getattr(function, "py_func", function)(*point))
        except (ArithmeticError, ValueError) as error:  # outside the domain, such as the logarithm's
            return shown(error)
        except Exception as error:
            raise ValueError(
                f"value and derivative must give numbers, got {shown(error)} at {where}; check=False counts it as NaN"
            ) from error
        if not math.isnan(got):
            raise ValueError(
                f"{which} must give the same compiled by Numba as in Python, got NaN at {where}, where Python gives "
                f"{got:g}: compiled code has integers of 64 bits, and NaN for what it raises; check=False allows it"
            )
        return "NaN"

    def _try_float32(self, compiled: Iterable[Any], points: list[tuple[float, ...]]) -> None:
        """Warn of NaN in float32 where float64 gives numbers."""
        for which, each in zip(("value", "derivative"), compiled, strict=True):
            function = library.scalar_function(each, len(self.arguments), "float32")
            for point in points:
                if math.isnan(function(*point)):
                    where = ", ".join(f"{name} = {at:g}" for name, at in zip(self.arguments, point, strict=True))
                    warnings.warn(
                        f"{which} gives NaN in float32 at {where}, and a number in float64: use dtype='float64', or "
                        "write it with numbers that float32 holds",
                        stacklevel=5,
                    )
                    break


@dataclass(frozen=True, repr=False)
class Activation(_Pair):
    """An activation of your own: a function of the weighted input z, and its derivative there.

    Numba compiles both, once for a dtype. They take and give a number of the model's dtype. LLVM turns them into vector
    code where they neither loop nor call other functions than exp, expm1, log, log1p, tanh, sqrt and fabs of `math`.
    Others work too, a number at a time.

    Parameters
    ----------
    value, derivative : functions of z
        Plain functions, or such as `numba.njit` gives. Where one raises an exception, it counts as NaN. The values of
        globals and of closures are taken when the object is made, also when it comes back from a pickle.
    name : str
        For `repr`, and for files: `fastnn.load(path, custom={name: activation})`. Default: the name of `value`.
    check : bool
        Compare the derivative with central differences of the value at a few points, and the value with the range.
        Default True; False is for a derivative that differs on purpose (a surrogate).
    range : (float, float)
        Keyword only: the bounds (low, high) of the values, low < high, of which either may be infinite. Default
        (-inf, inf). It matters for the last layer. A single unit with the range (0, 1) is treated like "sigmoid":
        integers 0 and 1 are classes, `evaluate` reports accuracy, "log_loss" takes the outputs as probabilities. Where
        both ends are finite, `Model.classify` decides in their middle, else at 0. Targets outside the range give a
        warning. A file does not hold it: `load` takes that of the activation in `custom`.

    Raises
    ------
    ValueError, TypeError
        For a function that Numba cannot compile, a derivative that is not the value's, a range that is no pair of
        numbers low < high, or a value outside it.

    Examples
    --------
    >>> import math, fastnn
    >>> def softsign(z):
    ...     return z / (1 + math.fabs(z))
    >>> def slope(z):
    ...     return 1 / (1 + math.fabs(z)) ** 2
    >>> activation = fastnn.Activation(softsign, slope)
    >>> fastnn.Model([2, fastnn.Dense(8, activation), 1], rng=0)
    Model([2, Dense(8, Activation(name='softsign')), Dense(1, 'sigmoid')], loss='quadratic', dtype='float32')

    One whose outputs are probabilities, as the last layer of two classes:

    >>> def below(z):
    ...     return 0.5 + z / (2 * (1 + math.fabs(z)))
    >>> def below_slope(z):
    ...     return 0.5 / (1 + math.fabs(z)) ** 2
    >>> probability = fastnn.Activation(below, below_slope, range=(0, 1))
    >>> model = fastnn.Model([1, 1], output=probability, init="zeros")
    >>> model.weights[0][...] = 1
    >>> model.classify([[-2], [2]])
    array([0, 1])
    >>> model.evaluate([[-1], [1]], [0, 1])
    {'loss': 0.03125, 'accuracy': 1.0}
    """

    range: tuple[float, float] = field(default=UNBOUNDED, kw_only=True)
    arguments = ("z",)

    def __repr__(self) -> str:
        stated = "" if self.range == UNBOUNDED else f", range={self.range!r}"
        return f"{type(self).__qualname__}(name={self.name!r}{stated})"

    def _normalise(self) -> None:
        ends = scalars.items("range", self.range, "a pair (low, high) of numbers")
        if len(ends) != 2:
            raise ValueError(f"range must be a pair (low, high) of numbers, got {shown(self.range)}")
        low, high = (_bound(f"range[{i}]", end) for i, end in enumerate(ends))
        if low >= high:
            raise ValueError(f"range must be a pair (low, high) with low < high, got {shown(self.range)}")
        object.__setattr__(self, "range", (low, high))

    def _check_value(self, value: Callable[..., float]) -> None:
        """Raise where a value lies outside the range by more than rounding."""
        low, high = self.range
        for z in (*POINTS, *FAR):
            if (got := value(z)) < low - 1e-6 * max(1.0, abs(low)) or got > high + 1e-6 * max(1.0, abs(high)):
                raise ValueError(
                    f"value must lie within range {self.range}, got {got:g} at z = {z:g}; check=False allows it"
                )

    def _points(self) -> Iterable[tuple[float, ...]]:
        return ((z,) for z in POINTS)

    def _row(self, value: Any, derivative: Any) -> str:
        """Its name among the kernels' activations."""
        return user_functions.activation(value, derivative, self.range)


def _bound(name: str, value: Any) -> float:
    """An end of a range as a float, which may be infinite."""
    if isinstance(value, (float, np.floating)) and math.isinf(value):
        return float(value)
    return scalars.number(name, value, -math.inf) + 0.0  # no -0.0


@dataclass(frozen=True)
class Loss(_Pair):
    """A loss of your own: a function of an output a and its target y, and its derivative in a.

    It is summed over the outputs and averaged over the samples. It goes with every output but softmax, and takes any
    numbers as targets, or class indices, which are one-hot for it. What `Activation` says of functions holds here too.

    Parameters
    ----------
    value, derivative : functions of (a, y)
        As in `Activation`.
    name : str
        For `repr`, and for files: `fastnn.load(path, custom={name: loss})`. Default: the name of `value`.
    check : bool
        As in `Activation`.

    Raises
    ------
    ValueError, TypeError
        As in `Activation`.

    Examples
    --------
    >>> import fastnn
    >>> def quartic(a, y):
    ...     return (a - y) ** 4
    >>> def slope(a, y):
    ...     return 4 * (a - y) ** 3
    >>> model = fastnn.Model([1, 1], output="identity", loss=fastnn.Loss(quartic, slope), init="zeros")
    >>> model.loss([[0.0]], [2.0])
    16.0
    """

    arguments = ("a", "y")

    def _points(self) -> Iterable[tuple[float, ...]]:
        return ((a, y) for a in POINTS for y in (0.0, 1.0, -1.0))

    def _row(self, value: Any, derivative: Any) -> str:
        """Its name among the kernels' losses."""
        return user_functions.loss(value, derivative)
