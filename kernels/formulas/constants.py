"""What a user's function refers to, taken once: a copy whose globals nobody changes, and a key of the function.

Numba reads globals whenever it compiles for another dtype, so it gets the copy. Functions that come back from a pickle
are new objects, so equal keys stand for equal code.
"""

import builtins
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba.core.registry import CPUDispatcher

PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range, slice)
LIBRARIES = ("builtins", "math", "cmath", "numpy", "numba", "operator")  # nobody changes what their names mean


class Same:
    """Stands in a key for an object that is equal to itself alone."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class Taking:
    """A walk over what a function refers to. `dispatcher` makes Numba's object of a copy and such an object."""

    def __init__(self, dispatcher: Callable[[Any, CPUDispatcher], Any]) -> None:
        self.dispatcher = dispatcher
        self._seen: dict[int, tuple[int, Any, Any]] = {}  # by id: its number, the original, the copy

    def function(self, function: FunctionType, decorated: CPUDispatcher | None = None) -> tuple[Any, Any]:
        """(copy, key) of a function, or of the object that Numba made of it."""
        code, closure = function.__code__, function.__closure__ or ()
        cells = tuple(CellType() for _ in closure)
        its_globals = {"__builtins__": builtins, "__name__": function.__module__}
        made = FunctionType(code, its_globals, function.__name__, None, cells or None)
        made.__qualname__, made.__module__ = function.__qualname__, function.__module__
        copy = made if decorated is None else self.dispatcher(made, decorated)
        for original in (function, decorated):
            if original is not None:
                self._seen[id(original)] = len(self._seen), original, copy
        names = sorted(set(_names(code)))
        key: list[Any] = [_code_key(code)]
        for name in names:
            if name in function.__globals__:
                its_globals[name], found = self.value(function.__globals__[name], names)
                key.append((name, found))
        for cell, original in zip(cells, closure, strict=True):
            cell.cell_contents, found = self.value(original.cell_contents, names)
            key.append(found)
        made.__defaults__, found = self.value(function.__defaults__, names)
        made.__kwdefaults__ = function.__kwdefaults__
        options = () if decorated is None else tuple(sorted((k, repr(v)) for k, v in decorated.targetoptions.items()))
        return copy, (*key, found, repr(function.__kwdefaults__), options)

    def value(self, value: Any, names: list[str]) -> tuple[Any, Any]:
        """(copy, key) of any value; `names` are the attributes of a module that the function may use."""
        if id(value) in self._seen:
            number, _, copy = self._seen[id(value)]
            return copy, ("seen", number)
        if type(value) in PLAIN:
            return value, (type(value).__name__, repr(value))
        if isinstance(value, np.generic):
            return value, (value.dtype.str, value.tobytes())
        if type(value) is np.ndarray and not value.dtype.hasobject:
            return value.copy(order="K"), (value.dtype.str, value.shape, value.strides, value.tobytes())
        if isinstance(value, tuple):
            found = [self.value(each, names) for each in value]
            copies = [copy for copy, _ in found]
            copy = tuple(copies) if type(value) is tuple else type(value)(*copies)
            return copy, (Same(type(value)), *(key for _, key in found))
        if type(value) is CPUDispatcher and value._can_compile:  # else it has been compiled, once and for all
            return self.function(value.py_func, value)
        if isinstance(value, ModuleType) and value.__name__.partition(".")[0] not in LIBRARIES:
            return self._module(value, names)
        return value, Same(value)

    def _module(self, module: ModuleType, names: list[str]) -> tuple[Any, Any]:
        copy = ModuleType(module.__name__)
        self._seen[id(module)] = len(self._seen), module, copy
        key: list[Any] = [module.__name__]
        for name in names:
            if name in vars(module):
                value, found = self.value(vars(module)[name], names)
                setattr(copy, name, value)
                key.append((name, found))
        return copy, tuple(key)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _nested(each)


def _names(code: CodeType) -> Iterator[str]:
    for each in _nested(code):
        yield from each.co_names


def _code_key(code: CodeType) -> Any:
    """A key of what code does, not of where it stands or what it is called."""
    return tuple(
        (
            *(each.co_code, getattr(each, "co_exceptiontable", b""), each.co_flags),
            *(each.co_argcount, each.co_posonlyargcount, each.co_kwonlyargcount),
            *(each.co_names, each.co_varnames, each.co_freevars, each.co_cellvars),
            tuple(None if isinstance(c, CodeType) else _constant_key(c) for c in each.co_consts),
        )
        for each in _nested(code)
    )


def _constant_key(value: Any) -> Any:
    """A key of a constant: 1, 1.0 and True are equal, but have other keys."""
    if isinstance(value, frozenset):
        return "frozenset", tuple(sorted(map(repr, value)))
    return type(value).__name__, repr(value)
