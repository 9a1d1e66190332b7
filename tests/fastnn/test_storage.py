"""Files: whole or not at all, the same bits back, and a clear error for everything else."""

import copy
import errno
import hashlib
import itertools
import json
import os
import signal
import stat
import struct

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fastnn
from fastnn import Dense, Model
from fastnn.exchange import exporting
from fastnn.files import storage

from .. import cases

REMOVED = "removed"
POSIX = pytest.mark.skipif(os.name != "posix", reason="permission bits, links and pipes are a matter of POSIX")
ACTIVATIONS = [name for name in cases.ACTIVATIONS if name not in cases.GROWING]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def saved(path):
    """A path with a model [4, 9, 3] in it."""
    Model([4, 9, 3], rng=0).save(path)
    return path


def checksum(text, tensors):
    """The checksum of a model file, written as the docstring of fastnn.files.storage.checksum says."""
    content = text.encode() + b"\n"
    for name in sorted(tensors):
        array = tensors[name]
        content += f'["{name}", "{array.dtype}", {list(array.shape)}]\n'.encode() + array.tobytes()
    return hashlib.sha256(content).hexdigest()


def rewrite(path, tensors=None, model=None, **header):
    """Save the file again with tensors, parts of the description or of the header replaced; REMOVED takes one out.

    The checksum is right, unless `header` says otherwise.
    """
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    arrays = {k: v for k, v in (load_file(path) | (tensors or {})).items() if v is not REMOVED}
    description = json.loads(metadata["model"]) | (model or {})
    text = json.dumps({k: v for k, v in description.items() if v is not REMOVED})
    metadata |= {"model": text, "sha256": checksum(text, arrays)} | header
    save_file(arrays, path, {k: v for k, v in metadata.items() if v is not REMOVED})


# ---- what comes back ----


def test_a_model_always_has_the_same_bytes(tmp_path):
    """safetensors itself writes the header's metadata in another order each time. The file begins on 8 bytes."""
    model = Model([4, 3], rng=0)
    contents = set()
    for i in range(8):
        model.save(tmp_path / f"{i}.safetensors")
        contents.add((tmp_path / f"{i}.safetensors").read_bytes())
    (content,) = contents
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    assert list(json.loads(content[8 : 8 + length])["__metadata__"]) == ["format", "format_version", "model", "sha256"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_model_comes_back_with_the_same_bits(activation, dtype, path):
    model = Model([5, 18, Dense(7, "tanh"), 3], activation=activation, output=activation, dtype=dtype, init="normal")
    model.save(path)
    loaded = fastnn.load(path)
    assert repr(loaded) == repr(model)
    assert loaded.parameters.tobytes() == model.parameters.tobytes()
    X = np.random.default_rng(0).normal(size=(20, 5))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


@pytest.mark.parametrize("input_scale", [None, 1 / 255, -0.1, 3])
def test_options_come_back(input_scale, path):
    model = Model([5, 8, 3], input_scale=input_scale, rng=0)
    model.freeze([0])
    model.save(path)
    loaded = fastnn.load(path)
    assert loaded.input_scale == input_scale
    assert loaded.frozen == {0}
    assert loaded.history is None


@pytest.mark.parametrize(("dtype", "smallest"), [("float32", 1e-45), ("float64", 5e-324)])
def test_special_values_come_back(dtype, smallest, path):
    """Signed zeros, the smallest number above zero, the largest number."""
    model = Model([2, 2], dtype=dtype)
    model.weights[0][...] = [[-0.0, 0.0], [smallest, -np.finfo(dtype).max]]
    assert model.weights[0][1, 0] > 0
    model.save(path)
    assert fastnn.load(path).parameters.tobytes() == model.parameters.tobytes()


@pytest.mark.parametrize("options", [{}, {"validation_fraction": 0.2}])
def test_training_goes_on_with_the_same_bits(options, path, blobs):
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    model.fit(X, y, epochs=2, batch_size=7, **options)
    model.save(path)
    loaded = fastnn.load(path)
    for each in (model, loaded):
        each.fit(X, y, epochs=3, batch_size=7, **options)
    assert loaded.parameters.tobytes() == model.parameters.tobytes()
    assert loaded.history.loss == model.history.loss
    assert loaded.history.val_loss == model.history.val_loss


OPTIMIZERS = [fastnn.SGD(0.1, clip_norm=0.1), *cases.OPTIMIZERS.values()]
OPTIMIZERS += [fastnn.Adam(rate) for rate in (fastnn.CosineDecay(0.02, 9, warmup=2), fastnn.OneCycle(0.1, 200))]
OPTIMIZERS += [fastnn.Momentum(fastnn.StepDecay(0.1, 2)), fastnn.Momentum(fastnn.InverseScaling(0.1), nesterov=True)]
OPTIMIZERS += [fastnn.Nadam(fastnn.ExponentialDecay(0.01, 0.9, per="step"), clip_value=0.1)]
OPTIMIZERS += [fastnn.Lion(0.01, learning_rate_factors={"bias": 0.1, "Dense.weight": 2}, decay_biases=False)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_an_optimizer_goes_on_with_the_same_bits(optimizer, path, blobs):
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    options = {"epochs": 3, "optimizer": optimizer, "dropout": 0.2, "input_noise": 0.1}
    options["batch_size"] = 1000 if isinstance(optimizer, fastnn.Rprop) else 7
    model.fit(X, y, **options)
    model.save(path)
    loaded = fastnn.load(path)
    assert loaded.fit(X, y, **options).loss == model.fit(X, y, **options).loss
    assert loaded.parameters.tobytes() == model.parameters.tobytes()


@pytest.mark.parametrize("optimizer", [fastnn.SGD(0.1), fastnn.Adam()], ids=repr)
def test_what_a_file_holds_of_an_optimizer(optimizer, path, blobs):
    """Tensors like those of the parameters, and none where it is left out; then a fit starts afresh."""
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    model.fit(X, y, epochs=2, batch_size=90, optimizer=optimizer)
    model.save(path)
    names = {f"layers.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")}
    kept = ("m", "v") if isinstance(optimizer, fastnn.Adam) else ()
    assert load_file(path).keys() == names | {f"optimizer.{vector}.{name}" for vector in kept for name in names}
    model.save(path, optimizer=False)
    assert load_file(path).keys() == names
    fresh = copy.deepcopy(model)
    fresh.freeze([])  # which resets the optimizer
    options = {"epochs": 2, "batch_size": 90, "optimizer": optimizer}
    assert fastnn.load(path).fit(X, y, **options).loss == fresh.fit(X, y, **options).loss


def test_a_rate_that_is_a_function_is_not_saved(path, blobs):
    X, y = blobs
    model = Model([6, 3], rng=0)
    model.fit(X, y, epochs=2, batch_size=90, optimizer=fastnn.Adam(lambda epoch: 0.1))
    with pytest.warns(UserWarning, match="Adam's state is not saved, because its learning rate or weight decay is"):
        model.save(path)
    assert fastnn.load(path).parameters.tobytes() == model.parameters.tobytes()
    model.save(path, optimizer=False)
    with pytest.raises(TypeError, match="optimizer must be True or False, got 'adam'"):
        model.save(path, optimizer="adam")


@pytest.mark.parametrize(
    "optimizer",
    [
        *([], {}, {"name": "Adam"}, {"name": "Adam", "settings": {}}),
        {"name": "Adam", "settings": {"learning_rate": 0.1}},
        {"name": "Adam", "settings": {"learning_rate": 0.1}, "numbers": [1.0]},
        {"name": "Adam", "settings": {"learning_rate": -1}, "numbers": [0.0] * 7},
        {"name": "Adam", "settings": {"learning_rate": 1, "beta3": 1}, "numbers": [0.0] * 7},
        {"name": "Model", "settings": {"learning_rate": 1}, "numbers": [0.0] * 7},
        {"name": "CosineDecay", "settings": {"learning_rate": 1, "length": 2}, "numbers": [0.0] * 7},
        {"name": "Adam", "settings": {"learning_rate": 0.1}, "numbers": [0.0] * 7},  # but without its tensors
    ],
    ids=str,
)
def test_a_file_with_a_wrong_optimizer(optimizer, saved):
    rewrite(saved, model={"optimizer": optimizer})
    with pytest.raises(ValueError, match=r"path must name a consistent model file, got .*model\.safetensors"):
        fastnn.load(saved)


def test_a_file_of_version_2_has_no_optimizer(saved):
    expected = fastnn.load(saved)
    rewrite(saved, model={"noise": REMOVED}, format_version="2")
    loaded = fastnn.load(saved)
    assert loaded.parameters.tobytes() == expected.parameters.tobytes()
    assert loaded._network.noise != loaded._network.random


def test_a_model_saved_by_a_callback_goes_on_from_there(path, blobs):
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    model.fit(X, y, epochs=4, batch_size=7, callbacks=[lambda m: m.save(path) if len(m.history.loss) == 2 else None])
    loaded = fastnn.load(path)
    loaded.fit(X, y, epochs=2, batch_size=7)
    assert loaded.parameters.tobytes() == model.parameters.tobytes()


def test_loading_does_not_keep_the_file_open(saved):
    model = fastnn.load(saved)
    before = model.parameters.tobytes()
    saved.write_bytes(b"\0" * saved.stat().st_size)
    assert model.parameters.tobytes() == before


# ---- the format ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensors_are_unpadded_and_readable_elsewhere(dtype, path):
    model = Model([5, 18, 3], dtype=dtype, init="normal", rng=0)
    model.save(path)
    tensors = load_file(path)
    assert sorted(tensors) == ["layers.0.bias", "layers.0.weight", "layers.1.bias", "layers.1.weight"]
    for l in range(2):
        weight, bias = tensors[f"layers.{l}.weight"], tensors[f"layers.{l}.bias"]
        assert weight.dtype == bias.dtype == dtype
        np.testing.assert_array_equal(weight, model.weights[l])
        np.testing.assert_array_equal(bias, model.biases[l])
    assert path.stat().st_size < model.n_parameters * model.parameters.itemsize + 1500


def test_the_header_describes_the_model(path):
    model = Model([5, 8, Dense(3, "tanh")], input_scale=0.5, rng=0)
    model.freeze(0)
    model.save(path)
    with safe_open(path, "numpy") as file:
        header = file.metadata()
    assert header["format"] == "fastnn"
    assert header["format_version"] == "4"
    assert header["sha256"] == checksum(header["model"], load_file(path))
    description = json.loads(header["model"])
    assert description["n_inputs"] == 5
    assert description["layers"] == [{"units": 8, "activation": "sigmoid"}, {"units": 3, "activation": "tanh"}]
    assert description["loss"] == "quadratic"
    assert description["dtype"] == "float32"
    assert description["input_scale"] == 0.5
    assert description["frozen"] == [0]


# ---- writing ----


@pytest.mark.parametrize("make", [str, lambda path: path, os.fspath])
def test_a_path_may_be_a_string(make, path):
    Model([2, 1], rng=0).save(make(path))
    assert fastnn.load(make(path)).sizes == (2, 1)


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Model([2, 1]).save("here")
    assert fastnn.load("here").sizes == (2, 1)
    assert os.listdir(tmp_path) == ["here"]


def test_saving_replaces_a_file_and_leaves_nothing_else(saved):
    Model([7, 2]).save(saved)
    assert fastnn.load(saved).sizes == (7, 2)
    assert os.listdir(saved.parent) == [saved.name]


@pytest.fixture
def set_umask():
    """A function that sets the umask, until the test ends."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def permissions(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@POSIX
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0, 0o666)])
def test_a_new_file_has_the_permissions_of_any_new_file(umask, mode, path, set_umask, monkeypatch):
    """And the umask, which all threads share, is left alone."""
    set_umask(umask)
    with monkeypatch.context() as patch:
        patch.setattr(os, "umask", lambda _: pytest.fail("save changed the umask"))
        Model([2, 1]).save(path)
    assert permissions(path) == mode


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o444, 0o664, 0o777])
def test_an_existing_file_keeps_its_permissions(mode, saved, set_umask, monkeypatch):
    """The temporary file never has wider ones, since it holds the same data."""
    set_umask(0o022)
    saved.chmod(mode)
    seen = []

    def record(descriptor):
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", record)
        patch.setattr(os, "umask", lambda _: pytest.fail("save changed the umask"))
        Model([7, 2]).save(saved)
    assert fastnn.load(saved).sizes == (7, 2)
    assert permissions(saved) == mode
    assert seen == [mode]


@POSIX
def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    Model([2, 1]).save(folder / "model-1")
    (folder / "current").symlink_to("model-1")
    (tmp_path / "link").symlink_to(folder / "current")
    Model([7, 2]).save(tmp_path / "link")
    assert fastnn.load(folder / "model-1").sizes == (7, 2)
    assert os.readlink(folder / "current") == "model-1"
    assert os.readlink(tmp_path / "link") == str(folder / "current")
    assert sorted(os.listdir(folder)) == ["current", "model-1"]
    assert sorted(os.listdir(tmp_path)) == ["link", "models"]


@POSIX
def test_a_symbolic_link_to_nothing_gets_its_target(tmp_path):
    (tmp_path / "link").symlink_to("model")
    Model([7, 2]).save(tmp_path / "link")
    assert os.readlink(tmp_path / "link") == "model"
    assert not (tmp_path / "model").is_symlink()
    assert fastnn.load(tmp_path / "model").sizes == (7, 2)


@POSIX
def test_symbolic_links_that_lead_nowhere(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to(tmp_path / "nowhere" / "model")
    with pytest.raises(OSError, match=r"path must not be a symbolic link that leads back to itself: .*a'"):
        Model([2, 1]).save(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match=r"path must lie in a folder that exists, got .*c'"):
        Model([2, 1]).save(tmp_path / "c")
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]
    assert os.readlink(tmp_path / "a") == "b"


@POSIX
def test_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"path must name a regular file or none yet, got .*pipe'"):
        Model([2, 1]).save(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def longest_name(folder):
    """The most bytes a name in the folder may have: 255 on most file systems."""
    return os.pathconf(folder, "PC_NAME_MAX")


@POSIX
@pytest.mark.parametrize("character", ["n", "é", "字"])
def test_a_name_as_long_as_the_file_system_takes(character, tmp_path):
    width = len(character.encode())
    name = character * (longest_name(tmp_path) // width)
    Model([2, 1]).save(tmp_path / name)
    assert fastnn.load(tmp_path / name).sizes == (2, 1)
    with pytest.raises(OSError, match="too long"):
        Model([2, 1]).save(tmp_path / (name + character))
    assert os.listdir(tmp_path) == [name]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_what_a_killed_save_left_goes_with_a_later_save(saved, run_python):
    before = saved.read_bytes()
    source = """
import os, signal, sys, fastnn
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
fastnn.Model([7, 2]).save(sys.argv[1])
"""
    for _ in range(2):
        assert run_python(source, saved, check=False).returncode == -signal.SIGKILL
    assert saved.read_bytes() == before
    left = sorted(saved.parent.glob(".fastnn-*.tmp"))
    assert len(left) == 2
    hour_ago = saved.stat().st_mtime - 3700
    os.utime(left[0], (hour_ago, hour_ago))
    for _ in range(2):
        Model([7, 2]).save(saved)
        assert fastnn.load(saved).sizes == (7, 2)
        # the other one is so young that its save may still run
        assert [path for path in saved.parent.iterdir() if path.is_file()] in ([saved, left[1]], [left[1], saved])
    os.utime(left[1], (hour_ago, hour_ago))
    Model([7, 2]).save(saved)
    assert [path for path in saved.parent.iterdir() if path.is_file()] == [saved]


def test_the_content_is_on_the_disk_before_the_file_moves(saved, monkeypatch):
    done = []
    replace = os.replace

    def record(descriptor):
        done.append(("fsync", os.fstat(descriptor).st_size))

    def record_and_replace(old, new):
        done.append(("replace", os.stat(old).st_size))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(os, "replace", record_and_replace)
    Model([7, 2]).save(saved)
    size = saved.stat().st_size
    assert done == [("fsync", size), ("replace", size)]


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError):
        Model([2, 1]).save(tmp_path / "nowhere" / "model")
    assert os.listdir(tmp_path) == []


def test_a_folder_in_place_of_the_file(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(OSError, match="model"):
        Model([2, 1]).save(tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_save_keeps_the_old_file(error, saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(type(error)):
            Model([7, 2]).save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_parameters_that_are_not_finite_are_not_saved(value, dtype, saved):
    before = saved.read_bytes()
    model = Model([4, 9, 3], rng=0, dtype=dtype)
    model.weights[0][7, 2] = value
    with pytest.raises(ValueError, match=rf"the parameters must be finite .* got layers\.0\.weight\[7, 2\] = {value}"):
        model.save(saved)
    model.weights[0][7, 2] = 0
    model.biases[1][2] = value
    with pytest.raises(ValueError, match=rf"the parameters must be finite .* got layers\.1\.bias\[2\] = {value}"):
        model.save(saved.parent / "another")
    assert os.listdir(saved.parent) == [saved.name]
    assert saved.read_bytes() == before


def test_a_model_that_trains_meanwhile_is_saved_as_it_was(path, monkeypatch):
    """Another thread may change the parameters after the checksum is taken."""
    model = Model([4, 9, 3], rng=0)
    before = model.parameters.tobytes()
    original = hashlib.sha256

    def change_and_sum(*arguments):
        for parameters in (*model.weights, *model.biases):
            parameters += 1
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "sha256", change_and_sum)
        model.save(path)
    assert model.parameters.tobytes() != before
    assert fastnn.load(path).parameters.tobytes() == before


WRONG_PATHS = [
    (3, "3"),
    (None, "None"),
    (b"model", "b'model'"),
    (["model"], r"\['model'\]"),
]


@pytest.mark.parametrize(("value", "shown"), WRONG_PATHS, ids=repr)
@pytest.mark.parametrize("use", [Model([2, 1], rng=0).save, fastnn.load])
def test_a_path_is_a_string_or_a_path_object(use, value, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match=rf"^path must be a string or a path object, got {shown}$"):
        use(value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("use", [Model([2, 1], rng=0).save, fastnn.load])
def test_a_path_holds_no_null_character(use, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^path must not hold a null character, got 'a\\x00b'$"):
        use("a\0b")
    assert os.listdir(tmp_path) == []


# ---- reading what is not a model ----


def fails(path, reason):
    """Loading raises a ValueError that names the path and the reason."""
    with pytest.raises(ValueError, match=rf"path must name .*{path.name}.*{reason}") as error:
        fastnn.load(path)
    assert str(path) in str(error.value)


def test_no_such_file(path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        fastnn.load(path)


def test_a_file_that_may_not_be_read(saved):
    saved.chmod(0)
    if os.access(saved, os.R_OK):
        pytest.skip("this user may read every file, or this system has no such permission")
    with pytest.raises(PermissionError, match=r"model\.safetensors"):
        fastnn.load(saved)


def test_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        fastnn.load(tmp_path)


def test_a_file_cut_anywhere(saved):
    content = saved.read_bytes()
    for size in {0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1}:
        saved.write_bytes(content[:size])
        fails(saved, "")


def test_a_file_with_more_at_its_end(saved):
    saved.write_bytes(saved.read_bytes() + b"\0")
    fails(saved, "")


@pytest.mark.parametrize("size", [5, 8, 100, 10_000])
def test_random_bytes(size, path):
    path.write_bytes(np.random.default_rng(size).bytes(size))
    fails(path, "")


def test_a_foreign_safetensors_file(path):
    save_file({"x": np.zeros(3)}, path)
    fails(path, "without fastnn's header")
    save_file({"x": np.zeros(3)}, path, {"format": "pt"})
    fails(path, "without fastnn's header")


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3"])
def test_a_foreign_file_of_a_type_that_numpy_lacks(kind, path):
    size = {"BF16": 2, "F8_E4M3": 1}[kind]
    header = json.dumps({"x": {"dtype": kind, "shape": [4], "data_offsets": [0, 4 * size]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4 * size)
    fails(path, "without fastnn's header")


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "I32"])
def test_a_model_file_of_other_types(kind, path):
    size = {"BF16": 2, "F8_E4M3": 1, "I32": 4}[kind]
    metadata = {"format": "fastnn", "format_version": "1", "model": "{}"}
    tensor = {"dtype": kind, "shape": [4], "data_offsets": [0, 4 * size]}
    header = json.dumps({"__metadata__": metadata, "x": tensor}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4 * size)
    fails(path, f"with x of {kind}")


@pytest.mark.parametrize("version", ["0", "3", "5", "999", "", "01", REMOVED])
def test_another_format_version(version, saved):
    rewrite(saved, format_version=version)
    fails(saved, "version")


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"layers.1.bias": REMOVED}, "layers.1.bias"),
        ({"layers.0.weight": REMOVED}, "layers.0.weight"),
        ({"layers.0.weight": np.zeros((4, 9), "f4")}, r"layers.0.weight is float32 \(4, 9\), not float32 \(9, 4\)"),
        ({"layers.0.weight": np.zeros((9, 1), "f4")}, r"layers.0.weight is float32 \(9, 1\), not float32 \(9, 4\)"),
        ({"layers.1.bias": np.zeros((), "f4")}, r"layers.1.bias is float32 \(\), not float32 \(3,\)"),
        ({"layers.1.bias": np.zeros(3, "f8")}, r"layers.1.bias is float64 \(3,\), not float32 \(3,\)"),
        ({"layers.2.bias": np.zeros(3, "f4")}, r"its tensors are .*'layers.2.bias'\], not \['layers.0.bias'"),
    ],
)
def test_tensors_that_do_not_fit(tensors, reason, saved):
    rewrite(saved, tensors)
    fails(saved, reason)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"n_inputs": 5}, r"layers.0.weight is float32 \(9, 4\), not float32 \(9, 5\)"),
        ({"n_inputs": 10**30}, "is float32 .* not float32"),
        ({"n_inputs": 10**17}, "is float32 .* not float32"),
        ({"n_inputs": 0}, "n_inputs must be at least 1"),
        ({"n_inputs": REMOVED}, "n_inputs"),
        ({"layers": []}, "it has no layer"),
        ({"layers": [3]}, "int"),
        ({"layers": 3}, "int"),
        ({"layers": [{"units": 9}, {"units": 3}]}, "activation"),
        ({"layers": [{"units": 9, "activation": "sigmoid"}]}, "its tensors are"),
        ({"layers": [{"units": 9, "activation": "swish"}, {"units": 3, "activation": "sigmoid"}]}, "swish"),
        ({"dtype": 5}, ""),
        ({"loss": "mse"}, "loss must be one of"),
        ({"loss": {"name": "mse"}}, "mse"),
        ({"loss": {"name": "huber", "delta": -1}}, "delta must be a finite number above 0"),
        ({"loss": {"name": "huber", "q": 0.5}}, "q"),
        ({"dtype": "float16"}, "dtype must be one of"),
        ({"dtype": "float64"}, "is float32 .* not float64"),
        ({"input_scale": "big"}, "input_scale must be a number"),
        ({"input_scale": REMOVED}, "input_scale"),
        ({"frozen": [7]}, "frozen must be"),
        ({"frozen": "no"}, "frozen must be"),
        ({"frozen": REMOVED}, "frozen"),
        ({"random": -1}, "random must be at least 0"),
        ({"random": 2**64}, "large"),
        ({"random": "seed"}, "random must be an integer"),
        ({"random": 0.5}, "random must be an integer"),
        ({"split_seed": -1}, "split_seed must be at least 0"),
        ({"split_seed": [1]}, "split_seed must be an integer"),
        ({"feature_names": "abcd"}, "feature_names must be a list of strings or null"),
        ({"feature_names": [1, 2]}, "feature_names must be a list of strings or null"),
        ({"feature_names": ["a"]}, "feature_names must name . columns, got 1"),
    ],
    ids=str,
)
def test_descriptions_that_do_not_fit(model, reason, saved):
    rewrite(saved, model=model)
    fails(saved, reason)


NORM = {"kind": "BatchNorm", "momentum": 0.1, "epsilon": 1e-5, "activation": "tanh"}
SUM = {"kind": "Residual", "layers": [{"kind": "Scale"}], "activation": "identity"}


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ({**NORM, "kind": "Conv"}, "kind must be one of"),
        ({**NORM, "kind": ["Dense"]}, "kind must be one of"),
        ({**NORM, "kind": None}, "kind must be one of"),
        ({"kind": "PReLU"}, "PReLU must have the settings"),
        ({"kind": "PReLU", "init": None}, "init must be a number, got None"),
        ({"kind": "PReLU", "init": 1e39}, "init of PReLU must be a finite number in float32"),
        ({**NORM, "kind": "LayerNorm"}, "LayerNorm must have the settings"),
        ({**NORM, "kind": "Dense"}, "Dense must have the settings"),
        ({**NORM, "units": 4}, "BatchNorm must have the settings"),
        ({"kind": "BatchNorm"}, "BatchNorm must have the settings"),
        ({**NORM, "momentum": 2}, "momentum must be in"),
        ({**NORM, "momentum": "big"}, "momentum must be a number"),
        ({**NORM, "epsilon": 0}, "epsilon must be"),
        ({**NORM, "epsilon": 1e-60}, "epsilon must be a normal number in float32"),
        ({**NORM, "activation": "softmax"}, "activation must be one of"),
        ({**NORM, "activation": {"custom": "mine"}}, "mine"),
        ({"kind": "Scale", "activation": "tanh"}, "Scale must have the settings"),
        ({**SUM, "layers": []}, "Residual must have at least one layer"),
        ({**SUM, "layers": 3}, "int"),
        ({**SUM, "layers": [3]}, "int"),
        ({**SUM, "layers": [{"units": 5, "activation": "tanh"}]}, "got 5 neurons after 4"),
        ({"kind": "Residual", "activation": "identity"}, "Residual must have the settings"),
        (SUM, "its tensors are"),
        (NORM, "its tensors are"),
    ],
    ids=str,
)
def test_layers_that_do_not_fit(layer, reason, saved):
    dense = [{"units": units, "activation": "sigmoid"} for units in (9, 3)]
    rewrite(saved, model={"layers": [layer, *dense]})
    fails(saved, reason)


def test_a_running_variance_below_zero_is_refused(path):
    """Its root is no number."""
    model = Model([4, fastnn.BatchNorm(), 3], rng=0)
    model.save(path)
    rewrite(path, {"layers.0.running_variance": np.array([1, 1, -0.5, 1], np.float32)})
    fails(path, "layers.0.running_variance must be at least 0, got -0.5")
    rewrite(path, {"layers.0.running_variance": np.zeros(4, np.float32)})
    assert not fastnn.load(path).tensors[0]["running_variance"].any()


def test_residual_links_hundreds_deep_are_refused(saved):
    layer = {"kind": "Scale"}
    for _ in range(400):
        layer = {"kind": "Residual", "layers": [layer], "activation": "identity"}
    rewrite(saved, model={"layers": [layer, {"units": 3, "activation": "sigmoid"}]})
    fails(saved, "")


def test_rewriting_nothing_is_fine(saved):
    before = fastnn.load(saved)
    rewrite(saved)
    assert fastnn.load(saved).parameters.tobytes() == before.parameters.tobytes()


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '"model"', REMOVED, DEEP, f'{{"layers": {DEEP}}}'], ids=lambda text: text[:20]
)
def test_descriptions_that_are_no_description(text, saved):
    metadata = {"format": "fastnn", "format_version": "1"} | ({} if text is REMOVED else {"model": text})
    save_file(load_file(saved), saved, metadata)
    fails(saved, "")


def test_a_deeply_nested_header(path):
    header = f'{{"format": "fastnn", "x": {DEEP}}}'.encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    fails(path, "recursion")


# ---- damaged files ----


def test_every_flipped_bit_is_found(path):
    """Wherever it is: in the size of the header, the description, the checksum, the tensors."""
    Model([2, 3, 1], rng=0).save(path)
    content = path.read_bytes()
    missed = []
    with open(path, "r+b", buffering=0) as file:
        for place, bit in itertools.product(range(len(content)), range(8)):
            file.seek(place)
            file.write(bytes([content[place] ^ 1 << bit]))
            try:
                fastnn.load(path)
                missed.append((place, bit))
            except ValueError as error:
                assert str(path) in str(error)  # noqa: PT017
            file.seek(place)
            file.write(content[place : place + 1])
    assert missed == []
    assert fastnn.load(path).sizes == (2, 3, 1)


@pytest.mark.parametrize("seed", range(5))
def test_changed_bytes_of_a_tensor_are_found(seed, saved):
    content = bytearray(saved.read_bytes())
    rng = np.random.default_rng(seed)
    n = 4 * (4 * 9 + 9 + 9 * 3 + 3)  # the tensors are the last bytes
    places = rng.choice(n, 5, replace=False) + 1
    for place in places:
        content[-place] ^= int(rng.integers(1, 256))
    saved.write_bytes(content)
    fails(saved, "does not match the checksum")


@pytest.mark.parametrize(
    ("tensors", "model"),
    [
        (None, {"input_scale": 2.0}),
        (None, {"random": 7}),
        (None, {"layers": [{"units": 9, "activation": "tanh"}, {"units": 3, "activation": "sigmoid"}]}),
        ({"layers.1.bias": np.ones(3, "f4")}, None),
    ],
    ids=["scale", "random", "layers", "tensor"],
)
def test_a_changed_model_needs_a_new_checksum(tensors, model, saved):
    with safe_open(saved, "numpy") as file:
        old = file.metadata()["sha256"]
    rewrite(saved, tensors, model)
    assert fastnn.load(saved).sizes == (4, 9, 3)
    rewrite(saved, tensors, model, sha256=old)
    fails(saved, "does not match the checksum")


@pytest.mark.parametrize("wrong", [REMOVED, "", "0" * 64])
def test_a_missing_or_wrong_checksum(wrong, saved):
    rewrite(saved, sha256=wrong)
    fails(saved, "does not match the checksum")


def test_a_file_of_version_1_has_no_checksum(saved):
    expected = fastnn.load(saved)
    rewrite(saved, format_version="1", sha256=REMOVED)
    loaded = fastnn.load(saved)
    assert repr(loaded) == repr(expected)
    assert loaded.parameters.tobytes() == expected.parameters.tobytes()


@pytest.mark.parametrize("header", [{}, {"format_version": "1", "sha256": REMOVED}], ids=["version 4", "version 1"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_file_with_parameters_that_are_not_finite(value, header, saved):
    bias = np.array([0, value, 0], "f4")
    rewrite(saved, {"layers.1.bias": bias}, **header)
    fails(saved, rf"with layers\.1\.bias\[1\] = {value}")
    weight = np.zeros((9, 4), "f4")
    weight[8, 3] = value
    rewrite(saved, {"layers.1.bias": np.zeros(3, "f4"), "layers.0.weight": weight}, **header)
    fails(saved, rf"with layers\.0\.weight\[8, 3\] = {value}")


@pytest.mark.parametrize("suffix", [".onnx", ".pt", ".pth", ".h5", ".keras", ".pkl", ".joblib", ".npz", ".ONNX"])
def test_a_name_of_another_format_is_refused(suffix, tmp_path):
    message = rf"path must not end in '{suffix}', .* format, got 'm{suffix}'; .* safetensors: 'm.safetensors'"
    with pytest.raises(ValueError, match=message):
        Model([2, 1]).save(tmp_path / f"m{suffix}")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", exporting.FORMATS)
def test_a_name_of_an_export_is_refused(suffix, tmp_path):
    message = rf"path must not end in '{suffix}', .* format, got 'm{suffix}'; `export` writes such a file, and a model"
    made = Model([2, 1]), fastnn.Population([2, 1], 2)
    for each in made:
        with pytest.raises(ValueError, match=message):
            each.save(tmp_path / f"m{suffix}")
    assert os.listdir(tmp_path) == []
    assert {*storage.EXPORTED} == {*exporting.FORMATS}


@pytest.mark.parametrize("name", ["m.safetensors", "m", "m.v2", "pt", ".pt", "m.onnx.d/m"])
def test_other_names_are_allowed(name, tmp_path):
    (tmp_path / "m.onnx.d").mkdir()
    Model([2, 1]).save(tmp_path / name)
    assert fastnn.load(tmp_path / name).sizes == (2, 1)


# ---- what others do to files meanwhile, and file systems that refuse ----


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("size", [0, 300])
def test_a_file_that_is_cut_while_it_is_read(size, saved, run_python):
    """Truncated in place, as `cp` does it: a file that is mapped would end the process with SIGBUS."""
    source = """
import os, sys
import fastnn
from fastnn.files import storage

check = storage._check_header

def cut(*arguments):
    os.truncate(sys.argv[1], int(sys.argv[2]))
    check(*arguments)

storage._check_header = cut
print(fastnn.load(sys.argv[1]).parameters.tobytes().hex())
"""
    expected = fastnn.load(saved).parameters.tobytes().hex()
    assert run_python(source, saved, size).stdout == f"{expected}\n"


def test_a_foreign_file_is_not_read_to_its_end(path):
    """Nor one whose header promises much: the file takes no space on the disk, but would take it in memory."""
    save_file({"x": np.zeros(3)}, path)
    os.truncate(path, 2**40)
    fails(path, "without fastnn's header")
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    fails(path, "without fastnn's header")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="this system has no such files")
@pytest.mark.parametrize(
    ("name", "error"),
    [("/proc/version", ValueError), ("/proc/self/mem", OSError), ("/dev/null", FileNotFoundError)],
)
@pytest.mark.parametrize("use", [fastnn.load, fastnn.load_idx])
def test_an_error_about_an_odd_file_names_it(use, name, error):
    if use is fastnn.load_idx and name == "/dev/null":
        error = ValueError
    with pytest.raises(error, match=name):
        use(name)


@pytest.mark.parametrize("number", ["EPERM", "EACCES", "ENOTSUP", "EINVAL", "ENOSYS", "EROFS"])
def test_a_drive_without_chmod_and_fsync(number, saved, monkeypatch):
    def refuse(*_):
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    with monkeypatch.context() as patch:
        patch.setattr(os, "chmod", refuse)
        Model([7, 2], rng=0).save(saved)
        assert fastnn.load(saved).sizes == (7, 2)
        patch.setattr(os, "fsync", refuse)
        if number == "EACCES":
            with pytest.raises(PermissionError, match=r"model\.safetensors"):
                Model([5, 2], rng=0).save(saved)
        else:
            Model([5, 2], rng=0).save(saved)
            assert fastnn.load(saved).sizes == (5, 2)
    assert os.listdir(saved.parent) == [saved.name]


@pytest.mark.parametrize("number", ["EIO", "ENOSPC", "EDQUOT"])
def test_a_full_or_broken_disk_keeps_the_old_file(number, saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*_):
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=r"model\.safetensors"):
            Model([7, 2]).save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is full")
def test_a_write_to_a_full_disk_names_the_path(saved, monkeypatch):
    """The file that is written is /dev/full, which answers as a full disk does."""
    before, real = saved.read_bytes(), os.open
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda name, flags, *mode: real("/dev/full", os.O_WRONLY))
        with pytest.raises(OSError, match=r"No space left on device: .*model\.safetensors"):
            Model([7, 2]).save(saved)
    assert saved.read_bytes() == before


def test_a_folder_that_goes_while_saving(tmp_path, monkeypatch):
    """The error is that of the save, whatever cleaning up says."""
    (tmp_path / "folder").mkdir()
    replace = os.replace

    def gone(old, new):
        os.rename(tmp_path / "folder", tmp_path / "elsewhere")
        (tmp_path / "folder").touch()
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", gone)
        with pytest.raises(NotADirectoryError, match=r"fastnn-.*tmp' -> .*model'"):
            Model([7, 2]).save(tmp_path / "folder" / "model")


@POSIX
def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = Model([3, 1], rng=0)
    model.save("~/one")
    saving = fastnn.ModelCheckpoint("~/two-{epoch}", save_best_only=False)
    logger = fastnn.CSVLogger("~/log.csv")
    model.fit(np.eye(3), np.zeros(3), epochs=1, batch_size=3, callbacks=[saving, logger])
    assert sorted(os.listdir(tmp_path)) == ["log.csv", "one", "two-1"]
    assert fastnn.load("~/one").sizes == fastnn.load(tmp_path / "one").sizes == (3, 1)
    (tmp_path / "labels").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    assert fastnn.load_idx("~/labels").tolist() == [7, 2, 1]
    np.save("x.npy", np.eye(3))
    np.save("y.npy", np.zeros(3))
    assert model.fit(fastnn.Stream.from_npy("~/x.npy", "~/y.npy"), epochs=1, batch_size=3).loss[0] > 0
    os.mkdir("~")  # a folder of that name can be named in another way
    model.save("./~/three")
    assert os.listdir(tmp_path / "~") == ["three"]
    model.save("~nobody-of-this-name")
    assert (tmp_path / "~nobody-of-this-name").exists()


# ---- functions of the user's own ----


def square(z):
    return z * z


def double(z):
    return z + z


def distance(a, y):
    return (a - y) * (a - y)


def slope(a, y):
    return (a - y) + (a - y)


def test_different_functions_of_one_name_are_not_saved(path):
    """A file could not tell which is which."""
    one = fastnn.Activation(lambda z: z, lambda z: 1.0, name="mine")
    two = fastnn.Activation(square, double, name="mine")
    loss = fastnn.Loss(distance, slope, name="mine")
    for layers, of_loss in (([Dense(3, one), Dense(1, two)], "quadratic"), ([Dense(1, one)], loss)):
        model = Model([2, *layers], loss=of_loss, rng=0)
        with pytest.raises(
            ValueError, match=r"names, so they must differ, got 'mine' for two: Activation\(\.\.\., name"
        ):
            model.save(path)
        assert not path.exists()


def test_one_function_may_be_used_twice(path):
    one, twin = (fastnn.Activation(square, double, name="mine") for _ in range(2))
    other, loss = fastnn.Activation(square, double, name="another"), fastnn.Loss(distance, slope)
    model = Model([2, Dense(3, one), Dense(3, twin), Dense(1, other)], loss=loss, rng=0)
    model.save(path)
    loaded = fastnn.load(path, custom={"mine": one, "another": other, "distance": loss})
    np.testing.assert_array_equal(loaded.predict(np.eye(2)), model.predict(np.eye(2)))


# ---- an optimizer's numbers ----

SCHEDULED = fastnn.Adam(fastnn.ExponentialDecay(0.01, 0.99, per="step"))


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (0, np.nan, r"numbers\[0\] must be a finite number at least 0, got nan"),
        (0, np.inf, r"numbers\[0\] must be a finite number at least 0, got inf"),
        (1, -0.5, r"numbers\[1\] must be a finite number at least 0, got -0\.5"),
        (1, 1.5, r"numbers\[1\] must be a number of at most 1, got 1\.5"),
        (0, "0.5", r"numbers\[0\] must be a number, got '0\.5'"),
        (0, True, r"numbers\[0\] must be a number, got True"),
        (0, None, r"numbers\[0\] must be a number, got None"),
        (2, 0.5, r"numbers\[2\] must be a number of at most 0, got 0\.5"),
        (5, 1.2e18, r"numbers\[5\] must be a whole number of at most 2\.8.*e\+14, got 1\.2e\+18"),
        (5, 2.5, r"numbers\[5\] must be a whole number of at most .*, got 2\.5"),
        (6, -1, r"numbers\[6\] must be a finite number at least 0, got -1"),
    ],
    ids=str,
)
def test_a_file_with_wrong_numbers_of_an_optimizer(place, value, reason, path, blobs):
    model = Model([6, 3], rng=0)
    model.fit(*blobs, epochs=2, batch_size=30, optimizer=SCHEDULED)
    model.save(path)
    with safe_open(path, "numpy") as file:
        optimizer = json.loads(file.metadata()["model"])["optimizer"]
    assert optimizer["numbers"][5:] == [20, 2]
    numbers = list(optimizer["numbers"])
    numbers[place] = value
    rewrite(path, model={"optimizer": optimizer | {"numbers": numbers}})
    fails(path, reason)
    rewrite(path, model={"optimizer": optimizer | {"numbers": optimizer["numbers"][:-1]}})
    fails(path, "an optimizer's numbers must be a list of 7")
    rewrite(path, model={"optimizer": optimizer})
    assert fastnn.load(path).parameters.tobytes() == model.parameters.tobytes()


@pytest.mark.parametrize("position", [2**48, 2**40 + 1])
def test_the_largest_position_can_be_trained_on(position, path, blobs):
    model = Model([6, 3], rng=0)
    model.fit(*blobs, epochs=1, batch_size=30, optimizer=SCHEDULED)
    model.save(path)
    with safe_open(path, "numpy") as file:
        optimizer = json.loads(file.metadata()["model"])["optimizer"]
    rewrite(path, model={"optimizer": optimizer | {"numbers": [*optimizer["numbers"][:5], position, 1]}})
    history = fastnn.load(path).fit(*blobs, epochs=1, batch_size=30, optimizer=SCHEDULED)
    assert history.learning_rate == [0.0]  # 0.99 to that power


@pytest.mark.parametrize(
    ("name", "vector"),
    [("Adam", "v"), ("Nadam", "v"), ("AdamW", "v"), ("RMSprop", "v"), ("Adagrad", "v"), ("Rprop", "size")],
)
def test_a_mean_of_squares_is_not_negative(name, vector, path, blobs):
    model = Model([6, 3], rng=0)
    model.fit(*blobs, epochs=2, batch_size=300, optimizer=getattr(fastnn, name)())
    model.save(path)
    tensor = f"optimizer.{vector}.layers.0.bias"
    values = load_file(path)[tensor]
    assert (values >= 0).all()
    assert (values > 0).any()
    rewrite(path, {tensor: -values})
    fails(path, rf"the tensors optimizer\.{vector} must not be negative, got -")
