"""How the code hangs together: imports run one way, only the entry is cached, importing costs little."""

import ast
import doctest
import graphlib
import inspect
from pathlib import Path

import pytest

import fastnn

ROOT = Path(__file__).resolve().parents[2]
KERNELS = {  # "memory" or, in a room, "programs.layers.dense"
    ".".join(path.relative_to(ROOT / "kernels").with_suffix("").parts): path
    for path in sorted((ROOT / "kernels").rglob("*.py"))
    if path.stem != "__init__"
}
PACKAGE = {  # "model" or, in a room, "training.fit"
    ".".join(path.relative_to(ROOT / "fastnn").with_suffix("").parts): path
    for path in sorted((ROOT / "fastnn").rglob("*.py"))
    if path.stem != "__init__" and "kernels" not in path.parts
}

# What each kernel module may import, its neighbours before it. A module that is not here fails the test below.
MAY_IMPORT = {
    "target": [],
    "cache": [],
    "pool": [],
    "update_rules": [],
    "reference": [],
    "simd": ["target"],
    "activations": ["simd", "target"],
    "loss_functions": ["simd", "target", "activations"],
    "constants": [],
    "user_functions": ["target", "simd", "activations", "loss_functions", "constants"],
    "matrix": ["target"],
    "function": ["target", "simd", "matrix"],
    "tile": ["target", "simd", "function"],
    "reductions": ["target", "simd", "function"],
    "elementwise": ["target", "simd", "function"],
    "samples": ["simd", "function", "reductions"],
    "batches": ["simd", "function"],
    "noise": ["simd", "function", "batches"],
    "normalisation": ["target", "simd", "function"],
    "barriers": ["simd", "matrix", "function"],
    "library": [
        *("target", "cache", "loss_functions", "update_rules", "activations", "user_functions", "function"),
        *("tile", "reductions", "elementwise", "samples", "batches", "noise", "barriers", "normalisation"),
    ],
    "program": ["target", "matrix", "function", "library"],
    "interpreter": ["target", "simd", "function", "program"],
    "python_api": ["simd", "function", "library", "program", "interpreter"],
    "matmul": ["target", "matrix", "program"],
    "programs.layers.layer": ["activations", "target", "matrix", "barriers", "program", "matmul"],
    "programs.layers.dense": ["matmul", "programs.layers.layer"],
    "programs.layers.residual": ["matmul", "programs.layers.layer"],
    "programs.layers.scale": ["matmul", "programs.layers.layer"],
    "programs.layers.normalised": ["matmul", "programs.layers.layer"],
    "programs.layers.layer_norm": ["matmul", "programs.layers.layer", "programs.layers.normalised"],
    "programs.layers.batch_norm": ["matrix", "matmul", "programs.layers.layer", "programs.layers.normalised"],
    "memory": [
        *("loss_functions", "target", "update_rules", "matrix", "barriers"),
        *("programs.layers.layer", "programs.layers.dense"),
    ],
    "passes": [
        *("activations", "loss_functions", "matrix", "barriers", "program", "memory", "matmul"),
        "programs.layers.layer",
    ],
    "strategy": ["activations", "target", "matrix", "memory", "matmul", "programs.layers.layer"],
    "sources": ["matrix", "program"],
    "block_programs": [
        *("target", "activations", "loss_functions", "matrix", "barriers", "program", "memory"),
        *("passes", "strategy", "sources", "programs.layers.layer"),
    ],
    "training_programs": [
        *("update_rules", "matrix", "barriers", "program", "memory"),
        *("passes", "strategy", "sources", "block_programs", "programs.layers.layer"),
    ],
    "prediction_programs": [
        *("activations", "loss_functions", "matrix", "barriers", "program", "memory", "matmul"),
        *("passes", "strategy", "sources", "block_programs"),
    ],
    "entry": ["cache", "function", "barriers", "program", "interpreter", "training_programs"],
}


def parsed(path):
    return ast.parse(path.read_text(), str(path))


def imports(path):
    """(level, module, names) of every import statement, also of those inside functions."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name, []
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [alias.name for alias in node.names]


def neighbours(path):
    """The kernel modules that one imports, named as in KERNELS, for type checkers alone or not."""
    here, found = path.parent.relative_to(ROOT / "kernels").parts, set()
    for level, module, names in imports(path):
        if level:
            room = [*here[: len(here) - level + 1], *filter(None, module.split("."))]
            each = [".".join([*room, name]) for name in names]
            found |= {name if name in KERNELS else ".".join(room) for name in each}
    return found


def used(path):
    """What of the package a module of it imports, named as in PACKAGE; "kernels" for any module of the kernels."""
    here, found = path.parent.relative_to(ROOT / "fastnn").parts, set()
    for level, module, names in imports(path):
        if level == 0:
            continue
        room = [*here[: len(here) - level + 1], *filter(None, module.split("."))]
        for name in names:
            each = [".".join([*room, name]), ".".join(room)]
            found |= (
                {"kernels"}
                if room[:1] == ["kernels"] or each[0] == "kernels"
                else {next((known for known in each if known in PACKAGE), "__init__")}
            )
    return found


# ---- imports run one way ----


def test_every_kernel_module_has_its_place():
    assert KERNELS.keys() == MAY_IMPORT.keys()


def test_a_kernel_imports_only_what_lies_below_it():
    wrong = {module: neighbours(path) - {*MAY_IMPORT[module]} for module, path in KERNELS.items()}
    assert not any(wrong.values()), wrong


def test_what_lies_below_is_not_circular():
    """Each module may import only those that stand before it in the table."""
    before = set()
    for module, below in MAY_IMPORT.items():
        assert set(below) <= before, module
        before.add(module)


def test_the_rooms_of_the_kernels():
    """The cache hashes the modules of packages, and no others; the layers have a room, and all else is above it."""
    rooms = {str(path.parent.relative_to(ROOT / "kernels")) for path in KERNELS.values()}
    assert rooms == {".", "programs/layers"}
    found = {path for path in (ROOT / "kernels").rglob("*") if path.is_file() and path.parent.name != "__pycache__"}
    packages = {ROOT / "kernels" / room / "__init__.py" for room in (*rooms, "programs")}
    assert found == {*KERNELS.values(), *packages}


def circle(imported):
    """A circle in {module: modules that it imports}, or None."""
    try:
        graphlib.TopologicalSorter(imported).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_the_package_has_no_circle_of_imports():
    """Imports inside functions and for type checkers count too; a name that is no module comes from `__init__`."""
    paths = PACKAGE | {"__init__": ROOT / "fastnn" / "__init__.py"}
    imported = {module: used(path) - {"kernels"} for module, path in paths.items()}
    assert "model" in imported["__init__"]  # for type checkers alone
    assert "plots" in imported["history"]  # inside a function
    assert "__init__" in imported["cli"]
    assert circle(imported) is None


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) is not None


def test_kernels_know_nothing_of_the_package():
    for module in [*KERNELS, "__init__", "programs.__init__", "programs.layers.__init__"]:
        for level, name, _ in imports(ROOT / "kernels" / f"{module.replace('.', '/')}.py"):
            assert level < 2 + module.count("."), f"a relative import out of kernels: {module}"
            assert name.split(".")[0] not in ("fastnn", "kernels") or level == 1, module


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
    for path in (*PACKAGE.values(), ROOT / "fastnn" / "__init__.py"):
        for level, name, _ in imports(path):
            assert level > 0 or name.split(".")[0] not in ("fastnn", "kernels"), path


LOWER = [
    "_other_names",
    "calls",
    "_validation",
    "callbacks",
    "custom",
    "initialisers",
    "layers",
    "losses",
    "optimizers",
    "data",
    "metrics",
    "threads",
    "plots",
    "history",
    "storage",
    "summary",
]


def test_the_model_is_above_the_rest():
    """And the lower modules know of the kernels only what a user names, and what compiles a user's functions."""
    allowed = {"activations", "loss_functions", "update_rules", "user_functions", "library", "pool"}
    allowed |= {"programs.layers", "programs.layers.layer", "programs.layers.dense"}
    for module in LOWER:
        rooms = {name.split(".")[0] for name in used(PACKAGE[module])}
        assert not rooms & {"model", "training", "network", "inference", "cli", "__init__"}, module
        for level, name, names in imports(PACKAGE[module]):
            if level == 1 and name.split(".")[0] == "kernels":
                parts = [name] if "." in name else [f"kernels.{each}" for each in names]
                assert set(parts) <= {f"kernels.{each}" for each in allowed}, module


# ---- one cache ----


def decorators(path):
    """{function: names of its decorators}."""
    found = {}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef):
            names = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
            found[node.name] = {getattr(d, "attr", getattr(d, "id", None)) for d in names}
    return found


def test_only_the_entry_is_cached():
    for module, path in KERNELS.items():
        cached = [name for name, used in decorators(path).items() if "cached" in used]
        assert bool(cached) == (module == "entry"), module
        assert not any(name.startswith("_") for name in cached), module


def keywords(argument):
    """(a module, an argument of that name in it) for all calls of the kernels and the package."""
    for path in (*KERNELS.values(), *PACKAGE.values()):
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
    for path in PACKAGE.values():
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
    tree = parsed(ROOT / "fastnn" / "__init__.py")
    for_checkers = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert for_checkers == fastnn._HOME


def test_star_import(run_python):
    source = "from fastnn import *; print(Model([2, 1], init='zeros').predict([[1, 2]]).tolist())"
    assert run_python(source).stdout == "[[0.5]]\n"


def test_every_public_method_of_the_model_is_explained():
    attributes = "weights", "biases", "parameters", "n_parameters", "sizes", "loss_name", "input_scale", "dtype"
    for name in vars(fastnn.Model):
        if name in attributes:
            assert name in inspect.getdoc(fastnn.Model).split("Attributes")[1], name
        elif not name.startswith("_"):
            assert inspect.getdoc(getattr(fastnn.Model, name)), name
