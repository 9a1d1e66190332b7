"""What is built and installed: real files for the kernels, nothing at the top level, and it trains from anywhere."""

import ast
import datetime
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import fastnn

ROOT = Path(__file__).resolve().parents[2]
JUNK = (".*", "__pycache__", "build", "dist", "out", "*.egg-info")
MODULES = sorted(
    f"{folder}/{path.relative_to(files).as_posix()}"
    for folder, files in (("fastnn", ROOT / "fastnn"), ("fastnn/kernels", ROOT / "kernels"))
    for path in files.rglob("*.py")
    if folder != "fastnn" or path.relative_to(files).parts[0] != "kernels"
)

# The private names of scikit-learn that the package imports. What they do may change with each of its versions.
PRIVATE = {
    "sklearn.base._fit_context",
    "sklearn.model_selection._search.BaseSearchCV",
    "sklearn.model_selection._search_successive_halving.HalvingRandomSearchCV",
    "sklearn.neural_network._multilayer_perceptron.BaseMultilayerPerceptron",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.BaseOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.utils._param_validation.Interval",
    "sklearn.utils._param_validation.StrOptions",
    "sklearn.utils._param_validation.validate_params",
    "sklearn.utils.validation._check_sample_weight",
}

pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file(), reason="the tests do not lie in a checkout that could be built"
)


def run(*command, cwd):
    """Run a command without this process's packages; returns its standard output."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    env |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "FASTNN_CACHE_DIR": str(cwd / "cache")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, timeout=900)
    said = done.stdout + done.stderr
    if done.returncode and ("No matching distribution found" in said or "NewConnectionError" in said):
        pytest.skip("the package index cannot be reached, and building and installing need it")
    assert done.returncode == 0, said
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist), built as for a release: the sdist from a copy of the checkout, the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "checkout", symlinks=True, ignore=shutil.ignore_patterns(*JUNK))
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", folder / "checkout", cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    return wheel, sdist


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = wheel.namelist()
        modules = sorted(name for name in names if name.endswith(".py"))
        assert modules == MODULES
        for name in modules:
            mode = wheel.getinfo(name).external_attr >> 16
            assert mode & 0o170000 in (0, 0o100000), "a link, not a file"
            assert wheel.read(name) == (ROOT / name).read_bytes()
        tops = {name.split("/")[0] for name in names}
    assert {"fastnn/py.typed", "fastnn/__init__.pyi"} <= {*names}
    assert tops == {"fastnn", f"fastnn_numba-{fastnn.__version__}.dist-info"}
    assert built[0].name == f"fastnn_numba-{fastnn.__version__}-py3-none-any.whl"


@pytest.mark.slow
def test_the_sdist_holds_real_files(built):
    with tarfile.open(built[1]) as sdist:
        members = {member.name.split("/", 1)[-1]: member for member in sdist.getmembers()}
        for name in MODULES:
            assert members[name].isreg()
            assert sdist.extractfile(members[name]).read() == (ROOT / name).read_bytes()
    assert not any(member.issym() or member.islnk() for member in members.values())
    assert not any(name.split("/")[0] == "kernels" for name in members)
    assert {"pyproject.toml", "README.md", "LICENSE"} <= members.keys()


@pytest.mark.slow
def test_a_wheel_from_the_checkout_is_the_same(built, tmp_path):
    shutil.copytree(ROOT, tmp_path / "checkout", symlinks=True, ignore=shutil.ignore_patterns(*JUNK))
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path / "dist", tmp_path / "checkout", cwd=tmp_path)
    (direct,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(direct) as one, zipfile.ZipFile(built[0]) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


@pytest.mark.slow
def test_the_metadata(built):
    with zipfile.ZipFile(built[0]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        metadata = Parser().parsestr(wheel.read(name).decode())
        scripts = wheel.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert metadata["Name"] == "fastnn-numba"
    assert metadata["Version"] == fastnn.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert scripts.split() == ["[console_scripts]", "fastnn", "=", "fastnn.cli.commands:main"]
    always = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(line.split(">")[0] for line in always) == ["numba", "numpy", "safetensors", "tqdm"]
    extras = ["tables", "plots", "parquet", "onnx", "torch", "keras", "processes", "ray", "sklearn", "bench"]
    assert metadata.get_all("Provides-Extra") == extras


@pytest.mark.slow
def test_the_wheel_in_an_empty_environment(built, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(python, "-m", "pip", "install", "--quiet", built[0], cwd=tmp_path)
    run(python, "-m", "pip", "check", cwd=tmp_path)
    source = """
import importlib.util, json, os
import numpy as np
import fastnn, fastnn.kernels

model = fastnn.Model([2, 8, 1], activation="tanh", rng=0)
X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
model.fit(X, y, epochs=3000, batch_size=4, optimizer=fastnn.SGD(1.0), progress=True)
model.save("xor.safetensors")
print(json.dumps({
    "package": os.path.dirname(fastnn.__file__),
    "link": os.path.islink(os.path.dirname(fastnn.kernels.__file__)),
    "kernels": importlib.util.find_spec("kernels") is not None,
    "classes": fastnn.load("xor.safetensors").classify(X).tolist(),
}))
"""
    report = json.loads(run(python, "-W", "error", "-c", source, cwd=tmp_path))
    assert Path(report["package"]).is_relative_to(tmp_path / "venv")
    assert not report["link"]
    assert not report["kernels"]
    assert report["classes"] == [0, 1, 1, 0]


@pytest.mark.slow
def test_the_editable_install(tmp_path):
    # The checkout itself may hold an egg-info folder, which knows no origin.
    found = importlib.metadata.distributions(name="fastnn-numba")
    origins = [json.loads(text) for text in (dist.read_text("direct_url.json") for dist in found) if text]
    if not any(origin["url"] == ROOT.as_uri() and origin["dir_info"].get("editable") for origin in origins):
        pytest.skip("what is installed here is not this checkout")
    source = """
import importlib.util, os
import fastnn.kernels.running.entry
print(os.path.realpath(os.path.dirname(fastnn.kernels.__file__)))
print(fastnn.kernels.running.entry.__name__)
print(importlib.util.find_spec("kernels"))
"""
    real, name, top = run(sys.executable, "-W", "error", "-c", source, cwd=tmp_path).splitlines()
    assert real == str(ROOT / "kernels")
    assert name == "fastnn.kernels.running.entry"
    assert top == "None"


def test_the_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == fastnn.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## ([\d.]+)", changelog, re.M)[1] == fastnn.__version__


def test_the_start_page_names_the_oldest_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["sklearn"]]
    oldest = dict(line.split(",")[0].split(">=") for line in needed) | {"Python": project["requires-python"][2:]}
    page = " ".join((ROOT / "docs" / "start" / "index.md").read_text(encoding="utf-8").split())
    for name in ("Python", "numpy", "numba", "scikit-learn"):
        assert re.search(rf"\b{name} ([\d.]*\d)", page)[1] == oldest[name]


def test_the_citation():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == fastnn.__version__
    assert citation["license"] == "BSD-3-Clause"
    assert citation["authors"] == [{"name": "the fastnn developers"}]
    assert datetime.date.fromisoformat(citation["date-released"])


# ---- scikit-learn ----


def test_the_private_names_of_scikit_learn():
    found = set()
    for name in MODULES:
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("sklearn"):
                found |= {f"{node.module}.{each.name}" for each in node.names}
    assert {name for name in found if "._" in name} == PRIVATE


def test_the_bounds_of_scikit_learn():
    pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
    from fastnn.estimators import KNOWN

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    major, minor = map(int, KNOWN.split("."))
    assert extras["sklearn"] == [f"scikit-learn>={KNOWN},<{major}.{minor + 1}"]


@pytest.mark.parametrize("what", ["fastnn.MLPClassifier", "fastnn.TabularRegressor", "fastnn.search"])
@pytest.mark.parametrize("version", ["1.8.2", "1.10.0", "1.10rc1", "2.0"])
def test_another_version_of_scikit_learn(run_python, what, version):
    """One that has none of the private names: it is an empty package."""
    source = f"""
import sys, types
sys.modules["sklearn"] = sklearn = types.ModuleType("sklearn")
sklearn.__version__ = {version!r}
import fastnn
try:
    {what}
except ImportError as error:
    print(error)
"""
    assert run_python(source).stdout == (
        "the estimators and searches of fastnn need scikit-learn 1.9, because they replace private parts of its "
        f"classes, but {version} is installed: pip install 'scikit-learn==1.9.*'\n"
    )


# ---- the other fastnn ----


@pytest.fixture
def beside(tmp_path):
    """A folder as pip would make it, with the file that `import fastnn` runs."""
    (tmp_path / "site" / "fastnn").mkdir(parents=True)
    shutil.copy(ROOT / "fastnn" / "__init__.py", tmp_path / "site" / "fastnn")
    (tmp_path / "site" / f"fastnn_numba-{fastnn.__version__}.dist-info").mkdir()
    return tmp_path / "site"


@pytest.mark.parametrize("name", ["fastnn-0.4.1.dist-info", "fastnn-0.4.1.egg-info"])
def test_the_other_fastnn_in_the_same_folder(run_python, beside, name):
    (beside / name).mkdir()
    done = run_python("import fastnn", path=beside, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: another package with the same folder is installed, PyPI's project fastnn (0.4.1), and the two "
        "replace files of each other: "
        "pip uninstall -y fastnn && pip install --force-reinstall --no-deps fastnn-numba"
    )


@pytest.mark.parametrize("name", ["fastnn_extra-1.0.dist-info", "fastnn.egg-info", "fastnn-0.4.1"])
def test_other_neighbours_change_nothing(run_python, beside, name):
    (beside / name).mkdir()
    assert run_python("import fastnn; print(fastnn.__version__)", path=beside).stdout.strip() == fastnn.__version__


def test_the_other_fastnn_in_another_folder_changes_nothing(run_python, beside, tmp_path):
    """As where this package is imported from a checkout: then its files are whole."""
    (tmp_path / "other" / "fastnn-0.4.1.dist-info").mkdir(parents=True)
    done = run_python("import fastnn; print(fastnn.__version__)", path=f"{beside}{os.pathsep}{tmp_path / 'other'}")
    assert done.stdout.strip() == fastnn.__version__


def test_the_package_in_a_zip_file(run_python, beside, tmp_path):
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", beside)
    assert run_python("import fastnn; print(fastnn.__version__)", path=packed).stdout.strip() == fastnn.__version__
