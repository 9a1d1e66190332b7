"""The compile cache: it hits, it is never stale, it runs nothing that others may have written, and nothing that is
wrong with its folder is fatal."""

import compileall
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn.kernels.vector import cache

PACKAGE = Path(fastnn.__file__).parent
POSIX = pytest.mark.skipif(os.name != "posix", reason="owners and modes of files are a matter of POSIX")
ROOT = pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a file away")

# Trains and predicts, and says what came of it. `before` is replaced by what a test does first. A hit is a file that
# was read whole, be it Numba's code of an entry function or that of a vector function; a miss is what was compiled.
SCRIPT = """
import json, os, sys
before
import numpy as np
import fastnn
from fastnn.kernels.vector import cache

hits, misses = [], []
read, write = cache.CodeFiles.read, cache.CodeFiles.write

def counted_read(name, key):
    data = read(name, key)
    hits.extend([name] if data is not None else [])
    return data

def counted_write(name, key, data):
    misses.append(name)
    write(name, key, data)

cache.CodeFiles.read, cache.CodeFiles.write = counted_read, counted_write
model = fastnn.Model([3, 4, 2], rng=0)
X, Y = np.arange(12).reshape(4, 3) / 10, np.array([[0, 1], [1, 0], [1, 1], [0, 0]])
loss = model.loss(X, Y)
model.fit(X, Y, epochs=3, batch_size=3)
print(json.dumps({
    "package": os.path.dirname(fastnn.__file__),
    "folder": cache.CodeFiles.folder and str(cache.CodeFiles.folder),
    "loss": loss,
    "bits": model.parameters.tobytes().hex(),
    "hits": len(hits),
    "misses": len(misses),
}))
"""

# What a process does first in which a warning is no error.
LOUD = "import warnings; warnings.simplefilter('always')\n"

# What a process does first that is not to compile, in either way.
FORBID = {
    "Numba": """
import sys
from fastnn.kernels.vector import cache
sys.modules["fastnn.kernels.loops.compiler"] = None
""",
    "the library": """
from fastnn.kernels.vector import library
def compile(*_):
    raise AssertionError("compiling")
library.Library.module = compile
""",
}


@pytest.fixture(scope="module")
def expected():
    """The loss and the bits that every process must arrive at."""
    model = fastnn.Model([3, 4, 2], rng=0)
    X, Y = np.arange(12).reshape(4, 3) / 10, np.array([[0, 1], [1, 0], [1, 1], [0, 0]])
    loss = model.loss(X, Y)
    model.fit(X, Y, epochs=3, batch_size=3)
    return {"loss": loss, "bits": model.parameters.tobytes().hex()}


@pytest.fixture
def train(run_python, expected):
    """A function: train in a new process; the results are right unless `same` is false."""

    def run(before="", same=True, **environment):
        done = run_python(SCRIPT.replace("before", before, 1), **environment)
        report = json.loads(done.stdout) | {"warnings": done.stderr.count("fastnn keeps no compiled code ")}
        if same:
            assert {name: report[name] for name in expected} == expected
        return report

    return run


def contents(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(folder).iterdir()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder that one process has filled, with no other process before it."""
    folder = tmp_path_factory.mktemp("warm") / "cache" / "deep"
    environment = os.environ | {"FASTNN_CACHE_DIR": str(folder), "PYTHONPATH": str(PACKAGE.parent)}
    source = SCRIPT.replace("before", "", 1)
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, env=environment, cwd=folder.parents[1], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.fixture
def warm(filled, tmp_path):
    """A copy of that folder."""
    folder = tmp_path / "warm"
    shutil.copytree(filled[0], folder)
    folder.chmod(0o700)
    return folder


@pytest.fixture
def package(tmp_path):
    """The folder of a copy of the package, with real files for its kernels."""
    shutil.copytree(PACKAGE, tmp_path / "copy" / "fastnn", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "copy"


def edit(package, module, old, new):
    path = package / "fastnn" / "kernels" / module
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


# ---- hits ----


def test_the_first_process_fills_the_folder(filled, expected):
    folder, report = filled
    assert {name: report[name] for name in expected} == expected
    assert (report["hits"], report["folder"]) == (0, str(folder))
    assert report["misses"] == len(list(folder.iterdir())) > 1
    if os.name == "posix":
        assert folder.stat().st_mode & 0o077 == 0


def test_both_kinds_of_code_are_kept(warm):
    """Numba's of entry functions, and vector functions."""
    names = {path.name.rsplit("-", 1)[0] for path in warm.iterdir()}
    assert {"train", "sweep", "sigmoid", "quadratic", "gather"} <= names


def test_the_second_process_compiles_nothing_and_writes_nothing(warm, train, filled):
    before = contents(warm)
    report = train("".join(FORBID.values()), FASTNN_CACHE_DIR=warm)
    assert (report["hits"], report["misses"]) == (filled[1]["misses"], 0)
    assert contents(warm) == before


@pytest.mark.slow
@pytest.mark.parametrize("who", FORBID)
def test_an_empty_folder_would_have_compiled(who, run_python, tmp_path):
    """The check of the test above is one that can fail."""
    done = run_python(SCRIPT.replace("before", FORBID[who], 1), check=False, FASTNN_CACHE_DIR=tmp_path)
    wanted = {"Numba": "import of fastnn.kernels.loops.compiler halted", "the library": "AssertionError: compiling"}
    assert wanted[who] in done.stderr


@pytest.mark.slow
def test_the_other_dtype_has_files_of_its_own(warm, train):
    before = contents(warm)
    other = "import functools, fastnn; fastnn.Model = functools.partial(fastnn.Model, dtype='float64')"
    first = train(other, same=False, FASTNN_CACHE_DIR=warm)
    after = contents(warm)
    assert {name: after[name] for name in before} == before
    second = train(other, same=False, FASTNN_CACHE_DIR=warm)
    assert first["bits"] == second["bits"]
    assert second["misses"] == 0
    assert train(FASTNN_CACHE_DIR=warm)["misses"] == 0


# ---- never stale ----


def test_a_copy_of_the_package_shares_the_folder(package, warm, train):
    report = train(path=package, FASTNN_CACHE_DIR=warm)
    assert report["package"] == str(package / "fastnn")
    assert report["misses"] == 0


@pytest.mark.slow
def test_edits_in_functions_below_the_entry_are_seen(package, warm, train, expected):
    edit(package, "formulas/loss_functions.py", "difference * difference * 0.5", "difference * difference * 0.25")
    edit(package, "formulas/activations.py", "lambda s, a: a - a * a, largest", "lambda s, a: a * a - a, largest")
    report = train(path=package, same=False, FASTNN_CACHE_DIR=warm)
    assert report["package"] == str(package / "fastnn")
    assert report["loss"] == pytest.approx(expected["loss"] / 2, rel=1e-12)
    assert report["bits"] != expected["bits"]  # the slope's sign is another
    assert report["hits"] == 0
    assert train(FASTNN_CACHE_DIR=warm)["misses"] == 0  # the unedited package still finds its own


@pytest.mark.slow
def test_another_version_of_numpy_or_numba_is_seen(warm, run_python):
    source = """
import numpy, llvmlite, json
from fastnn.kernels.vector import cache
{change}
print(cache._source_hash())
"""
    changes = [f"{module}.__version__ = '99.0'" for module in ("numpy", "llvmlite", "json")]
    changes.append("cache._numba_version = lambda: b'99.0'")
    assert len({run_python(source.format(change=change)).stdout for change in changes}) == 4


def test_numbas_version_is_found_without_numba(run_python):
    source = """
import sys
from fastnn.kernels.vector import cache
found = cache._numba_version()
print("numba" in sys.modules)
import numba
print(numba.__version__.encode() in found)
"""
    assert run_python(source).stdout == "False\nTrue\n"


SOURCE = "from fastnn.kernels.vector import cache; print(cache.CodeFiles.source)"


def without_sources(package):
    """Compile to .pyc files beside the .py files, which are removed: what bundlers and some images do."""
    assert compileall.compile_dir(package, legacy=True, quiet=2)
    for path in package.rglob("*.py"):
        path.unlink()


def zipped(package):
    shutil.make_archive(package.parent / "zipped", "zip", package)
    return package.parent / "zipped.zip"


@pytest.mark.slow
@pytest.mark.parametrize("zip_it", [False, True], ids=["folder", "zip file"])
@pytest.mark.parametrize("sources", [True, False], ids=["py", "pyc"])
def test_an_edit_is_seen_in_a_bundle(zip_it, sources, package, run_python, tmp_path):
    """Whatever the bundle holds, another formula is another key, and the same package has the same one."""
    keys = []
    for change in (False, False, True):
        copied = tmp_path / f"copy-{len(keys)}"
        shutil.copytree(package, copied)
        if change:
            edit(
                copied, "formulas/loss_functions.py", "difference * difference * 0.5", "difference * difference * 0.25"
            )
        if not sources:
            without_sources(copied)
        keys.append(run_python(SOURCE, path=zipped(copied) if zip_it else copied).stdout)
        shutil.rmtree(copied)
    assert keys[1] != keys[2]
    assert (keys[0] == keys[1]) or not sources  # a .pyc file holds the time of its source and its place


@pytest.mark.slow
def test_a_bundle_without_sources_is_not_served_by_the_version_before(package, warm, train, expected):
    edit(package, "formulas/loss_functions.py", "difference * difference * 0.5", "difference * difference * 0.25")
    without_sources(package)
    first = train(path=package, same=False, FASTNN_CACHE_DIR=warm)
    assert first["package"] == str(package / "fastnn")
    assert first["loss"] == pytest.approx(expected["loss"] / 2, rel=1e-12)
    assert first["hits"] == 0
    assert train(path=package, same=False, FASTNN_CACHE_DIR=warm)["misses"] == 0


def test_the_version_is_part_of_the_key(package, run_python):
    before = run_python(SOURCE, path=package).stdout
    path = package / "fastnn" / "__init__.py"
    path.write_text(path.read_text().replace('__version__ = "', '__version__ = "9.'))
    assert run_python(SOURCE, path=package).stdout != before


# Loaders that keep no files, as those of PyInstaller, and those that keep nothing that can be read.
LOADERS = """
from importlib.machinery import SourceFileLoader
def refuse(*_):
    raise OSError("no such file")
from fastnn.kernels.vector import cache
SourceFileLoader.get_data = refuse
"""


@pytest.mark.parametrize(("changed", "differs"), [("''", False), ("other", True)])
def test_code_that_has_no_file_is_hashed(changed, differs, run_python):
    source = f"""
{LOADERS}
import types
from importlib.machinery import SourceFileLoader as Loader
code = compile("a = {{'x', 'y', 'z'}} & frozenset(b)", "<no file>", "exec")
other = compile("a = {{'x', 'y', 'w'}} & frozenset(b)", "<no file>", "exec")
Loader.get_code = lambda self, name: code
first = cache._source_hash()
Loader.get_code = lambda self, name: {changed} if {changed} and name.endswith(".loss_functions") else code
print(first != cache._source_hash(), len(first))
"""
    assert run_python(source).stdout == f"{differs} 64\n"


def test_where_nothing_can_be_hashed_the_version_is_the_key(run_python):
    source = f"""
{LOADERS}
import fastnn
SourceFileLoader.get_code = lambda self, name: None
keys = set()
for fastnn.__version__ in ("1", "2", None):
    keys.add(cache._source_hash())
print(len(keys), None in keys)
"""
    assert run_python(source).stdout == "3 True\n"


@pytest.mark.slow
def test_without_a_key_nothing_is_kept(tmp_path, run_python):
    source = """
import importlib.util
import fastnn
del fastnn.__version__
importlib.util.find_spec = lambda name: None
"""
    assert run_python(source + ADD.replace("before", "", 1), FASTNN_CACHE_DIR=tmp_path / "cache").stdout == "True\n"
    assert not (tmp_path / "cache").exists()
    source = source.replace("del fastnn.__version__", "")
    assert run_python(source + ADD.replace("before", "", 1), FASTNN_CACHE_DIR=tmp_path / "cache").stdout == "True\n"
    assert len(list((tmp_path / "cache").iterdir())) == 1


# ---- where ----

WHERE = "from fastnn.kernels.vector import cache; print(cache.CodeFiles.folder)"


# Compiles a function, or finds it in the folder.
ADD = """
from fastnn.kernels.vector import cache
from fastnn.kernels.vector.library import library
before
print(library("float32").addresses(["add"])["add"] > 0)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the folders of the XDG convention")
def test_the_default_folder(tmp_path, run_python):
    home, xdg, temporary = tmp_path / "home", tmp_path / "xdg", tmp_path / "temporary"
    temporary.mkdir(mode=0o700)
    blocked = tmp_path / "file"
    blocked.touch()

    def where(**environment):
        return run_python(WHERE, **({"FASTNN_CACHE_DIR": "", "TMPDIR": temporary} | environment)).stdout.strip()

    mine = str(temporary / f"fastnn-{os.getuid()}")
    assert where(HOME=home, XDG_CACHE_HOME="") == str(home / ".cache" / "fastnn")
    assert where(HOME=home, XDG_CACHE_HOME=xdg) == str(xdg / "fastnn")
    assert where(HOME=home, XDG_CACHE_HOME="relative") == str(home / ".cache" / "fastnn")  # as if it were not set
    assert where(HOME="relative", XDG_CACHE_HOME="relative") == mine
    assert where(HOME=blocked, XDG_CACHE_HOME="") == mine
    assert where(HOME=home, XDG_CACHE_HOME=blocked) == mine
    assert (temporary / f"fastnn-{os.getuid()}").stat().st_mode & 0o077 == 0


def test_a_chosen_folder_holds_after_changing_the_working_folder(tmp_path, run_python):
    """It counts from the folder where the process started."""
    (tmp_path / "elsewhere").chmod(0o700)
    run_python(ADD.replace("before", f"import os; os.chdir({str(tmp_path)!r})", 1), FASTNN_CACHE_DIR="here")
    assert len(list((tmp_path / "elsewhere" / "here").glob("add-*.fastnn"))) == 1


# ---- what others may have written ----


@pytest.fixture
def find(monkeypatch):
    """A function: the folders that are found if FASTNN_CACHE_DIR names this one."""

    def of(folder):
        monkeypatch.setenv("FASTNN_CACHE_DIR", str(folder))
        return cache._find_folders()

    return of


@pytest.fixture
def home(tmp_path):
    """A folder of ours, `home`, with our cache folder in it."""
    (tmp_path / "home" / "cache").mkdir(parents=True)
    for path in (tmp_path / "home", tmp_path / "home" / "cache"):
        path.chmod(0o700)
    return tmp_path / "home"


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """The folder that CodeFiles uses in this test."""
    monkeypatch.setattr(cache.CodeFiles, "folder", tmp_path)
    monkeypatch.setattr(cache.CodeFiles, "_failures", [cache._warn])
    return tmp_path


def readable(value):
    """The name of a test's parameter: a mode in octal digits."""
    return oct(value) if isinstance(value, int) else value


def give_away(path, monkeypatch):
    """From here on, the path belongs to someone who is neither this user nor root."""
    if os.getuid() == 0:
        os.chown(path, 12345, -1)
    else:
        other = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: other)


def refused(find, folder, reason):
    """The command that the warning names, if it names one; the folder is refused for this reason."""
    with pytest.warns(RuntimeWarning) as seen:
        assert find(folder) == ()
    (message,) = [str(warning.message) for warning in seen]
    assert f"in {folder}, because {reason}. " in message
    assert "set FASTNN_CACHE_DIR to a folder that only you can write" in message
    command = re.search("run `(.*)`", message)
    return command and command[1]


@POSIX
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750, 0o1700, 0o2755], ids=oct)
def test_a_folder_that_only_its_owner_can_write_is_used(mode, find, home):
    (home / "cache").chmod(mode)
    assert find(home / "cache") == (home / "cache",)


@POSIX
@pytest.mark.parametrize(
    ("mode", "who"),
    [(0o770, "its group"), (0o720, "its group"), (0o777, "others"), (0o702, "others"), (0o1777, "others")],
    ids=readable,
)
def test_a_folder_that_others_can_write_is_refused(mode, who, find, home):
    """The command in the warning helps. The sticky bit does not: a file could be added."""
    folder = home / "cache"
    folder.chmod(mode)
    command = refused(find, folder, f"{folder} is writable by {who}")
    assert command == f"chmod go-w {folder}"
    subprocess.run(shlex.split(command), check=True)
    assert find(folder) == (folder,)


@POSIX
@pytest.mark.parametrize("mode", [0o755, 0o711, 0o1777, 0o1775], ids=oct)
def test_a_parent_in_which_others_cannot_replace_the_folder(mode, find, home):
    home.chmod(mode)
    assert find(home / "cache") == (home / "cache",)


@POSIX
@pytest.mark.parametrize(
    ("mode", "who", "change"),
    [(0o775, "its group", "go-w"), (0o777, "others", "+t"), (0o703, "others", "+t")],
    ids=readable,
)
@pytest.mark.parametrize("below", ["cache", "cache/new/deep"])
def test_a_parent_in_which_others_could_replace_the_folder(mode, who, change, below, find, home):
    home.chmod(mode)
    command = refused(find, home / below, f"{home} is writable by {who}")
    assert command == f"chmod {change} {home}"
    assert list((home / "cache").iterdir()) == []  # nothing was made before the check
    subprocess.run(shlex.split(command), check=True)
    assert find(home / below) == (home / below,)


@POSIX
def test_the_command_quotes_the_path(find, tmp_path):
    folder = tmp_path / "two words; true"
    folder.mkdir()
    folder.chmod(0o770)
    subprocess.run(refused(find, folder, f"{folder} is writable by its group"), shell=True, check=True)
    assert find(folder) == (folder,)


@POSIX
def test_folders_are_made_for_their_owner_alone(find, home):
    before = os.umask(0)
    try:
        assert find(home / "new" / "deep") == (home / "new" / "deep",)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (home / "new", home / "new" / "deep")] == [0o700, 0o700]


@POSIX
def test_a_folder_of_another_user_is_refused(find, home, monkeypatch):
    give_away(home / "cache", monkeypatch)
    assert refused(find, home / "cache", f"{home / 'cache'} belongs to another user") is None


@ROOT
def test_a_folder_below_one_of_another_user_is_refused(find, home):
    os.chown(home, 12345, -1)
    assert refused(find, home / "cache", f"{home} belongs to another user") is None
    assert refused(find, home / "new", f"{home} belongs to another user") is None
    assert not (home / "new").exists()


@ROOT
def test_a_folder_that_another_user_makes_in_the_meantime_is_refused(find, home, monkeypatch):
    """As it can happen in /tmp: the folder is missing when it is checked, and there when it is to be made."""
    mkdir = Path.mkdir

    def overtaken(path, *arguments, **keywords):
        mkdir(path, *arguments, **keywords)
        os.chown(path, 12345, -1)

    home.chmod(0o1777)
    monkeypatch.setattr(Path, "mkdir", overtaken)
    assert refused(find, home / "new", f"{home / 'new'} belongs to another user") is None
    assert list((home / "new").iterdir()) == []


@POSIX
def test_a_link_of_ours_is_followed_and_its_target_is_checked(find, home, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(home)
    assert find(link / "cache") == (home / "cache",)
    home.chmod(0o770)
    refused(find, link / "cache", f"{home} is writable by its group")
    home.chmod(0o700)
    (home / "direct").symlink_to("cache")
    assert find(home / "direct") == (home / "cache",)


@ROOT
def test_a_link_of_another_user_is_refused(find, home, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(home / "cache")
    os.lchown(link, 12345, -1)
    assert refused(find, link, f"{link} belongs to another user") is None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the folders of the XDG convention")
def test_a_refused_home_warns_once_and_the_temporary_folder_is_used(home, tmp_path, run_python):
    temporary = tmp_path / "temporary"
    temporary.mkdir(mode=0o700)
    source = "import warnings; warnings.simplefilter('always'); import fastnn; fastnn.Model\n" + WHERE
    environment = {"FASTNN_CACHE_DIR": "", "HOME": home, "XDG_CACHE_HOME": "", "TMPDIR": temporary}
    home.chmod(0o770)
    done = run_python(source, **environment)
    assert done.stdout == f"{temporary}/fastnn-{os.getuid()}\n"
    assert done.stderr.count("Warning: ") == 1
    assert f"in {home}/.cache/fastnn, because {home} is writable by its group. " in done.stderr
    assert f"run `chmod go-w {home}`" in done.stderr
    assert not (home / ".cache").exists()
    home.chmod(0o700)
    done = run_python(source, **environment)
    assert (done.stdout, done.stderr) == (f"{home}/.cache/fastnn\n", "")


@POSIX
def test_where_warnings_are_errors_a_refused_folder_is_a_clear_one(home, run_python):
    home.chmod(0o770)
    done = run_python("import fastnn; fastnn.Model", check=False, FASTNN_CACHE_DIR=home / "cache")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"RuntimeWarning: fastnn keeps no compiled code in {home / 'cache'}, because {home} is ")


@POSIX
@pytest.mark.parametrize("mode", [0o660, 0o602, 0o666, 0o620], ids=oct)
def test_a_file_that_others_can_write_is_a_miss(mode, in_folder):
    cache.CodeFiles.write("f", 1, b"code")
    path = cache.CodeFiles.path("f", 1)
    path.chmod(mode)
    assert cache.CodeFiles.read("f", 1) is None
    path.chmod(0o644)
    assert cache.CodeFiles.read("f", 1) == b"code"


@POSIX
def test_a_file_is_written_for_its_owner_alone(in_folder):
    before = os.umask(0)
    try:
        cache.CodeFiles.write("f", 1, b"code")
    finally:
        os.umask(before)
    assert cache.CodeFiles.path("f", 1).stat().st_mode & 0o777 == 0o600


@POSIX
def test_a_file_of_another_user_is_a_miss(in_folder, monkeypatch):
    cache.CodeFiles.write("f", 1, b"code")
    assert cache.CodeFiles.read("f", 1) == b"code"
    give_away(cache.CodeFiles.path("f", 1), monkeypatch)
    assert cache.CodeFiles.read("f", 1) is None


@ROOT
def test_a_file_that_was_given_away_is_a_miss_and_is_replaced(in_folder):
    cache.CodeFiles.write("f", 1, b"code")
    os.chown(cache.CodeFiles.path("f", 1), 12345, -1)
    assert cache.CodeFiles.read("f", 1) is None
    cache.CodeFiles.write("f", 1, b"code")
    assert cache.CodeFiles.read("f", 1) == b"code"


@POSIX
def test_a_symbolic_link_is_a_miss_and_is_replaced(in_folder):
    cache.CodeFiles.write("f", 1, b"code")
    path, target = cache.CodeFiles.path("f", 1), in_folder / "target"
    path.rename(target)
    path.symlink_to(target)
    content = target.read_bytes()
    assert cache.CodeFiles.read("f", 1) is None
    cache.CodeFiles.write("f", 1, b"other code")
    assert cache.CodeFiles.read("f", 1) == b"other code"
    assert not path.is_symlink()
    assert target.read_bytes() == content


@POSIX
def test_a_fifo_is_a_miss_and_is_replaced(tmp_path, run_python):
    """In a process of its own: one that waits for a writer of the FIFO waits for ever."""
    source = """
import os
from fastnn.kernels.vector.cache import CodeFiles
os.mkfifo(CodeFiles.path("f", 1), 0o600)
print(CodeFiles.read("f", 1))
CodeFiles.write("f", 1, b"code")
print(CodeFiles.read("f", 1))
"""
    assert run_python(source, FASTNN_CACHE_DIR=tmp_path / "cache").stdout == "None\nb'code'\n"


def test_a_folder_in_the_place_of_a_file_is_a_miss_and_stays(in_folder):
    cache.CodeFiles.path("f", 1).mkdir()
    assert cache.CodeFiles.read("f", 1) is None
    with pytest.warns(RuntimeWarning, match=rf"keeps no compiled code in {in_folder}, because .*Is a directory"):
        cache.CodeFiles.write("f", 1, b"code")
    cache.CodeFiles.write("f", 1, b"code")  # one warning is enough
    assert cache.CodeFiles.read("f", 1) is None
    assert list(in_folder.iterdir()) == [cache.CodeFiles.path("f", 1)]  # the temporary file is gone


@pytest.mark.parametrize(("name", "key"), [("g", 1), ("f", 2)])
def test_a_file_in_the_place_of_another_is_a_miss(name, key, in_folder):
    cache.CodeFiles.write("f", 1, b"code")
    shutil.copy(cache.CodeFiles.path("f", 1), cache.CodeFiles.path(name, key))
    assert cache.CodeFiles.read("f", 1) == b"code"
    assert cache.CodeFiles.read(name, key) is None


def test_an_interrupted_write_leaves_nothing(in_folder, monkeypatch):
    there = []

    def interrupted(*_):
        there.extend(path.suffix for path in in_folder.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(cache.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.CodeFiles.write("f", 1, b"code")
    assert there == [".tmp"]
    assert list(in_folder.iterdir()) == []


# ---- nothing is fatal ----


@POSIX
def test_a_read_only_package(package, warm, train, tmp_path):
    """Root writes where it likes: that nothing was written is checked too."""
    (tmp_path / "xdg").mkdir(mode=0o700)
    warm.rename(tmp_path / "xdg" / "fastnn")
    files = [package, *package.rglob("*")]
    for path in files:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in files}
    try:
        report = train(path=package, FASTNN_CACHE_DIR="", XDG_CACHE_HOME=tmp_path / "xdg")
        assert report["package"] == str(package / "fastnn")
        assert report["misses"] == 0
        assert {path: path.stat().st_mtime_ns for path in [package, *package.rglob("*")]} == before
    finally:
        for path in files:
            path.chmod(0o755)


@pytest.mark.slow
def test_a_folder_that_cannot_be_made(train, tmp_path):
    (tmp_path / "file").touch()
    report = train(LOUD, FASTNN_CACHE_DIR=tmp_path / "file" / "below")
    assert report["folder"] is None
    assert report["warnings"] == 1
    assert report["hits"] == 0
    assert (tmp_path / "file").read_bytes() == b""


# What a process of root's does first to be another user from then on, who may not read the folders of root's Python:
# it has used the modules that are needed. Then it reads the package again.
AS_USER = """
import os, sys
chosen = os.environ.pop("FASTNN_CACHE_DIR")
import numba, fastnn.model
os.environ["FASTNN_CACHE_DIR"] = chosen
numba.njit(lambda x: x + 1.0)(1.0)
for name in [name for name in sys.modules if name.partition(".")[0] == "fastnn"]:
    del sys.modules[name]
os.setgid(54321)
os.setuid(54321)
"""


@pytest.fixture
def image(filled):
    """A warm folder as in an image: root's, and readable by all; no folder above it is pytest's, which is private."""
    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    shutil.copytree(filled[0], top / "warm")
    make_readable(top / "warm", 0o755)
    yield top / "warm"
    shutil.rmtree(top)


def make_readable(folder, mode):
    folder.chmod(mode)
    for path in folder.iterdir():
        path.chmod(0o644)


@pytest.mark.slow
@ROOT
@pytest.mark.parametrize("owner", ["root", "the user"])
def test_a_warm_folder_that_the_user_cannot_write(owner, image, train, filled):
    """It is used, without a warning; so in an image, or where a container may not write."""
    if owner == "the user":
        for path in (image, *image.iterdir()):
            os.chown(path, 54321, 54321)
        image.chmod(0o555)
    before = contents(image)
    report = train(AS_USER + "".join(FORBID.values()), FASTNN_CACHE_DIR=image)
    assert (report["hits"], report["misses"], report["warnings"]) == (filled[1]["misses"], 0, 0)
    assert contents(image) == before


@pytest.mark.slow
@ROOT
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777], ids=oct)
def test_a_folder_of_roots_that_others_can_write_is_refused(mode, image, run_python):
    image.chmod(mode)
    done = run_python(LOUD + AS_USER + WHERE, FASTNN_CACHE_DIR=image)
    assert done.stdout == "None\n"
    assert f"{image} is writable by " in done.stderr
    assert "run `chmod" not in done.stderr  # the user may not


@pytest.mark.slow
@ROOT
def test_a_read_only_folder_that_lacks_something_says_so_once(image, train, filled):
    for path in list(image.iterdir())[::2]:
        path.unlink()
    left = len(list(image.iterdir()))
    report = train(LOUD + AS_USER, FASTNN_CACHE_DIR=image)
    assert (report["hits"], report["warnings"]) == (left, 1)
    assert report["misses"] == filled[1]["misses"] - left
    assert len(list(image.iterdir())) == left


@pytest.mark.slow
@ROOT
def test_a_file_of_roots_that_others_can_write_is_a_miss(image, train):
    bad = sorted(image.iterdir())[:3]
    for path in bad:
        path.chmod(0o666)
    report = train(LOUD + AS_USER, FASTNN_CACHE_DIR=image)
    assert (report["misses"], report["warnings"]) == (len(bad), 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the folders of the XDG convention")
def test_a_default_folder_that_cannot_be_written_is_read(warm, train, filled, tmp_path):
    """What it lacks goes to the next one, without a warning."""
    (tmp_path / "xdg").mkdir(mode=0o700)
    (tmp_path / "temporary").mkdir(mode=0o700)
    warm.rename(tmp_path / "xdg" / "fastnn")
    next((tmp_path / "xdg" / "fastnn").glob("sigmoid-*")).unlink()
    before = contents(tmp_path / "xdg" / "fastnn")
    source = f"""
import tempfile
real = tempfile.TemporaryFile
def refuse(dir, **options):
    if str(dir) == {str(tmp_path / "xdg" / "fastnn")!r}:
        raise OSError(30, 'Read-only file system')
    return real(dir=dir, **options)
tempfile.TemporaryFile = refuse
"""
    environment = {"FASTNN_CACHE_DIR": "", "XDG_CACHE_HOME": tmp_path / "xdg", "TMPDIR": tmp_path / "temporary"}
    report = train(source, **environment)
    mine = tmp_path / "temporary" / f"fastnn-{os.getuid()}"
    assert report["folder"] == str(mine)
    assert (report["hits"], report["misses"]) == (filled[1]["misses"] - 1, 1)
    assert [path.name.rpartition("-")[0] for path in mine.iterdir()] == ["sigmoid"]
    assert contents(tmp_path / "xdg" / "fastnn") == before
    report = train(source, **environment)
    assert (report["hits"], report["misses"]) == (filled[1]["misses"], 0)


@POSIX
def test_the_home_folder_of_a_chosen_path(tmp_path, run_python):
    (tmp_path / "home").mkdir(mode=0o700)
    done = run_python(WHERE, HOME=tmp_path / "home", FASTNN_CACHE_DIR="~/cache")
    assert done.stdout == f"{tmp_path}/home/cache\n"
    done = run_python(LOUD + WHERE, FASTNN_CACHE_DIR="~nobody-of-this-name/cache")
    assert done.stdout == "None\n"
    assert done.stderr.count("Warning: ") == 1
    assert "in ~nobody-of-this-name/cache, because the home folder that ~ stands for is not known. " in done.stderr
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_no_writable_folder_at_all(run_python, tmp_path):
    (tmp_path / "file").touch()
    source = """
import tempfile
def none():
    raise FileNotFoundError("No usable temporary directory")
tempfile.gettempdir = none
"""
    blocked = {"HOME": tmp_path / "file", "XDG_CACHE_HOME": tmp_path / "file", "LOCALAPPDATA": tmp_path / "file"}
    done = run_python(LOUD + source + WHERE, FASTNN_CACHE_DIR="", **blocked)
    assert done.stdout == "None\n"
    assert done.stderr.count("Warning: ") == 1
    assert f"no compiled code in {tmp_path / 'file'}" in done.stderr
    done = run_python(LOUD + source + WHERE, FASTNN_CACHE_DIR="", HOME="relative", XDG_CACHE_HOME="", LOCALAPPDATA="")
    assert done.stdout == "None\n"
    assert "no compiled code because there is no folder for it. " in done.stderr


TROUBLES = {
    "the folder is gone": "cache.CodeFiles.folder.rmdir()",
    "no file can be moved": """
def full(*_):
    raise OSError(28, 'No space left on device')
cache.os.replace = full
""",
    "no file can be made": """
def full(**_):
    raise OSError(28, 'No space left on device')
cache.tempfile.NamedTemporaryFile = full
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_with_writing(trouble, tmp_path, run_python):
    folder = tmp_path / "cache"
    done = run_python(LOUD + ADD.replace("before", TROUBLES[trouble], 1), FASTNN_CACHE_DIR=folder)
    assert done.stdout == "True\n"
    assert done.stderr.count(f"fastnn keeps no compiled code in {folder}, because [Errno ") == 1
    assert not folder.exists() or list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
def test_training_goes_on_without_a_file(trouble, tmp_path, train):
    folder = tmp_path / "cache"
    report = train(LOUD + "from fastnn.kernels.vector import cache\n" + TROUBLES[trouble], FASTNN_CACHE_DIR=folder)
    assert (report["hits"], report["misses"] > 1, report["warnings"]) == (0, True, 1)
    assert not folder.exists() or list(folder.iterdir()) == []


@pytest.mark.slow
def test_no_trouble_with_writing(tmp_path, run_python):
    folder = tmp_path / "cache"
    assert run_python(ADD.replace("before", "", 1), FASTNN_CACHE_DIR=folder).stdout == "True\n"
    assert len(list(folder.glob("add-*.fastnn"))) == len(list(folder.iterdir())) == 1


DAMAGES = {
    "empty": lambda content: b"",
    "garbage": lambda content: bytes(range(256)) * 20,
    "half": lambda content: content[: len(content) // 2],
    "a byte less": lambda content: content[:-1],
    "a byte more": lambda content: content + b"\0",
    "a bit": lambda content: content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
    "the checksum": lambda content: b"\0" + content[1:],
}


@pytest.mark.slow
def test_damaged_files_are_compiled_again_and_replaced(warm, train, filled):
    for i, path in enumerate(sorted(warm.iterdir())):
        path.write_bytes(DAMAGES[("half", "garbage", "empty")[i % 3]](path.read_bytes()))
    before = sorted(contents(warm))
    report = train(FASTNN_CACHE_DIR=warm)
    assert (report["hits"], report["misses"]) == (0, filled[1]["misses"])
    assert sorted(contents(warm)) == before
    assert train(FASTNN_CACHE_DIR=warm)["misses"] == 0


@pytest.mark.parametrize("name", ["sigmoid", "train"])
def test_every_damage_is_a_miss(name, warm, run_python):
    """Of vector functions, and of what Numba has compiled."""
    source = """
import sys
from pathlib import Path
from fastnn.kernels.vector import cache

file, name = Path(sys.argv[1]), sys.argv[2]
whole = file.read_bytes()
keys = []
path = cache.CodeFiles.path
cache.CodeFiles.path = lambda *arguments: (keys.append(arguments[:2]), path(*arguments))[1]

import numpy as np
from fastnn import Model

Model([3, 4, 2], rng=0).fit(np.eye(3), [0, 1, 0], epochs=1, batch_size=3)
(key,) = {key for called, key in keys if called == name}
assert path(name, key) == file and cache.CodeFiles.read(name, key) == whole[32:]
for damaged in map(bytes.fromhex, sys.argv[3:]):
    file.write_bytes(damaged)
    assert cache.CodeFiles.read(name, key) is None
file.unlink()
assert cache.CodeFiles.read(name, key) is None
file.mkdir()
assert cache.CodeFiles.read(name, key) is None
print("done")
"""
    (file,) = warm.glob(f"{name}-*")
    damaged = [damage(file.read_bytes()).hex() for damage in DAMAGES.values()]
    assert run_python(source, file, name, *damaged, FASTNN_CACHE_DIR=warm).stdout == "done\n"


def test_where_numba_may_not_compile_what_is_kept_serves(warm, train, run_python, tmp_path):
    assert train(FASTNN_CACHE_DIR=warm, NUMBA_DISABLE_JIT=1)["misses"] == 0
    source = SCRIPT.replace("before", "", 1)
    done = run_python(source, check=False, FASTNN_CACHE_DIR=tmp_path / "empty", NUMBA_DISABLE_JIT=1)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: fastnn is compiled by Numba, but NUMBA_DISABLE_JIT turns that off")


@pytest.mark.slow
def test_a_later_process_does_without_numba(tmp_path, run_python):
    """Whatever it does, but for predictions on Numba's threads. Where a symbol is missing, LLVM ends the process."""
    source = """
import sys
from fastnn import warming
from fastnn.kernels.running import entry, pool
from fastnn.kernels.vector import cache

usable, pool.usable = pool.usable, lambda: True  # Numba says whether it has threads
parallel, called, written, write = entry.sweep_parallel, [], [], cache.CodeFiles.write
entry.sweep_parallel = lambda *arguments: called.append(1)
cache.CodeFiles.write = lambda name, key, data: (written.append(name), write(name, key, data))
warming._run_once("float32")
print(len(called), "numba" in sys.modules, "sweep" in written, "backward" in written)
entry.sweep_parallel, pool.usable = parallel, usable
warming._run_once("float32")
print("sweep_parallel" in written)
"""
    found = [run_python(source, FASTNN_CACHE_DIR=tmp_path / "cache").stdout for _ in range(2)]
    assert found == ["1 True True True\nTrue\n", "1 False False False\nFalse\n"]


@pytest.mark.slow
def test_two_processes_on_an_empty_folder(tmp_path, train, expected, filled):
    folder = tmp_path / "empty"
    environment = os.environ | {"FASTNN_CACHE_DIR": str(folder), "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", SCRIPT.replace("before", "", 1)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, env=environment, cwd=tmp_path, **pipes) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, err
        report = json.loads(out)
        assert {name: report[name] for name in expected} == expected
    assert sorted(contents(folder)) == sorted(contents(filled[0]))
    assert train(FASTNN_CACHE_DIR=folder)["misses"] == 0
