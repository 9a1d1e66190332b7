"""What is built and installed: real files for the kernels, nothing at the top level, and it trains from anywhere."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
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

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ROOT / "pyproject.toml").is_file(), reason="the tests do not lie in a checkout that could be built"
    ),
]


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


def test_the_sdist_holds_real_files(built):
    with tarfile.open(built[1]) as sdist:
        members = {member.name.split("/", 1)[-1]: member for member in sdist.getmembers()}
        for name in MODULES:
            assert members[name].isreg()
            assert sdist.extractfile(members[name]).read() == (ROOT / name).read_bytes()
    assert not any(member.issym() or member.islnk() for member in members.values())
    assert not any(name.split("/")[0] == "kernels" for name in members)
    assert {"pyproject.toml", "README.md", "LICENSE"} <= members.keys()


def test_a_wheel_from_the_checkout_is_the_same(built, tmp_path):
    shutil.copytree(ROOT, tmp_path / "checkout", symlinks=True, ignore=shutil.ignore_patterns(*JUNK))
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path / "dist", tmp_path / "checkout", cwd=tmp_path)
    (direct,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(direct) as one, zipfile.ZipFile(built[0]) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


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


def test_the_version_is_stated_once():
    assert f'version = "{fastnn.__version__}"' in (ROOT / "pyproject.toml").read_text()
