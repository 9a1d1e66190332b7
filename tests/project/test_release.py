"""What is checked before a release, by `make release-check`: the tests on the wheel with the oldest packages that
pyproject.toml allows, and with the newest on every Python that is at hand, an image that starts warm, and a bundle of
PyInstaller.

It needs the network and an hour, so it runs only where FASTNN_RELEASE is set.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from .test_packaging import built, run

__all__ = ["built"]  # a fixture

ROOT = Path(__file__).resolve().parents[2]
IMAGES, BUNDLES = ROOT / "docs" / "how-to" / "images.md", ROOT / "docs" / "how-to" / "bundles.md"
EXTRAS = ["tables", "plots", "onnx", "keras", "processes", "sklearn"]  # those whose packages are small
TOOLS = ["pytest", "pytest-xdist", "hypothesis", "psutil", "polars"]  # of the tests

pytestmark = pytest.mark.skipif("FASTNN_RELEASE" not in os.environ, reason="`make release-check` runs it: an hour")


def lower_bounds():
    """{requirement of the package or of an extra, such as "numpy==2.0": its lower bound}, as pip's constraints."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = (project["optional-dependencies"][extra] for extra in EXTRAS)
    return sorted({line.split(",")[0].replace(">=", "==") for line in sum(extras, project["dependencies"])})


def interpreters():
    """{version: interpreter} of each Python from 3.11 on: this one, commands such as `python3.12`, those of pyenv."""
    found = {f"3.{sys.version_info.minor}": sys.executable}
    if "FASTNN_RELEASE" not in os.environ:
        return found
    ask = "import sys, venv; print(sys.implementation.name, *sys.version_info[:2])"
    commands = [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    for command in filter(None, [*commands, *Path.home().glob(".pyenv/versions/3.*/bin/python")]):
        said = subprocess.run([command, "-c", ask], capture_output=True, text=True).stdout.split()
        if said[:2] == ["cpython", "3"] and int(said[2]) >= 11:
            found.setdefault(f"3.{said[2]}", str(command))
    return found


def environment(folder, wheel, constraints, interpreter):
    """The interpreter of a new environment with the wheel, the extras and the tools of the tests."""
    run(interpreter, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    (folder / "constraints.txt").write_text("\n".join(constraints))
    what = f"{wheel}[{','.join(EXTRAS)}]"
    run(python, "-m", "pip", "install", "--quiet", "-c", "constraints.txt", what, *TOOLS, cwd=folder)
    run(python, "-m", "pip", "check", cwd=folder)
    return python


# NumPy's newest version needs a newer Python than ours does.
@pytest.mark.parametrize(
    ("which", "interpreter"),
    [("oldest", sys.executable), *(("newest", each) for each in interpreters().values())],
    ids=["oldest", *(f"newest, Python {version}" for version in interpreters())],
)
def test_the_wheel_with_the_packages_that_pyproject_allows(built, tmp_path, which, interpreter):
    python = environment(tmp_path, built[0], lower_bounds() if which == "oldest" else [], interpreter)
    (tmp_path / "alone").mkdir()
    shutil.copytree(
        ROOT / "tests", tmp_path / "alone" / "tests", ignore=shutil.ignore_patterns("__pycache__", "project")
    )
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    lines = ["addopts = --strict-markers --import-mode=importlib", "doctest_optionflags = NORMALIZE_WHITESPACE"]
    lines += [f"{name} =\n    " + "\n    ".join(settings[name]) for name in ("markers", "filterwarnings")]
    lines[-1] += "\n    ignore::pytest.PytestRemovedIn10Warning"  # of scikit-learn 1.9.0's own tests
    (tmp_path / "alone" / "pytest.ini").write_text("[pytest]\npythonpath = .\n" + "\n".join(lines) + "\n")
    command = [python, "-m", "pytest", "-q", "-n", "logical", "-m", "not slow", "-p", "no:cacheprovider", "tests"]
    hidden = ("PYTHONPATH", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "FASTNN_RELEASE")
    env = {name: value for name, value in os.environ.items() if name not in hidden and "XDIST" not in name}
    env["FASTNN_CACHE_DIR"] = str(tmp_path / "cache")
    done = subprocess.run(list(map(str, command)), cwd=tmp_path / "alone", env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-10000:]
    where = "import fastnn; print(fastnn.__file__)"
    assert Path(run(python, "-c", where, cwd=tmp_path).strip()).is_relative_to(tmp_path / "venv")


# ---- images ----

# What a container does: it trains and counts what was compiled, which a warm cache makes nothing of.
TRAIN = """
import json
import numpy as np
import fastnn
from fastnn.kernels.vector import cache

compiled = []
cache.CodeFiles.write = lambda name, key, data: compiled.append(name)
X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([0, 1, 1, 0])
model = fastnn.Model([2, 8, 1], activation="tanh", rng=0)
model.fit(X, y, epochs=3000, batch_size=4, optimizer=fastnn.SGD(1.0))
folders = [str(folder) for folder in (*cache.CodeFiles.read_only, cache.CodeFiles.folder)]
print(json.dumps({"classes": model.classify(X).tolist(), "compiled": compiled, "folders": folders}))
"""


def block(page, language):
    """The first block of a language on a page."""
    return re.search(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)[1]


def instructions():
    """[(instruction, the rest)] of the Dockerfile on the page, with continued lines joined."""
    lines = block(IMAGES, "dockerfile").replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip() and not line.startswith("#")]


def interpreter_of(user, group):
    """An interpreter that this user can run too, the first that is found, or None: some lie in the home of root."""
    for python in dict.fromkeys([os.path.realpath(sys.executable), "/usr/bin/python3"]):
        command = [python, "-c", "import sys, venv; print(sys.version, sys.prefix)"]
        other = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *command]
        said, wanted = (subprocess.run(each, capture_output=True, text=True) for each in (other, command))
        if said.returncode == 0 and said.stdout == wanted.stdout:
            return python
    return None


@pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"),
    reason="only root of Linux can be another user with a read-only root",
)
def test_the_steps_of_the_image(built):
    """What RUN says, in an environment in place of the image's; below /opt, where only root can replace a folder."""
    folder = Path("/opt/fastnn-image-test")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    try:
        found = instructions()
        settings = dict(each.split("=", 1) for name, rest in found if name == "ENV" for each in shlex.split(rest))
        ((user, group),) = (rest.split(":") for name, rest in found if name == "USER")
        if (python := interpreter_of(user, group)) is None:
            pytest.skip("no interpreter that another user can run")
        run(python, "-m", "venv", folder / "venv", cwd=folder)
        env = {"PATH": f"{folder}/venv/bin:{os.environ['PATH']}", "HOME": "/root"} | settings
        env["FASTNN_CACHE_DIR"] = place = str(folder / "cache")
        for name, rest in found:
            if name == "RUN":
                line = rest.replace(settings["FASTNN_CACHE_DIR"], place).replace("fastnn-numba", str(built[0]))
                done = subprocess.run(["sh", "-ec", line], env=env, cwd=folder, capture_output=True, text=True)
                assert done.returncode == 0, done.stdout + done.stderr
        (folder / "train.py").write_text(TRAIN)
        inside = f"mount --make-rprivate / && mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"
        inside += f" && exec setpriv --reuid={user} --regid={group} --clear-groups python -W error train.py"
        command = ["unshare", "-m", "sh", "-ec", inside]
        done = subprocess.run(command, env=env | {"HOME": "/"}, cwd=folder, capture_output=True, text=True)
        if "unshare failed" in done.stderr or "mount:" in done.stderr:
            pytest.skip("no folder can be mounted here")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report == {"classes": [0, 1, 1, 0], "compiled": [], "folders": [place]}
    finally:
        shutil.rmtree(folder)


# ---- bundles ----


def test_the_bundle(built, tmp_path):
    """The page's program, bundled by the page's command: it trains, saves and loads without the environment."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(python, "-m", "pip", "install", "--quiet", built[0], "pyinstaller", cwd=tmp_path)
    (tmp_path / "app.py").write_text(block(BUNDLES, "python"))
    (command,) = (line for line in block(BUNDLES, "sh").splitlines() if line.startswith("pyinstaller "))
    run(python, "-m", "PyInstaller", *shlex.split(command)[1:], cwd=tmp_path)
    (tmp_path / "bundle").mkdir()
    shutil.move(tmp_path / "dist" / "app", tmp_path / "bundle" / "app")
    shutil.rmtree(tmp_path / "venv")
    program = tmp_path / "bundle" / "app" / ("app.exe" if os.name == "nt" else "app")
    kept = []
    for _ in range(2):
        assert run(program, cwd=tmp_path) == "classes 0 1 1 0\n"
        kept.append({path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()})
    assert kept[0]
    assert kept[0] == kept[1]  # the second start compiled nothing
