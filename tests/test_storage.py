"""Files: whole or not at all, the same bits back, and a clear error for everything else."""

import json
import os
import struct

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fastnn
from fastnn import Dense, Model

REMOVED = "removed"
ACTIVATIONS = ["identity", "sigmoid", "tanh", "relu", "step"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def saved(path):
    """A path with a model [4, 9, 3] in it."""
    Model([4, 9, 3], rng=0).save(path)
    return path


def rewrite(path, tensors=None, model=None, **header):
    """Save the file again with tensors, parts of the description or of the header replaced; REMOVED takes one out."""
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    description = json.loads(metadata["model"]) | (model or {})
    metadata |= {"model": json.dumps({k: v for k, v in description.items() if v is not REMOVED})} | header
    metadata = {k: v for k, v in metadata.items() if v is not REMOVED}
    arrays = load_file(path) | (tensors or {})
    save_file({k: v for k, v in arrays.items() if v is not REMOVED}, path, metadata)


# ---- what comes back ----


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


def test_special_values_come_back(path):
    model = Model([2, 2], dtype="float64")
    model.weights[0][...] = [[np.nan, np.inf], [-0.0, 5e-324]]
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
    assert header["format_version"] == "1"
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


@pytest.mark.skipif(os.name != "posix", reason="file modes are a matter of POSIX")
def test_the_file_has_the_mode_of_any_new_file(saved):
    plain = saved.parent / "plain"
    plain.touch()
    assert saved.stat().st_mode == plain.stat().st_mode


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


# ---- reading what is not a model ----


def fails(path, reason):
    """Loading raises a ValueError that names the path and the reason."""
    with pytest.raises(ValueError, match=rf"path must name .*{path.name}.*{reason}") as error:
        fastnn.load(path)
    assert str(path) in str(error.value)


def test_no_such_file(path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        fastnn.load(path)


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


@pytest.mark.parametrize("version", ["2", "999", "", REMOVED])
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
        ({"layers": []}, "its tensors are"),
        ({"layers": [3]}, "int"),
        ({"layers": 3}, "int"),
        ({"layers": [{"units": 9}, {"units": 3}]}, "activation"),
        ({"layers": [{"units": 9, "activation": "sigmoid"}]}, "its tensors are"),
        ({"layers": [{"units": 9, "activation": "swish"}, {"units": 3, "activation": "sigmoid"}]}, "swish"),
        ({"dtype": 5}, ""),
        ({"loss": "mse"}, "loss must be one of"),
        ({"dtype": "float16"}, "is float32 .* not float16"),
        ({"dtype": "float64"}, "is float32 .* not float64"),
        ({"input_scale": "big"}, "input_scale must be a number"),
        ({"input_scale": REMOVED}, "input_scale"),
        ({"frozen": [7]}, "layers must be indices"),
        ({"frozen": "no"}, "layers must be an integer"),
        ({"frozen": REMOVED}, "frozen"),
        ({"random": -1}, "random must be at least 0"),
        ({"random": 2**64}, "large"),
        ({"random": "seed"}, "random must be an integer"),
        ({"random": 0.5}, "random must be an integer"),
        ({"split_seed": -1}, "split_seed must be at least 0"),
        ({"split_seed": [1]}, "split_seed must be an integer"),
    ],
    ids=str,
)
def test_descriptions_that_do_not_fit(model, reason, saved):
    rewrite(saved, model=model)
    fails(saved, reason)


def test_rewriting_nothing_is_fine(saved):
    before = fastnn.load(saved)
    rewrite(saved)
    assert fastnn.load(saved).parameters.tobytes() == before.parameters.tobytes()


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"model"', None])
def test_descriptions_that_are_no_description(text, saved):
    metadata = {"format": "fastnn", "format_version": "1"} | ({} if text is None else {"model": text})
    save_file(load_file(saved), saved, metadata)
    fails(saved, "")
