"""How the code hangs together: imports run one way, Numba is for compiling alone, importing costs little."""

import ast
import doctest
import functools
import graphlib
import inspect
from pathlib import Path

import pytest

import fastnn
from fastnn.kernels.running import entry
from fastnn.kernels.running.compiled_loops import CompiledLoop

ROOT = Path(__file__).resolve().parents[2]
# The rooms of the kernels and of the package in the order in which a batch passes them. A module imports modules of
# its room, and of rooms that stand before it.
KERNEL_ROOMS = ["cpu", "formulas", "vector", "programs", "loops", "running"]
ROOMS = ["checks", "data", "settings", "network", "plots", "reports", "training", "files", "jobs"]
ROOMS += ["derivatives", "uncertainty", "model"]
ROOMS += ["population_derivatives", "population", "group_training", "group_models", "rate_search"]
ROOMS += ["estimators", "loading", "predictor", "search", "exchange", "distributed"]
ROOMS += ["__init__", "warming", "cli", "__main__"]
# Who imports a wing, beside itself, and beside `__init__`, which loads names lazily.
WINGS = {
    "estimators": {"loading", "search", "exchange"},
    "distributed": set(),
    "exchange": set(),
    "search": set(),
    "warming": {"cli"},
    "cli": {"__main__"},
    "__main__": set(),
}


def modules(folder):
    """{name such as "training.fit": path} of the modules in a folder and its rooms."""
    paths = (path for path in sorted(folder.rglob("*.py")) if "kernels" not in path.relative_to(folder).parts)
    named = {".".join(path.relative_to(folder).with_suffix("").parts): path for path in paths}
    return {name: path for name, path in named.items() if not name.endswith("__init__")}


KERNELS, PACKAGE = modules(ROOT / "kernels"), modules(ROOT / "fastnn")
PACKAGE_AND_INIT = PACKAGE | {"__init__": ROOT / "fastnn" / "__init__.pyi"}  # which names all that is loaded lazily


@functools.cache
def parsed(path):
    return ast.parse(path.read_text(), str(path))


@functools.cache
def imports(path):
    """(level, module, names) of every import statement, also of those inside functions."""
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", [alias.name for alias in node.names]))
    return found


def used(name, known):
    """Which of the known modules a module imports; "kernels" for any of the kernels, "__init__" for a public name."""
    here, found = name.split(".")[:-1], set()
    for level, module, names in imports(known[name]):
        if level == 0:
            continue
        assert level <= len(here) + 1, f"{name} imports from outside"
        base = [*here[: len(here) - level + 1], *filter(None, module.split("."))]
        for each in names:
            full, parent = ".".join([*base, each]), ".".join(base)
            if full.split(".")[0] == "kernels":
                found.add("kernels")
            else:
                found.add(next((module for module in (full, parent) if module in known), "__init__"))
    return found - {name}


def room(name):
    return name.split(".")[0]


# ---- imports run one way ----


@pytest.mark.parametrize(("known", "rooms"), [(KERNELS, KERNEL_ROOMS), (PACKAGE_AND_INIT, ROOMS)])
def test_a_room_imports_only_rooms_before_it(known, rooms):
    """Imports inside functions and for type checkers count too. `__init__` loads public names when they are used."""
    for name in known:
        if name in ("reference", "__init__"):
            continue
        before = rooms[: rooms.index(room(name)) + 1]
        for other in used(name, known) - {"kernels"}:
            assert room(other) in before, f"{name} imports {other}"


def test_every_room_is_in_the_order():
    assert {room(name) for name in KERNELS} == {*KERNEL_ROOMS, "reference"}
    assert {room(name) for name in PACKAGE_AND_INIT} == {*ROOMS}


def circle(imported):
    """A circle in {module: modules that it imports}, or None."""
    try:
        graphlib.TopologicalSorter(imported).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


@pytest.mark.parametrize("known", [KERNELS, PACKAGE_AND_INIT])
def test_there_is_no_circle_of_imports(known):
    """Imports inside functions and for type checkers count too; a name that is no module comes from `__init__`."""
    imported = {name: used(name, known) - {"kernels"} for name in known}
    if known is PACKAGE_AND_INIT:
        assert "model" in imported["__init__"]  # for type checkers alone
        assert "plots" in imported["reports.history"]  # inside a function
        assert "__init__" in imported["cli.answers"]
    else:
        assert "programs.layers.dense" in imported["programs.memory"]
    assert circle(imported) is None


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) is not None


def test_nothing_else_imports_a_wing():
    for name in PACKAGE:
        for other in {room(other) for other in used(name, PACKAGE_AND_INIT)} & {*WINGS}:
            assert room(name) in WINGS[other] | {other}, f"{name} imports {other}"


def test_the_command_line_imports_public_names_alone():
    """And `warming`, which compiles the kernels."""
    for name in PACKAGE:
        if room(name) == "cli":
            assert {room(other) for other in used(name, PACKAGE_AND_INIT)} <= {"cli", "__init__", "warming"}, name


def test_kernels_know_nothing_of_the_package():
    for name, path in KERNELS.items():
        used(name, KERNELS)  # raises for a relative import out of the kernels
        for level, module, _ in imports(path):
            assert level > 0 or module.split(".")[0] not in ("fastnn", "kernels"), path


@pytest.mark.parametrize("folder", ["fastnn", "kernels", "bench", "docs", "examples"])
def test_only_tests_import_the_reference(folder):
    """It is the oracle that all else is tested against, so nothing that is tested may compute by it."""
    paths = [path for path in (ROOT / folder).rglob("*.py") if path.name != "reference.py" or folder == "docs"]
    assert paths
    for path in paths:
        for level, name, names in imports(path):
            ours = level > 0 or name.split(".")[0] in ("fastnn", "kernels")
            assert not (ours and "reference" in (name.split(".")[-1], *names)), path


def test_the_package_imports_itself_relatively():
    for path in PACKAGE_AND_INIT.values():
        for level, name, _ in imports(path):
            assert level > 0 or name.split(".")[0] not in ("fastnn", "kernels"), path


def test_settings_know_of_the_kernels_only_what_a_user_names():
    """Rows of formulas, kinds of layers, what compiles a function, whether threads can start."""
    allowed = ("kernels.formulas", "kernels.vector.library", "kernels.programs.layers", "kernels.running.pool")
    for name, path in PACKAGE.items():
        if room(name) not in ("checks", "data", "settings", "plots", "reports"):
            continue
        for level, module, names in imports(path):
            if level and module.startswith("kernels"):
                assert all(f"{module}.{each}".startswith(allowed) for each in names), (name, module, names)


def test_no_two_modules_have_one_name():
    """A name tells the module: neither the package nor the kernels have another of it."""
    names = [name.split(".")[-1] for name in (*KERNELS, *PACKAGE)]
    assert sorted({name for name in names if names.count(name) > 1}) == []


# ---- what Numba compiles ----


def decorators(path):
    """{function: names of its decorators}."""
    found = {}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef):
            names = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
            found[node.name] = {getattr(d, "attr", getattr(d, "id", None)) for d in names}
    return found


def test_what_python_calls_stands_in_one_module():
    for module, path in KERNELS.items():
        called = [name for name, used in decorators(path).items() if "entry" in used]
        assert bool(called) == (module == "loops.functions"), module
        assert not any(name.startswith("_") for name in called), module
    calls = decorators(KERNELS["loops.functions"])
    called = {name for name, used in calls.items() if "entry" in used}
    assert called == {name for name, each in vars(entry).items() if isinstance(each, CompiledLoop)}


def test_numba_is_imported_only_to_compile():
    """At the top of modules that nothing else imports at its top."""
    compiling = {name for name, path in KERNELS.items() if imports_at_top(path) & {"numba"}}
    loops = {name for name in KERNELS if room(name) == "loops"}
    assert compiling <= loops | {"cpu.numba_modules", "formulas.user_compiler", "formulas.constants"}
    for name, path in KERNELS.items():
        if name not in compiling | loops:
            assert not imports_at_top(path) & {"loops", "numba_modules", "user_compiler", "constants"}, name


def imports_at_top(path):
    """The first names of what a module imports when it is imported, and the names that it imports from packages."""
    found = set()
    for node in parsed(path).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").split(".")[0], *(alias.name for alias in node.names)}
    return found


def keywords(argument):
    """(a module, an argument of that name in it) for all calls of the kernels and the package."""
    for path in (*KERNELS.values(), *PACKAGE_AND_INIT.values()):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.keyword) and node.arg == argument:
                yield path, node.value


def test_numbas_own_cache_is_not_used():
    assert [(path, value.lineno) for path, value in keywords("cache")] == []


def test_fastmath_flags_are_named_and_keep_nan():
    """A NaN must stay visible: neither fastmath=True nor the flags that assume there is none."""
    found = [(path, ast.literal_eval(value)) for path, value in keywords("fastmath")]
    assert found
    for path, flags in found:
        assert not isinstance(flags, bool), path
        assert not {"nnan", "ninf", "fast"} & set(flags), path


def test_nothing_is_compiled_outside_kernels():
    for path in PACKAGE_AND_INIT.values():
        assert not any(name.split(".")[0] in ("numba", "llvmlite") for _, name, _ in imports(path)), path


# ---- what importing costs, and what there is ----


def test_importing_fastnn_imports_nothing_heavy(run_python):
    source = "import fastnn, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = set(run_python(source).stdout.split())
    assert "fastnn" in loaded
    assert not loaded & {
        "numpy",
        "numba",
        "llvmlite",
        "sklearn",
        "scipy",
        "matplotlib",
        "pandas",
        "tqdm",
        "safetensors",
        "joblib",
        "ray",
    }


def test_a_model_needs_neither_scikit_learn_nor_matplotlib(run_python):
    source = """
import sys
import fastnn
model = fastnn.Model([2, 1])
model.fit([[0, 1], [1, 0]], [0, 1], epochs=1, batch_size=1, validation_data=([[0, 1]], [1]))
model.predict([[0, 1]])
print(*sorted({name.split('.')[0] for name in sys.modules}))
"""
    loaded = set(run_python(source).stdout.split())
    assert not loaded & {"sklearn", "matplotlib", "pandas", "polars", "tqdm"}


def test_a_public_name_is_loaded_and_explained():
    for name in fastnn.__all__:
        value = getattr(fastnn, name)
        assert value.__name__ == name
        assert value.__module__.startswith("fastnn.")
        assert len(inspect.getdoc(value).splitlines()[0]) > 10, name


def test_a_public_name_has_an_example():
    """Fit makes the two first of those that have none; the package's own example starts with the third."""
    without = [
        name
        for name in fastnn.__all__
        if not doctest.DocTestParser().get_examples(inspect.getdoc(getattr(fastnn, name)))
    ]
    assert set(without) <= {"DivergenceError", "History", "load_digits"}


def test_all_names_the_lazy_ones():
    assert sorted(fastnn.__all__) == sorted(fastnn._HOME)
    assert set(fastnn.__all__) <= set(dir(fastnn))
    tree = parsed(ROOT / "fastnn" / "__init__.pyi")
    for_checkers = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    modules = {
        name: where.removeprefix("fastnn.").rpartition(".")[0] or None for name, where in fastnn._MODULES.items()
    }
    assert for_checkers == fastnn._HOME | modules


def test_star_import(run_python):
    source = "from fastnn import *; print(Model([2, 1], init='zeros').predict([[1, 2]]).tolist())"
    assert run_python(source).stdout == "[[0.5]]\n"


def test_every_public_method_of_the_model_is_explained():
    attributes = "weights", "biases", "parameters", "n_parameters", "sizes", "loss_name", "dtype"
    attributes += "input_shift", "input_scale"
    for name in dir(fastnn.Model):
        if name in attributes:
            assert name in inspect.getdoc(fastnn.Model).split("Attributes")[1], name
        elif not name.startswith("_"):
            assert inspect.getdoc(getattr(fastnn.Model, name)), name
