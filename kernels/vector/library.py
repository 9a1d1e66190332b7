"""The library: every vector function by name, compiled for a dtype when a program first asks for it.

A network, a loss or an optimizer is a program of calls of these functions (see `program`), so that nothing is compiled
for a network, and a process compiles only what its programs use. Machine code is kept on disk, a file a function.
"""

import ctypes
import hashlib
import itertools
import re
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from ..cpu.flow import compiling
from ..cpu.target import HOST, Target
from ..formulas import user_functions
from ..formulas.activations import ACTIVATIONS, ActivationFormula
from ..formulas.loss_functions import LARGEST_LOG, LOSSES, LossFormula
from ..formulas.update_rules import OPTIMIZERS
from . import barriers, batches, elementwise, embedding_tables, gathering, noise, normalisation, reductions, tile
from .cache import CodeFiles
from .function import Function, Signature
from .matrix import networks_of


def functions(target: Target) -> dict[str, Function]:
    """Every function there is, by name."""
    return _functions(target)


# Functions of single networks alone, or of samples that are columns. Those of groups alone begin with "group_".
_NOT_OF_GROUPS = re.compile(
    "tiles_|pack|.*gemv|ger$|inner|transpose|gather|one_hot|unpad|collect|barrier|prefetch|draw_order|take_rate|"
    "sum_of_weights|clear_padding|normalise|scaled|total|sums_of|follow|fold|.*_columns"
)


def names_for(dtype: str, target: Target = HOST) -> list[str]:
    """The names of the functions that programs of a dtype may call, which is that of networks or of groups of them."""
    of_groups = networks_of(dtype)[1] > 1
    left_out = _NOT_OF_GROUPS if of_groups else re.compile("group_")
    return [name for name in functions(target) if not left_out.match(name)]


class _Functions(dict[str, Function]):
    """Functions by name. The functions of a user's row are made at each look-up, because the row may go."""

    def state(
        self, name: str, emit: Any, *arguments: Any, signature: str = "", linked: Any = None, owner: Any = None
    ) -> None:
        emits = lambda code: emit(code, *arguments)  # noqa: E731
        self[name] = Function(Signature.of(signature or emit.signature), emits, linked, owner)

    def activation(self, name: str, activation: ActivationFormula, owner: Any = None) -> None:
        """The functions of a row of ACTIVATIONS."""
        user = {"linked": activation.linked, "owner": owner}
        self.state(name, elementwise.unary, activation.value, **user)
        self.state(f"{name}_backward", elementwise.binary, activation.backward, **user)
        self.state(f"{name}_gemv", tile.gemv, activation.value, **user)
        self.state(f"{name}_gemv_backward", reductions.gemv_backward, activation.backward, **user)
        self.state(f"group_outer_{name}_backward", elementwise.group_outer_backward, activation.backward, **user)
        if at_least := activation.backward_at_least:
            signature = reductions.GEMV_BACKWARD + elementwise.SHARE
            self.state(f"{name}_backward_at_least", elementwise.binary_with_share, at_least)
            self.state(f"{name}_gemv_backward_at_least", reductions.gemv_backward, at_least, signature=signature)
            signature, outer = elementwise.OUTER_BACKWARD + elementwise.SHARE, f"group_outer_{name}_backward_at_least"
            self.state(outer, elementwise.group_outer_backward, at_least, signature=signature)

    def loss(self, name: str, loss: LossFormula, samples_are: str, weights: str, owner: Any = None) -> None:
        """A function of a row of LOSSES."""
        has_parameter = loss.parameter is not None
        full = f"{name}{'_weighted' if weights else ''}{'_columns' * (samples_are == 'columns')}"
        signature = elementwise.LOSS + weights + elementwise.PARAMETER * has_parameter
        each = elementwise.loss, loss.function, samples_are, has_parameter
        self.state(full, *each, signature=signature, linked=loss.linked, owner=owner)

    def __missing__(self, name: str) -> Function:
        row, found = name.removeprefix("group_outer_").partition("_")[0], _Functions()
        if row in ACTIVATIONS:
            found.activation(row, ACTIVATIONS[row], user_functions.owner(row))
        elif row in LOSSES:
            for samples_are, weights in elementwise.WEIGHTS.items():
                found.loss(row, LOSSES[row], samples_are, weights, user_functions.owner(row))
        if name not in found:
            raise KeyError(name)
        return found[name]


@cache
def _functions(target: Target) -> dict[str, Function]:
    """The table of functions. A new one is a line of a `_state_` function below, or a row of its table."""
    found = _Functions()
    _state_products(found, target)
    _state_elementwise(found)
    _state_layers(found)
    _state_samples(found)
    _state_formulas(found)
    return found


def _state_products(found: _Functions, target: Target) -> None:
    state = found.state
    for start, tiles, suffix in (("rows", target.tiles, ""), ("column", target.column_tiles, "_column")):
        for rows, lines in tiles:
            signature = tile.tiles_signature(start)
            state(f"tiles_{rows}x{lines}{suffix}", tile.tiles, rows, lines, start, signature=signature)
    for rows in range(1, target.most_rows(target.usual_lines) + 1):
        name = f"packed_tiles_{rows}x{target.usual_lines}"
        state(name, tile.packed_tiles, rows, target.usual_lines, signature=tile.PACKED_TILES)
        state(f"pack_{rows}", tile.pack, rows, signature=tile.PACK)
    for width, most in enumerate(target.group_tile_rows):
        for rows in range(1, most + 1):
            for ending, transposed in (("", False), ("_transposed", True)):
                name, signature = f"group_tiles_{rows}x{width}{ending}", tile.group_tiles_signature(transposed)
                state(name, tile.group_tiles, rows, width, transposed, signature=signature)
    for width in range(1, tile.GROUP_ROW + 1):
        shape, signature = (1, width, False, tile.ways_of_a_row(target)), tile.group_tiles_signature(False)
        state(f"group_row_{width}", tile.group_tiles, *shape, signature=signature)
    state("ger", tile.ger)
    state("inner", reductions.inner)
    state("transpose", reductions.transpose)
    state("softmax", reductions.softmax)
    state("softmax_backward", reductions.softmax_backward)
    state("barrier", barriers.barrier)


def _state_elementwise(found: _Functions) -> None:
    state = found.state
    state("add", elementwise.binary, lambda s, x, y: x + y)
    state("or_nan", elementwise.binary, lambda s, x, y: s.select(s.b.fcmp_unordered("uno", y.v, y.v), y, x))
    state("copy", elementwise.unary, lambda s, x: x)
    state("zero", elementwise.fill, 0.0)
    state("group_copy", elementwise.group_copy)
    state("decay", elementwise.decay, False)
    state("decay_with_signs", elementwise.decay, True)
    state("squares", elementwise.column_sums, True)
    state("absolute_values", elementwise.column_sums, False)
    for name in ("clear_padding", "finite_check", "clip", "scale", "smooth_labels", "limit_norms", "penalty"):
        state(name, getattr(elementwise, name))
    for name in ("norm_factor", "collect", "take_rate", "increment"):
        state(name, getattr(elementwise, name))


def _state_layers(found: _Functions) -> None:
    """What layers without products need."""
    state = found.state
    state("total", normalisation.total)
    state("total_columns", normalisation.total)
    for suffix, columns in (("", False), ("_columns", True)):
        state(f"scaled{suffix}", normalisation.scaled, columns, signature=normalisation.SCALED)
        shifted = normalisation.SCALED_AND_SHIFTED
        state(f"scaled_and_shifted{suffix}", normalisation.scaled, columns, signature=shifted)
        state(f"sloped{suffix}", normalisation.sloped, columns)
        state(f"sums_of_products{suffix}", normalisation.sums_of_products, columns)
        state(f"sums_below_zero{suffix}", normalisation.sums_of_products, columns, normalisation.below_zero)
        for over, across in (("neurons", columns), ("samples", not columns)):
            state(f"normalise_over_{over}{suffix}", normalisation.normalise, across)
            state(f"normalise_over_{over}_backward{suffix}", normalisation.normalise_backward, across)
    state("follow", normalisation.follow)
    state("fold", normalisation.fold)
    state("embed", embedding_tables.embed)
    state("add_by_codes", embedding_tables.add_by_codes)


def _state_samples(found: _Functions) -> None:
    """What reads samples, writes outputs, and draws numbers."""
    state = found.state
    for name in ("dropout", "add_noise"):
        state(name, getattr(noise, name), False)
        state(f"{name}_columns", getattr(noise, name), True)
    state("draw_key", noise.draw_key)
    state("draw_order", batches.draw_order)
    state("group_draw_orders", batches.group_draw_orders)
    state("group_rows", gathering.group_rows)
    state("group_one_hot", gathering.group_one_hot)
    state("group_weights", gathering.group_weights)
    for suffix, source in (("", "like the network"), ("_uint8", "uint8"), ("_float64", "float64")):
        if source != "float64":  # only where it is shifted: else it was converted before
            state(f"gather{suffix}", gathering.gather, source)
            state(f"gather{suffix}_columns", gathering.gather_columns, source)
            state(f"group_gather{suffix}", gathering.group_gather, source)
        name, columns = f"gather_shifted{suffix}", gathering.GATHER_SHIFTED_COLUMNS
        state(name, gathering.gather, source, signature=gathering.GATHER_SHIFTED)
        state(f"{name}_columns", gathering.gather_columns, source, signature=columns)
        state(f"group_{name}", gathering.group_gather, source, signature=gathering.GROUP_GATHER_SHIFTED)
    for name in ("gather_sparse", "gather_shifted_sparse", "one_hot"):
        state(name, getattr(gathering, name))
        state(f"{name}_columns", getattr(gathering, f"{name}_columns"))
    state("prefetch_L1", gathering.prefetch, 1)
    state("prefetch_L2", gathering.prefetch, 2)
    for name in ("prefetch_in_place", "unpad", "sum_of_weights"):
        state(name, getattr(gathering, name))


def _state_formulas(found: _Functions) -> None:
    """The functions of the rows of activations, losses and optimizers."""
    state = found.state
    for name, activation in list(ACTIVATIONS.items()):  # a copy: another thread may make a row
        if not activation.linked:
            found.activation(name, activation)
    for samples_are, weights in elementwise.WEIGHTS.items():
        suffix = "_weighted" if weights else ""
        for name, loss in list(LOSSES.items()):
            if loss.function and not loss.by_sample and not loss.linked:
                found.loss(name, loss, samples_are, weights)
        for name, (kinds, *arguments) in _by_sample().items():
            if samples_are != "columns":
                (emit, signature), full = kinds["rows"], f"{name}{suffix}"
                state(full, emit, *arguments, samples_are, signature=signature + weights)
            if samples_are != "rows":
                (emit, signature), full = kinds["columns"], f"{name}{suffix}_columns"
                state(full, emit, *arguments, samples_are, signature=signature + weights)
    for name, optimizer in OPTIMIZERS.items():
        state(f"{name}_advance", elementwise.advance, optimizer.advance, len(optimizer.settings), len(optimizer.state))
        if optimizer.update:
            signature = elementwise.update_signature(optimizer.vectors)
            state(name, elementwise.update, optimizer.update, optimizer.n_scalars, signature=signature)
            given = optimizer.advance, optimizer.settings, len(optimizer.state)
            state(f"{name}_scalars", elementwise.scalars_by_factor, *given, True)
            if "weight_decay" in optimizer.settings:
                state(f"{name}_scalars_without_decay", elementwise.scalars_by_factor, *given, False)


def _by_sample() -> dict[str, tuple[Any, ...]]:
    """For each loss whose outputs belong together: what writes it and its signature, by what samples are; arguments."""
    softmax = {
        "rows": (reductions.softmax_cross_entropy, elementwise.LOSS),
        "columns": (reductions.softmax_cross_entropy_columns, elementwise.LOSS),
    }
    joint = {
        "rows": (elementwise.joint_loss, elementwise.JOINT_LOSS),
        "columns": (elementwise.joint_loss_columns, elementwise.JOINT_LOSS_COLUMNS),
    }
    of_softmax = {"softmax_cross_entropy": None, "softmax_clipped_cross_entropy": LARGEST_LOG}
    return {name: (softmax, most) for name, most in of_softmax.items()} | {
        name: (joint, loss.function, loss.outputs) for name, loss in list(LOSSES.items()) if loss.outputs > 1
    }


class Library:
    """The addresses of functions for a dtype and a target. They live as long as the process, or as a user's row."""

    def __init__(self, dtype: str, target: Target = HOST):
        self.dtype, self.target = dtype, target
        self._addresses: dict[str, int] = {}

    def addresses(self, names: Iterable[str]) -> dict[str, int]:
        """{name: address}. What is not there yet is loaded or compiled; nothing changes if that fails."""
        names = list(dict.fromkeys(map(str.__str__, names)))  # plain strings: a `Name` would keep its row alive
        if not all(name in self._addresses for name in names):
            with compiling:
                missing = {name: functions(self.target)[name] for name in names if name not in self._addresses}
                code = {name: self._machine_code(name) for name in missing}
                kept = [name for name, function in missing.items() if not function.owner]
                found = _load(_engine(), [code[name] for name in kept], [self._symbol(name) for name in kept])
                loaded = dict(zip(kept, found, strict=True))
                for name, function in missing.items():
                    if function.owner:
                        loaded[name] = self._load_users(name, code[name], function.owner)
                self._addresses |= loaded
        return self._addresses

    def _load_users(self, name: str, code: bytes, owner: Any) -> int:
        """The address of a user's function, which is unloaded when its owner goes."""
        engine = _new_engine()
        (address,) = _load(engine, [code], [self._symbol(name)])
        weakref.finalize(owner, _unload, self._addresses, name, engine).atexit = False
        return address

    def _symbol(self, name: str) -> str:
        """The function's name for the linker, unique among dtypes, targets and versions of the source."""
        features = hashlib.sha256(self.target.features.encode()).hexdigest()[:8]
        return f"fastnn.{CodeFiles.source}.{self.target.cpu}.{features}.{self.dtype}.{name}"

    def _machine_code(self, name: str) -> bytes:
        """An object file that holds the function, from the cache or compiled."""
        if functions(self.target)[name].linked:  # no key could tell what a user's function refers to
            return bytes(_machine(self.target).emit_object(self.module(name)))
        return _kept(name, self._symbol(name), self.target, lambda: self.module(name))

    def module(self, name: str) -> llvm.ModuleRef:
        """The function's optimised code."""
        module, function, symbol = ir.Module(self._symbol(name)), functions(self.target)[name], self._symbol(name)
        function.define(module, symbol, self.target, self.dtype)
        parsed = _parsed(module, self.target)
        if function.linked:
            for text in function.linked(networks_of(self.dtype)[0], self.target):
                parsed.link_in(llvm.parse_assembly(text))
            for each in itertools.chain(parsed.functions, parsed.global_variables):
                if not each.is_declaration and each.name != symbol:
                    each.linkage = "internal"
        return _optimised(parsed, self.target)

    def assembly(self, name: str) -> str:
        """The function's machine code as assembly, for a person to read."""
        return str(_machine(self.target).emit_assembly(self.module(name)))


def scalar_function(function: user_functions.Compiled, n_arguments: int, dtype: str) -> Callable[..., float]:
    """A user's function of numbers as compiled code gives it, NaN where that raises, to call from Python.

    It is not optimised, for LLVM keeps memory for each module that it has optimised.
    """
    symbol, kind = "fastnn.scalar", ctypes.c_double if dtype == "float64" else ctypes.c_float
    with compiling:
        parsed = _parsed(ir.Module(symbol), HOST)
        for text in user_functions.linked(symbol, n_arguments, function)(dtype, HOST):
            parsed.link_in(llvm.parse_assembly(text))
        engine = _new_engine()
        (address,) = _load(engine, [bytes(_machine(HOST).emit_object(parsed))], [symbol])
    loaded = ctypes.CFUNCTYPE(kind, *(kind,) * n_arguments)(address)

    def call(*arguments: float, engine: llvm.ExecutionEngine = engine) -> float:
        """Call the loaded code, which `engine` holds."""
        return float(loaded(*arguments))

    return call


def host_symbol(name: str) -> str:
    """The name for the linker of a function for this CPU that is no vector function."""
    return f"fastnn.{CodeFiles.source}.{name}"


def host_code(name: str, symbols: Sequence[str], module: Callable[[], llvm.ModuleRef]) -> list[int]:
    """The addresses of such functions, from the cache or compiled from a module."""
    with compiling:
        if symbols[0] not in _host_functions:
            found = _load(_engine(), [_kept(name, symbols[0], HOST, module)], symbols)
            _host_functions.update(zip(symbols, found, strict=True))
    return [_host_functions[symbol] for symbol in symbols]


def linked(define: Callable[[ir.Module], None], compiled: llvm.ModuleRef | None = None) -> llvm.ModuleRef:
    """The optimised module of what `define` adds to a module, and of what was compiled already."""
    made = ir.Module("fastnn")
    define(made)
    found = _optimised(_parsed(made, HOST), HOST)
    if compiled is not None:
        found.link_in(compiled)
    return found


def _kept(name: str, symbol: str, target: Target, module: Callable[[], llvm.ModuleRef]) -> bytes:
    """The object file of a module, from the cache or compiled."""
    key = symbol, target.triple, target.cpu, target.features
    code = CodeFiles.read(name, key)
    if code is None:
        code = bytes(_machine(target).emit_object(module()))
        CodeFiles.write(name, key, code)
    return code


def _parsed(module: ir.Module, target: Target) -> llvm.ModuleRef:
    module.triple, module.data_layout = target.triple, str(_machine(target).target_data)
    return llvm.parse_assembly(str(module))


def _optimised(parsed: llvm.ModuleRef, target: Target) -> llvm.ModuleRef:
    parsed.verify()
    builder = llvm.create_pass_builder(_machine(target), llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(parsed, builder)
    return parsed


_host_functions: dict[str, int] = {}


def _load(engine: llvm.ExecutionEngine, code: list[bytes], symbols: Sequence[str]) -> list[int]:
    """The addresses of functions in object files, which live as long as the engine."""
    engine.fastnn_code = getattr(engine, "fastnn_code", []) + code  # LLVM reads object files where they lie
    for each in code:
        engine.add_object_file(llvm.ObjectFileRef.from_data(each))
    engine.finalize_object()
    return [engine.get_function_address(symbol) for symbol in symbols]


def _unload(addresses: dict[str, int], name: str, engine: llvm.ExecutionEngine) -> None:
    """Forget a function and free its code."""
    addresses.pop(name, None)
    engine.close()


@cache
def _machine(target: Target) -> llvm.TargetMachine:
    if target != HOST:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    options = {"cpu": target.cpu, "features": target.features, "opt": 3, "reloc": "default", "codemodel": "jitdefault"}
    return llvm.Target.from_triple(target.triple).create_target_machine(jit=True, **options)


def _new_engine() -> llvm.ExecutionEngine:
    """An engine, which loads machine code into this process."""
    empty = llvm.parse_assembly(f'target triple = "{HOST.triple}"')
    return llvm.create_mcjit_compiler(empty, llvm.Target.from_triple(HOST.triple).create_target_machine(jit=True))


@cache
def _engine() -> llvm.ExecutionEngine:
    """The engine of all functions that live as long as the process."""
    return _new_engine()


@cache
def library(dtype: str) -> Library:
    """The library that this process runs programs with."""
    return Library(dtype)
