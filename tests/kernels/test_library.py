"""library: functions are compiled or loaded when they are asked for, one by one, and only then."""

import numpy as np
import pytest

from fastnn.kernels.cpu.target import HOST, Target
from fastnn.kernels.programs.program import Code, Program
from fastnn.kernels.vector.cache import CodeFiles
from fastnn.kernels.vector.library import Library, library, names_for
from fastnn.kernels.vector.matrix import grouped

from .kernel_calls import TARGETS_HERE, matrix, padded, run_code


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """An empty folder of code files, and the list of what is compiled from now on."""
    names, module = [], Library.module

    def noted(self, name):
        names.append((self.target.cpu, self.dtype, name))
        return module(self, name)

    monkeypatch.setattr(CodeFiles, "folder", tmp_path)
    monkeypatch.setattr(Library, "module", noted)
    return names


def add_one(library):
    """Whether its function adds."""
    x, one = (padded(np.full((1, 20), value, library.dtype)) for value in (41, 1))
    out = np.zeros_like(x)
    program = Program(library.target, library.dtype, rows=1)
    program.add("add", out=matrix(out), x=matrix(x), y=matrix(one))
    run_code(Code([program], library))
    return (out[0, :20] == 42).all()


def test_functions_are_compiled_only_when_asked_for(compiled):
    made = Library("float32")
    assert compiled == []
    made.addresses([])
    assert compiled == []
    first = dict(made.addresses(["add"]))
    assert compiled == [(HOST.cpu, "float32", "add")]
    assert first.keys() == {"add"}
    program = Program(HOST, "float32")
    m = matrix(padded(np.zeros((2, 3), "f4")))
    program.add("copy", out=m, x=m)
    program.add("add", out=m, x=m, y=m)
    program.add("copy", out=m, x=m)
    Code([program, program], made)
    assert compiled == [(HOST.cpu, "float32", name) for name in ("add", "copy")]
    assert made.addresses(["copy", "add"]).keys() == {"add", "copy"}
    assert made.addresses(["add"])["add"] == first["add"]
    assert len(compiled) == 2


def test_writing_a_program_compiles_nothing(compiled):
    program, m = Program(HOST, "float64"), matrix(padded(np.zeros((2, 3))))
    program.add("tanh", out=m, x=m)
    assert compiled == []


def test_a_second_library_loads_from_files(compiled, tmp_path, monkeypatch):
    one = Library("float64")
    one.addresses(["add", "copy"])
    (file,) = tmp_path.glob("add-*")
    assert len(list(tmp_path.iterdir())) == 2
    read, kinds = CodeFiles.read, []

    def noted(name, key):
        kinds.append((name, type(read(name, key))))
        return read(name, key)

    monkeypatch.setattr(CodeFiles, "read", noted)
    two = Library("float64")
    addresses = two.addresses(["add"])
    assert kinds == [("add", bytes)]
    assert [name for *_, name in compiled] == ["add", "copy"]
    assert addresses["add"] > 0
    assert add_one(two)

    file.write_bytes(file.read_bytes()[:-1])  # what is not whole is compiled again, and replaced
    assert add_one(Library("float64"))
    assert kinds[-1] == ("add", type(None))
    assert [name for *_, name in compiled] == ["add", "copy", "add"]
    assert add_one(Library("float64"))
    assert len(compiled) == 3


def test_without_a_folder_everything_is_compiled(compiled, monkeypatch):
    monkeypatch.setattr(CodeFiles, "folder", None)
    for _ in range(2):
        assert add_one(Library("float32"))
    assert len(compiled) == 2


def test_a_failure_leaves_the_library_as_it_was(compiled, monkeypatch, tmp_path):
    made = Library("float32")
    before = dict(made.addresses(["add"]))
    works = Library.module

    def fails(self, name):
        raise MemoryError("no room for code")

    monkeypatch.setattr(Library, "module", fails)
    files = set(tmp_path.iterdir())
    program, m = Program(HOST, "float32"), matrix(padded(np.zeros((2, 3), "f4")))
    program.add("copy", out=m, x=m)
    for _ in range(2):
        with pytest.raises(MemoryError, match="no room for code"):
            made.addresses(["add", "copy"])
        with pytest.raises(MemoryError, match="no room for code"):
            Code([program], made)
        assert made._addresses == before
        assert set(tmp_path.iterdir()) == files
    monkeypatch.setattr(Library, "module", works)
    assert made.addresses(["add", "copy"]).keys() == {"add", "copy"}
    assert add_one(made)


def test_an_unknown_name():
    with pytest.raises(KeyError, match="softsign"):
        Library("float32").addresses(["softsign"])


def test_dtypes_and_targets_share_no_code(compiled, tmp_path):
    made = [Library(dtype, target) for dtype in ("float32", "float64") for target in TARGETS_HERE]
    addresses = [library.addresses(["add"])["add"] for library in made]
    assert len(set(addresses)) == len(made) == len(compiled) == len(list(tmp_path.iterdir()))
    assert all(add_one(library) for library in made)


def test_features_alone_make_another_target(compiled, tmp_path):
    """Such as of a CPU whose name LLVM knows, in a machine that hides some of its features."""
    targets = [HOST, Target.of(HOST.triple, HOST.cpu, HOST.features + ",+lightness")]
    made = [Library("float32", target) for target in targets]
    addresses = [library.addresses(["add"])["add"] for library in made]
    assert addresses[0] != addresses[1]
    assert len(compiled) == len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("dtype", ["float32", "float64", grouped("float32")])
def test_every_function_has_an_address(dtype):
    """Those of groups of networks alone have one for a group's dtype."""
    names = names_for(dtype)
    addresses = library(dtype).addresses(names)
    assert addresses.keys() >= set(names)  # beside functions of a user's
    assert all(address > 0 for address in addresses.values())
    assert len(set(addresses.values())) == len(addresses)
    assert library(dtype) is library(dtype)
