"""Networks of Keras: files that Keras 3 wrote, with the outputs that it computed; files of another making; to_keras."""

import copy
import functools
import importlib.util
import io
import itertools
import json
import sys
import warnings
import zipfile
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("h5py", reason="the extra keras is not installed")

import h5py

import fastnn
from fastnn import BatchNorm, Dense, Embedding, Huber, LayerNorm, Model, PReLU, Residual, Scale
from fastnn.settings.layers import HIDDEN

from ..cases import DTYPES
from .keras_files import ARCHIVE

rng = np.random.default_rng(0)


@functools.cache
def contents():
    """{name: bytes} of the files in the archive."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


EXPECTED = json.loads(contents()["expected.json"])
COMPUTED = sorted(name for name in contents() if name.partition(".")[0] in EXPECTED and name != "expected.json")


def put(tmp_path, name, content=None):
    """The path of a file, of the archive's where nothing else is given."""
    path = tmp_path / name
    path.write_bytes(contents()[name] if content is None else content)
    return path


# ---- what Keras wrote and computed ----


@pytest.mark.parametrize("name", COMPUTED)
def test_files_of_keras(name, tmp_path):
    expected = EXPECTED[name.partition(".")[0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fastnn.from_keras(put(tmp_path, name))
    X, outputs = np.array(expected["X"]), np.array(expected["outputs"])
    of_16_bits = "float16" in name
    tolerance = 1e-13 if name.startswith("float64") else 2e-2 if of_16_bits else 2e-6
    error = np.abs(model.predict(X) - outputs) / np.maximum(1, np.abs(outputs))
    assert error.max() < tolerance
    assert model.dtype == ("float64" if name.startswith("float64") else "float32")


def test_what_the_files_become(tmp_path):
    """Layers, losses and what does not train."""

    def read(name):
        return fastnn.from_keras(str(put(tmp_path, name)))

    whole = read("whole.keras")
    norm = BatchNorm(1 - 0.99, 1e-3, "relu")
    layers = [Dense(6, "identity"), norm, Dense(5, "gelu"), LayerNorm(1e-3), PReLU(), Dense(3, "softmax")]
    assert [*whole.layers] == layers
    assert whole.loss_name == "cross_entropy"
    assert whole.frozen == frozenset()
    assert np.allclose(whole.input_shift, [5, -3, 0, 100], atol=2)
    functional = read("functional.h5")
    assert [layer.activation for layer in functional.layers] == ["leaky_relu", "silu", "sigmoid"]
    assert functional.loss_name == "cross_entropy"
    activations = read("activations.keras")
    assert activations.frozen == {2}
    assert activations.loss_name == "quadratic"
    images = read("images.keras")
    assert images.sizes == (6, 4, 3)
    assert images.input_scale == 1 / 255
    assert images.input_shift is None
    regression = read("regression.keras")
    assert [*map(type, regression.layers)] == [Dense, LayerNorm, Dense, BatchNorm, Dense]
    assert regression.layers[3] == BatchNorm(1 - 0.9, 1e-5, "relu")
    assert regression.loss_name == "absolute_error"
    assert read("units.h5").loss_name == "quadratic"
    assert read("units.h5").input_shift == 2.0


def test_it_goes_on_training(tmp_path):
    model = fastnn.from_keras(put(tmp_path, "whole.keras"))
    X, y = rng.normal([5, -3, 0, 100], 2, (60, 4)), np.arange(60) % 3
    before = model.loss(X, y)
    model.fit(X, y, epochs=30, batch_size=20, optimizer=fastnn.Adam())
    assert model.loss(X, y) < before
    model.save(tmp_path / "model")
    assert fastnn.load(tmp_path / "model").predict(X).tobytes() == model.predict(X).tobytes()


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("added", "layer 'add' of class 'Add': "),
        ("two outputs", "one of output_layers"),
        ("leaky_relu", r"of class 'Dense': its leaky_relu has the slope 0.2 below zero, fastnn's 0.01"),
        ("lambda", "layer 'lambda' of class 'Lambda': fastnn has no such layer"),
        ("nested", "layer 'sequential_[0-9]*' of class 'Sequential': fastnn has no such layer"),
    ],
)
def test_what_is_refused(name, named, tmp_path):
    path = put(tmp_path, f"{name}.keras")
    with pytest.raises(ValueError, match=f"^path must name a Keras model .*{named}") as error:
        fastnn.from_keras(path)
    assert str(path) in str(error.value)


def test_keras_is_not_imported(run_python, tmp_path):
    path = put(tmp_path, "whole.keras")
    source = f"import fastnn, sys; fastnn.from_keras({str(path)!r}); print(*sorted(sys.modules))"
    loaded = {name.split(".")[0] for name in run_python(source).stdout.split()}
    assert "h5py" in loaded
    assert not loaded & {"keras", "tensorflow", "jax", "torch"}


# ---- files of another making ----


def layer(kind, **config):
    """What Keras writes of a layer."""
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


INPUT = layer("InputLayer", name="inputs", batch_shape=[None, 2], dtype="float32")
WEIGHTS = [np.array([[1.0, 2.0], [3.0, 4.0]], "f4"), np.array([5.0, 6.0], "f4")]
DENSE = layer("Dense", name="dense", units=2)


def archived(layers=(INPUT, DENSE), weights=None, root=None, store=None, how=zipfile.ZIP_STORED, **further):
    """The bytes of a .keras file. weights: {group: arrays}. store: the bytes of model.weights.h5."""
    described = {"class_name": "Sequential", "config": {"layers": list(layers), **further}, **(root or {})}
    weights = {"dense": WEIGHTS} if weights is None else weights
    if store is None:
        made = io.BytesIO()
        with h5py.File(made, "w") as file:
            for name, arrays in weights.items():
                for i, array in enumerate(arrays):
                    file[f"layers/{name}/vars/{i}"] = array
        store = made.getvalue()
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", how) as archive:
        archive.writestr("config.json", json.dumps(described))
        archive.writestr("model.weights.h5", store)
    return found.getvalue()


def read(tmp_path, *arguments, **options):
    return fastnn.from_keras(put(tmp_path, "made.keras", archived(*arguments, **options)))


def test_a_file_of_another_making(tmp_path):
    assert read(tmp_path).predict([[10, 100]]).tolist() == [[315, 426]]


def test_shifts_and_factors_of_inputs(tmp_path):
    """One after another, a number or one for each input; then those behind a linear layer."""
    several = [layer("Rescaling", name="a", scale=[2.0], offset=3.0), layer("Rescaling", name="b", scale=[1.0, -4.0])]
    several.append(layer("Normalization", name="c", mean=[0.5, 1.0], variance=[4.0, 0.0]))
    weights = {"dense": WEIGHTS, "dense_1": [np.array([[1.0], [2.0]], "f4"), np.array([3.0], "f4")]}
    last = [layer("Dense", name="last", units=1), layer("Normalization", name="d", mean=5, variance=9, axis=None)]
    last.append(layer("Rescaling", name="e", scale={"class_name": "__numpy__", "config": {"value": [10.0]}}))
    X = np.array([[10.0, 0.25], [1.0, 2.0]])
    deviation = np.array([2.0, 1e-7])
    inputs = ((X * 2.0 + 3.0) * [1.0, -4.0] - [0.5, 1.0]) / deviation
    outputs = ((inputs @ WEIGHTS[0] + WEIGHTS[1]) @ [[1.0], [2.0]] + 3.0 - 5) / 3 * 10
    model = read(tmp_path, [INPUT, *several, DENSE, *last], weights)
    assert model.predict(X) == pytest.approx(outputs, rel=1e-6)
    assert model.sizes == (2, 2, 1)


def test_factors_within(tmp_path):
    """Behind an activation they become part of the next Dense, and so do factors of zero."""
    within = [layer("ReLU", name="r"), layer("Rescaling", name="s", scale=[-2.0, 0.0], offset=1.0)]
    weights = {"dense": WEIGHTS, "dense_1": [np.array([[1.0], [2.0]], "f4"), np.array([3.0], "f4")]}
    none = layer("Rescaling", name="none", scale=[0.0, 1.0])
    X = np.array([[10.0, 0.25], [1.0, -5.0]])
    hidden = np.maximum((X * [0, 1]) @ WEIGHTS[0] + WEIGHTS[1], 0) * [-2, 0] + 1
    model = read(tmp_path, [INPUT, none, *behind(*within)[1:]], weights)
    assert model.predict(X) == pytest.approx(hidden @ [[1.0], [2.0]] + 3.0, rel=1e-6)
    assert [*model.layers] == [Dense(2, "relu"), Dense(1, "identity")]


@pytest.mark.parametrize("activation", ["relu", "softmax"])
def test_a_last_batch_normalization(activation, tmp_path):
    """It becomes part of the Dense before it, which keeps its activation and does not train where it did not."""
    norm = [np.array(each, "f4") for each in ([2.0, 3.0], [1.0, -1.0], [0.5, 1.5], [3.0, 8.0])]
    frozen = layer("Dense", name="dense", units=2, trainable=False)
    ends = [layer("BatchNormalization", name="b", epsilon=1.0), layer("Activation", name="a", activation=activation)]
    model = read(tmp_path, [INPUT, frozen, *ends], {"dense": WEIGHTS, "batch_normalization": norm})
    assert [*model.layers] == [Dense(2, activation)]
    assert model.frozen == {0}
    z = (np.array([[0.5, -2.0]]) @ WEIGHTS[0] + WEIGHTS[1] - norm[2]) / [2, 3] * norm[0] + norm[1]
    expected = np.maximum(z, 0) if activation == "relu" else np.exp(z) / np.exp(z).sum()
    assert model.predict([[0.5, -2.0]]) == pytest.approx(expected, rel=1e-6)


def test_older_sequential_models(tmp_path):
    """Without a layer for the inputs, and with a list of layers as the whole config."""
    first = {"class_name": "Dense", "config": {"name": "one", "units": 2, "batch_input_shape": [None, 2]}}
    for config in ({"layers": [first]}, [first]):
        with h5py.File(tmp_path / "old.h5", "w") as file:
            file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": config})
            group = file.create_group("model_weights/one")
            group["one/kernel:0"], group["one/bias:0"] = WEIGHTS
        assert fastnn.from_keras(tmp_path / "old.h5").predict([[10, 100]]).tolist() == [[315, 426]]


def test_files_of_keras_1(tmp_path):
    first = {"name": "one", "output_dim": 2, "bias": True, "activation": "relu", "batch_input_shape": [None, 2]}
    last = {"name": "two", "output_dim": 1, "bias": False, "activation": "linear", "input_dim": 2}
    with h5py.File(tmp_path / "old.h5", "w") as file:
        config = [{"class_name": "Dense", "config": each} for each in (first, last)]
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": config})
        file.attrs["keras_version"] = "1.2.1"
        file["model_weights/one/one_W"], file["model_weights/one/one_b"] = WEIGHTS
        file["model_weights/two/two_W"] = np.array([[1.0], [10.0]], "f4")
    hidden = np.maximum(np.array([[1.0, -2.0]]) @ WEIGHTS[0] + WEIGHTS[1], 0)
    assert np.allclose(fastnn.from_keras(tmp_path / "old.h5").predict([[1.0, -2.0]]), hidden @ [[1.0], [10.0]])


def test_groups_in_a_circle(tmp_path):
    first = {"class_name": "Dense", "config": {"name": "one", "units": 2, "batch_input_shape": [None, 2]}}
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": [first]}})
        group = file.create_group("model_weights/one")
        group["one"] = group
    with pytest.raises(ValueError, match="layer 'one' of class 'Dense'"):
        fastnn.from_keras(tmp_path / "old.h5")


def test_very_many_heaps(tmp_path):
    """Each costs a look through a part of the file, so their number is limited."""
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["model_config"] = "{}"
        file.create_group("model_weights")
        file["bytes"] = np.frombuffer(b"GCOL\1\0\0\0" * 100_000, "u1")
    with pytest.raises(ValueError, match="its texts must have at most"):
        fastnn.from_keras(tmp_path / "old.h5")


def test_a_link_within_a_name(tmp_path):
    """No part of a name leads to another file."""
    (tmp_path / "other.h5").write_bytes(contents()["whole.h5"])
    first = {"class_name": "Dense", "config": {"name": "far/dense", "units": 2, "batch_input_shape": [None, 2]}}
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": [first]}})
        file["model_weights/far"] = h5py.ExternalLink("other.h5", "/model_weights")
    with pytest.raises(ValueError, match=r"'far' in its file must not be a link|has no 'far'"):
        fastnn.from_keras(tmp_path / "old.h5")


def behind(*layers):
    """A network with layers between two Dense ones."""
    return [INPUT, DENSE, *layers, layer("Dense", name="last", units=1)]


OWN = {"module": "builtins", "class_name": "function", "config": "relu", "registered_name": "function"}
REFUSED = {  # (layers, what the error names)
    "unknown activation": ([INPUT, layer("Dense", name="d", units=2, activation="relu6")], "'d'.*'relu6'"),
    "own activation": ([INPUT, layer("Dense", name="d", units=2, activation=OWN)], "'d'.*no activation"),
    "own layer": ([INPUT, {**DENSE, "registered_name": "mine>Dense"}], "'dense'.*not one of Keras' own"),
    "own module": ([INPUT, {**DENSE, "module": "__main__"}], "'dense'.*not one of Keras' own"),
    "slope": (behind(layer("LeakyReLU", name="l", negative_slope=0.3)), "'l' of class 'LeakyReLU'.* 0.3"),
    "slope of relu": (behind(layer("ReLU", name="r", negative_slope=0.5)), "'r' of class 'ReLU'.* 0.5"),
    "relu6": (behind(layer("ReLU", name="r", max_value=6)), "'r' of class 'ReLU'.*max_value"),
    "elu": (behind(layer("ELU", name="e", alpha=0.5)), "'e' of class 'ELU'.*alpha 1, got 0.5"),
    "softmax within": (behind(layer("Softmax", name="s")), "'last' of class 'Dense': it follows a softmax"),
    "softmax of one": ([*behind(), layer("Softmax", name="s")], "'s' of class 'Softmax'.*at least two outputs"),
    "two activations": (behind(layer("ReLU", name="r"), layer("ELU", name="e")), "'e' of class 'ELU'.*another.*relu"),
    "activation first": ([INPUT, layer("ReLU", name="r"), DENSE], "'r' of class 'ReLU'.*after a dense layer"),
    "of inputs": ([layer("InputLayer", name="i", batch_shape=[None]), DENSE], "'i' of class 'InputLayer'.*shape"),
    "of text": ([layer("InputLayer", name="i", batch_shape=[None, 2], dtype="string"), DENSE], "'i'.*string"),
    "any length": ([layer("InputLayer", name="i", batch_shape=[None, None, 2]), DENSE], "'i' of class 'InputLayer'"),
    "not flat": ([layer("InputLayer", name="i", batch_shape=[None, 2, 2]), DENSE], "'dense'.*Flatten"),
    "channels": (
        [
            layer("InputLayer", name="i", batch_shape=[None, 1, 2]),
            layer("Flatten", name="f", data_format="channels_first"),
        ],
        "'f'.*channels_last",
    ),
    "reshape": ([INPUT, layer("Reshape", name="r", target_shape=[1, 2]), DENSE], "'r' of class 'Reshape'"),
    "int8": ([INPUT, layer("Dense", name="d", units=2, dtype="int8_from_float32")], "'d'.*int8_from_float32"),
    "ends in a norm": ([INPUT, DENSE, layer("LayerNormalization", name="n", scale=False, center=False)], "'n'.*dense"),
    "axis": (behind(layer("BatchNormalization", name="b", axis=0)), "'b'.*axis"),
    "renorm": (behind(layer("BatchNormalization", name="b", renorm=True)), "'b'.*renorm"),
    "rms": (behind(layer("LayerNormalization", name="n", rms_scaling=True)), "'n'.*rms_scaling"),
    "momentum": (behind(layer("BatchNormalization", name="b", momentum=2)), "'b'.*"),
    "shared slopes": (behind(layer("PReLU", name="p", shared_axes=[1])), "'p'.*shared_axes"),
    "no factor": ([INPUT, layer("Rescaling", name="r", offset=2.0), DENSE], "'r' of class 'Rescaling'.*finite"),
    "offset within": (
        behind(layer("ReLU", name="r"), layer("Rescaling", name="s", scale=2.0, offset=1.0), layer("PReLU", name="p")),
        "'p' of class 'PReLU': it adds an offset where no dense layer is beside it",
    ),
    "three factors": ([INPUT, layer("Rescaling", name="r", scale=[1, 2, 3]), DENSE], "'r'.*or 2"),
    "factors of text": ([INPUT, layer("Rescaling", name="r", scale="a"), DENSE], "'r'.*scale"),
    "variance": ([INPUT, layer("Normalization", name="n", mean=[0, 0], variance=[1, -1]), DENSE], "'n'.*negative"),
    "lora": ([INPUT, layer("Dense", name="d", units=2, lora_rank=4)], "'d'.*lora_rank"),
    "units": ([INPUT, layer("Dense", name="d", units=2.5)], "'d' of class 'Dense'.*units"),
    "wider": ([INPUT, layer("Dense", name="d", units=3)], "'d' of class 'Dense'.*shapes"),
    "no bias": ([INPUT, layer("Dense", name="d", units=2, use_bias=False)], "'d' of class 'Dense'.*shapes"),
    "no layer": ([], "list of layers"),
    "no Dense": ([INPUT], "no layer Dense"),
    "no layer at all": (["layer"], r"layers\[0\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_that_are_refused(name, tmp_path):
    layers, named = REFUSED[name]
    weights = {"dense": WEIGHTS, "batch_normalization": [np.ones(2, "f4")] * 4, "p_re_lu": [np.ones(2, "f4")]}
    weights |= {"dense_1": [np.ones((2, 1), "f4"), np.ones(1, "f4")], "layer_normalization": []}
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        for group, arrays in weights.items():
            file.create_group(f"layers/{group}/vars")
            for i, array in enumerate(arrays):
                file[f"layers/{group}/vars/{i}"] = array
    with pytest.raises(ValueError, match=f"made.keras'.*{named}"):
        read(tmp_path, layers, store=made.getvalue())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite(value, tmp_path):
    with pytest.raises(ValueError, match=r"'dense' of class 'Dense'.*finite"):
        read(tmp_path, weights={"dense": [WEIGHTS[0], np.array([0.0, value], "f4")]})
    large = [WEIGHTS[0].astype("f8") * 1e200, WEIGHTS[1].astype("f8")]
    with pytest.raises(ValueError, match=r"'dense' of class 'Dense'.*finite in float32"):
        read(tmp_path, weights={"dense": large})


def test_a_negative_variance(tmp_path):
    weights = {"dense": WEIGHTS, "dense_1": [np.ones((2, 1), "f4"), np.ones(1, "f4")]}
    weights["batch_normalization"] = [np.ones(2, "f4")] * 3 + [-np.ones(2, "f4")]
    with pytest.raises(ValueError, match=r"'b' of class 'BatchNormalization'.*negative"):
        read(tmp_path, behind(layer("BatchNormalization", name="b")), weights)


LOSSES = [
    ("mse", "linear", "quadratic"),
    ("MeanAbsoluteError", "relu", "absolute_error"),
    ({"class_name": "Huber", "config": {"delta": 2.0}}, "linear", Huber(2.0)),
    ({"class_name": "function", "config": "log_cosh"}, "linear", "log_cosh"),
    ("hinge", "linear", "hinge"),
    ("poisson", "exponential", "poisson"),
    ("binary_crossentropy", "sigmoid", "cross_entropy"),
    ({"class_name": "CategoricalCrossentropy", "config": {"from_logits": False}}, "softmax", "cross_entropy"),
    (None, "softmax", "cross_entropy"),
    (None, "sigmoid", "quadratic"),
]


@pytest.mark.parametrize(("compiled", "activation", "loss"), LOSSES)
def test_losses(compiled, activation, loss, tmp_path):
    dense = layer("Dense", name="dense", units=2, activation=activation)
    root = {"compile_config": None if compiled is None else {"loss": compiled}}
    model = read(tmp_path, [INPUT, dense], root=root)
    assert model._network.architecture.loss == loss


@pytest.mark.parametrize(
    ("compiled", "activation", "default"),
    [
        ("mape", "linear", "quadratic"),
        ("poisson", "linear", "quadratic"),
        ("mse", "softmax", "cross_entropy"),
        ({"class_name": "BinaryCrossentropy", "config": {"from_logits": True}}, "sigmoid", "quadratic"),
        ({"a": "mse"}, "linear", "quadratic"),
    ],
)
def test_losses_that_fastnn_has_not(compiled, activation, default, tmp_path):
    dense = layer("Dense", name="dense", units=2, activation=activation)
    content = archived([INPUT, dense], root={"compile_config": {"loss": compiled}})
    path = put(tmp_path, "made.keras", content)
    with pytest.warns(UserWarning, match=f"loss is '{default}'") as found:
        assert fastnn.from_keras(path).loss_name == default
    assert found[0].filename == __file__
    given = "cross_entropy" if activation == "softmax" else "absolute_error"
    assert fastnn.from_keras(path, loss=given).loss_name == given  # without a warning


def test_a_wrong_loss(tmp_path):
    with pytest.raises(ValueError, match="loss must be one of"):
        fastnn.from_keras(tmp_path / "none", loss="mse")
    with pytest.raises(ValueError, match="loss 'poisson' does not go with the output"):
        fastnn.from_keras(put(tmp_path, "whole.keras"), loss="poisson")


@pytest.mark.parametrize("version", ["2.15.0", None])
def test_older_files(version, tmp_path):
    """HDF5 as Keras 2 wrote it, put together here: names of variables, inputs, calls and policies are other ones."""
    call = lambda name: [[[name, 0, 0, {}]]]  # noqa: E731
    policy = {"class_name": "Policy", "config": {"name": "float32"}}
    dense = {"class_name": "Dense", "config": {"name": "one", "units": 2, "activation": "relu", "dtype": policy}}
    leaky = {"class_name": "LeakyReLU", "config": {"name": "leaky", "alpha": np.float32(0.01).item()}}
    last = {"class_name": "Dense", "config": {"name": "two", "units": 1, "use_bias": False, "activation": "linear"}}
    inputs = {"class_name": "InputLayer", "config": {"name": "in", "batch_input_shape": [None, 2]}, "inbound_nodes": []}
    dense["config"]["activation"] = "linear"
    layers = [inputs, dense | {"inbound_nodes": call("in")}, leaky | {"inbound_nodes": call("one")}]
    layers.append(last | {"inbound_nodes": call("leaky")})
    config = {"layers": layers, "input_layers": [["in", 0, 0]], "output_layers": [["two", 0, 0]]}

    def write(text=str.encode):
        with h5py.File(tmp_path / "old.h5", "w") as file:
            described = json.dumps({"class_name": "Functional", "config": config})
            file.attrs["model_config"] = text(described)
            file.attrs["training_config"] = text(json.dumps({"loss": "mae"}))
            if version:
                file.attrs["keras_version"] = text(version)
            for name, arrays in {"one": WEIGHTS, "two": [np.array([[1.0], [10.0]], "f4")]}.items():
                for which, array in zip(("kernel", "bias"), arrays, strict=False):
                    file[f"model_weights/{name}/{name}/{which}:0"] = array

    z = np.array([[1.0, -2.0]]) @ WEIGHTS[0] + WEIGHTS[1]
    for text in (str, str.encode, np.bytes_):  # of any length, and of a fixed one
        write(text)
        model = fastnn.from_keras(tmp_path / "old.h5")
        assert np.allclose(model.predict([[1.0, -2.0]]), np.where(z > 0, z, 0.01 * z) @ [[1.0], [10.0]])
        assert model.loss_name == "absolute_error"
    layers[1]["config"]["activation"] = "hard_sigmoid"
    write()
    with pytest.raises(ValueError, match="layer 'one' of class 'Dense': hard_sigmoid of Keras 2"):
        fastnn.from_keras(tmp_path / "old.h5")
    with h5py.File(tmp_path / "old.h5", "a") as file:
        file.attrs["model_config_2"] = json.dumps({"class_name": "Functional", "config": {}})
    with pytest.raises(ValueError, match="model_config must be in the file once"):
        fastnn.from_keras(tmp_path / "old.h5")


def test_a_file_of_weights_alone(tmp_path):
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = WEIGHTS[0]
    with pytest.raises(ValueError, match="weights alone"):
        fastnn.from_keras(tmp_path / "net.weights.h5")


# ---- hostile files ----


def test_texts_are_not_read_by_libhdf5(tmp_path, monkeypatch):
    """For a text of any length it would take the 4 GB that 4 bytes of a file may speak of."""
    monkeypatch.setattr(h5py.AttributeManager, "__getitem__", lambda self, name: pytest.fail(name))
    expected = EXPECTED["whole"]
    model = fastnn.from_keras(put(tmp_path, "whole.h5"))
    assert model.predict(expected["X"]) == pytest.approx(np.array(expected["outputs"]), abs=2e-6)


def stored(make):
    """The bytes of a model.weights.h5 whose first variable a function makes."""
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        make(file)
        if "layers/dense/vars/1" not in file:
            file["layers/dense/vars/1"] = WEIGHTS[1]
    return made.getvalue()


def chunked(file):
    file.create_dataset("layers/dense/vars/0", data=WEIGHTS[0], chunks=(2, 2), compression="gzip")


def not_written(file):
    file.create_dataset("layers/dense/vars/0", (2, 2), "f4")


def elsewhere(file):
    file.create_dataset("layers/dense/vars/0", (2, 2), "f4", external=[("/etc/passwd", 0, 16)])


def virtual(file):
    layout = h5py.VirtualLayout((2, 2), "f4")
    layout[...] = h5py.VirtualSource("other.h5", "data", (2, 2))
    file.create_virtual_dataset("layers/dense/vars/0", layout)


def soft(file):
    file["numbers"] = WEIGHTS[0]
    file["layers/dense/vars/0"] = h5py.SoftLink("/numbers")


def outside(file):
    file["layers/dense/vars/0"] = h5py.ExternalLink("other.h5", "/numbers")


def of_integers(file):
    file["layers/dense/vars/0"] = WEIGHTS[0].astype("i4")


def of_any_length(file):
    file.create_dataset("layers/dense/vars/0", (2, 2), h5py.vlen_dtype(np.float32))[0, 0] = np.ones(5, "f4")


def a_group(file):
    file.create_group("layers/dense/vars/0")


def nothing(file):
    file["layers/dense/vars/0"] = h5py.Empty("f4")


HOSTILE = (chunked, not_written, of_any_length, elsewhere, virtual, soft, outside, of_integers, a_group, nothing)


@pytest.mark.parametrize("make", HOSTILE)
def test_variables_that_are_stored_otherwise(make, tmp_path):
    with pytest.raises(ValueError, match=r"made.keras'.*layer 'dense' of class 'Dense': .*'0'"):
        read(tmp_path, store=stored(make))


def test_a_large_shape_takes_no_memory(tmp_path):
    """2^60 numbers that a file only speaks of."""
    huge = layer("Dense", name="dense", units=2**30)
    inputs = layer("InputLayer", name="inputs", batch_shape=[None, 2**30])
    with pytest.raises(ValueError, match="'dense' of class 'Dense'"):
        read(
            tmp_path,
            [inputs, huge],
            store=stored(lambda file: file.create_dataset("layers/dense/vars/0", (2**30,) * 2, "f4")),
        )
    norm = layer("LayerNormalization", name="norm", scale=False, center=False)
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file.create_group("layers/layer_normalization/vars")
    with pytest.raises(ValueError, match="'norm' of class 'LayerNormalization': it has more numbers than the file"):
        read(tmp_path, [inputs, norm, DENSE], store=made.getvalue())


def test_one_array_under_many_names(tmp_path):
    """Hard links give a file any number of layers for the size of one."""
    n = 40
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file["layers/dense/vars/0"] = rng.normal(size=(300, 300)).astype("f4")
        for i in range(1, n):
            file[f"layers/dense_{i}/vars/0"] = file["layers/dense/vars/0"]
    layers = [layer("Dense", name=f"d{i}", units=300, use_bias=False) for i in range(n)]
    inputs = layer("InputLayer", name="inputs", batch_shape=[None, 300])
    with pytest.raises(ValueError, match=r"'d[0-9]*' of class 'Dense': it has more numbers than the file"):
        read(tmp_path, [inputs, *layers], store=made.getvalue())


def test_a_compressed_archive(tmp_path):
    with pytest.raises(ValueError, match="neither compressed nor encrypted"):
        read(tmp_path, how=zipfile.ZIP_DEFLATED)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * 2**28)
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(ValueError, match="at most 2097152 bytes"):
        fastnn.from_keras(put(tmp_path, "bomb.keras", bomb.getvalue()))


def test_a_description_that_is_packed_otherwise(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("config.json", "{}", zipfile.ZIP_LZMA)
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(ValueError, match=r"config\.json must be stored as it is, or deflated"):
        fastnn.from_keras(put(tmp_path, "packed.keras", packed.getvalue()))


def test_an_archive_of_very_many_files(tmp_path):
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for i in range(3000):
            archive.writestr(f"{i:01000}", b"")
    with pytest.raises(ValueError, match="at most 2097152 bytes"):
        fastnn.from_keras(put(tmp_path, "many.keras", many.getvalue()))


def test_a_changed_byte_of_the_numbers(tmp_path):
    content = bytearray(archived())
    at = content.index(WEIGHTS[0].tobytes())
    content[at] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        fastnn.from_keras(put(tmp_path, "changed.keras", bytes(content)))


def test_deep_descriptions(tmp_path):
    deep = "[" * 100_000 + "]" * 100_000
    content = archived().replace(b'"Sequential"', b'"Sequentiel"')
    with pytest.raises(ValueError, match=r"checksum|CRC|Sequentiel"):
        fastnn.from_keras(put(tmp_path, "class.keras", content))
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        archive.writestr("config.json", deep)
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(ValueError, match=r"deep\.keras"):
        fastnn.from_keras(put(tmp_path, "deep.keras", found.getvalue()))


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x89HDF\r\n\x1a\n", b"text", b"\x89HDF\r\n\x1a\n" + bytes(500)])
def test_what_is_no_file_of_keras(content, tmp_path):
    path = put(tmp_path, "file", content)
    with pytest.raises(ValueError, match="path must name a Keras model") as error:
        fastnn.from_keras(path)
    assert str(path) in str(error.value)


def test_wrong_arguments(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="which is not a file"):
        fastnn.from_keras(tmp_path / "none.keras")
    with pytest.raises(FileNotFoundError, match="which is not a file"):
        fastnn.from_keras(tmp_path)
    for wrong in (None, 3, [1], Model([2, 1])):
        with pytest.raises(TypeError, match="path_or_model must be a path or a model of Keras"):
            fastnn.from_keras(wrong)
    path = put(tmp_path, "whole.keras")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match=r"fastnn-numba\[keras\]"):
        fastnn.from_keras(path)


def test_functional_models(tmp_path):
    """Chains in another order of the list, and what is no chain."""

    def call(name, node=0, place=0, **kwargs):
        history = {"class_name": "__keras_tensor__", "config": {"keras_history": [name, node, place]}}
        return [{"args": [history], "kwargs": kwargs}]

    def functional(*layers, **ends):
        ends = {"input_layers": ["inputs", 0, 0], "output_layers": ["last", 0, 0]} | ends
        return read(tmp_path, layers, weights, {"class_name": "Functional"}, **ends)

    weights = {"dense": WEIGHTS, "dense_1": [np.array([[1.0], [2.0]], "f4"), np.array([3.0], "f4")]}
    inputs, first = INPUT | {"inbound_nodes": []}, DENSE | {"inbound_nodes": call("inputs", training=None)}
    last = layer("Dense", name="last", units=1) | {"inbound_nodes": call("dense")}
    expected = read(tmp_path, [INPUT, DENSE, layer("Dense", name="last", units=1)], weights).predict([[1, 2]])
    assert functional(inputs, first, last).predict([[1, 2]]).tolist() == expected.tolist()
    dropout = layer("Dropout", name="dropout", rate=0.5)
    for layers, named in [
        ((inputs, first, last, dropout | {"inbound_nodes": call("dense")}), "'dropout' of class 'Dropout'.*beside"),
        ((inputs, first | {"inbound_nodes": call("inputs") * 2}, last), "'dense'.*used once, got 2"),
        ((inputs, first | {"inbound_nodes": call("last")}, last), "beside the chain"),
        ((inputs, first | {"inbound_nodes": call("none")}, last), "no layer"),
        ((inputs, first | {"inbound_nodes": call("inputs", 1)}, last), "'dense'.*one output"),
        ((inputs, first | {"inbound_nodes": call("inputs", mask=[1])}, last), "'dense'.*arguments of calls"),
        ((inputs, first | {"inbound_nodes": None}, last), "'dense'.*used once"),
        ((inputs, first | {"inbound_nodes": [[]]}, last), "'dense'"),
        ((inputs, first, first, last), "different names"),
    ]:
        with pytest.raises(ValueError, match=named):
            functional(*layers)
    late = last | {"inbound_nodes": call("dropout")}
    assert functional(inputs, first, dropout | {"inbound_nodes": call("dense")}, late).sizes == (2, 2, 1)
    with pytest.raises(ValueError, match=r"'dropout' of class 'Dropout'.*arguments of calls"):
        functional(inputs, first, dropout | {"inbound_nodes": call("dense", training=True)}, late)
    with pytest.raises(ValueError, match="one of input_layers"):
        functional(inputs, first, last, input_layers=[["inputs", 0, 0], ["more", 0, 0]])


# ---- models of Keras in memory, and to_keras ----


FIRST = {"Dense": "units", "Activation": "activation", "Rescaling": "scale"}  # what stands first in calls


class StandIn:
    """A layer that holds what a layer of Keras holds: its class, its settings, its weights."""

    numbers = itertools.count()

    def __init__(self, kind, *arguments, **config):
        names = [FIRST.get(kind), "offset"]
        config = dict(zip(names, arguments, strict=False)) | config
        self.kind, self.config, self.weights = kind, config, []
        self.name, self.trainable = f"{kind}_{next(self.numbers)}", True

    def build(self, shape):
        self.shape = shape

    def set_weights(self, weights):
        self.weights = [np.array(each) for each in weights]

    def get_weights(self):
        return self.weights

    def described(self):
        config = {"name": self.name, "trainable": self.trainable} | copy.deepcopy(self.config)
        return layer(self.kind, **config)


class Sequential:
    """A model of them."""

    def __init__(self, layers):
        self.layers = layers

    def get_config(self):
        return {"layers": [each.described() for each in self.layers]}


class Kinds:
    def __getattr__(self, kind):
        return functools.partial(StandIn, kind)


@pytest.fixture
def stand_in(monkeypatch):
    """A package keras whose models compute nothing."""
    module = ModuleType("keras")
    module.layers, module.Sequential = Kinds(), Sequential
    module.Input = lambda shape, dtype: StandIn("InputLayer", batch_shape=[None, *shape], dtype=dtype)
    monkeypatch.setitem(sys.modules, "keras", module)


ALIKE = [name for name in HIDDEN if name != "step"]
INPUTS = {
    "none": {},
    "a factor": {"input_scale": 1 / 255},
    "factors": {"input_scale": [1.0, -2.0, 0.5, 3.0]},
    "a shift": {"input_shift": 100.0, "input_scale": 0.25},
    "shifts": {"input_shift": [1.0, 2.0, 3.0, 400.0], "input_scale": [1.0, 0.01, 3.0, 0.25]},
    "shifts and negative factors": {"input_shift": [1.0, 2.0, 0.0, 4.0], "input_scale": [1.0, -2.0, 0.5, 3.0]},
}


def networks(dtype):
    """Networks that Keras has, with other numbers than those they began with."""
    options = {"dtype": dtype, "rng": 0}
    found = [Model([4, Dense(5, name), Dense(3, "softmax")], loss="cross_entropy", **options) for name in ALIKE]
    kinds = [Dense(6, "identity"), BatchNorm(0.2, 1e-3, "leaky_relu"), Dense(5, "tanh"), LayerNorm(activation="gelu")]
    kinds += [Dense(4, "identity"), PReLU(), BatchNorm(), Dense(3, "leaky_relu")]
    found += [Model([4, *kinds], **options, **inputs) for inputs in INPUTS.values()]
    found[-1].freeze([1, 2])
    for model in found:
        for tensors in model.tensors:
            for name, tensor in tensors.items():
                low = 0.5 if name == "running_variance" else -1.0
                tensor[...] = rng.uniform(low, 1.5, tensor.shape)
    return found


def check_same(one, other):
    """Raise where two models do not predict the same."""
    X = rng.normal(0, 2, (50, one.sizes[0])).astype(one.dtype)
    tolerance = 1e-12 if one.dtype == "float64" else 1e-6
    outputs = one.predict(X)
    assert (np.abs(other.predict(X) - outputs) <= tolerance * np.maximum(1, np.abs(outputs))).all()
    assert other.dtype == one.dtype
    assert other.frozen == one.frozen
    assert [type(each) for each in one.layers] == [type(each) for each in other.layers]
    assert [each.activation for each in one.layers] == [each.activation for each in other.layers]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("stand_in")
def test_to_keras_and_back_in_memory(dtype):
    for model in networks(dtype):
        check_same(model, fastnn.from_keras(model.to_keras()))


@pytest.mark.usefixtures("stand_in")
def test_what_keras_has_not():
    own = fastnn.Activation(lambda z: z, lambda z: 1.0 + 0 * z, name="own")
    for layers, named in [
        ([3, Scale(), 1], r"no layer such as layers\[0\], Scale"),
        ([3, Residual(Dense(3)), 1], r"no layer such as layers\[0\], Residual"),
        ([3, Embedding([0], [5]), 1], r"no layer such as layers\[0\], Embedding"),
        ([3, 2, Dense(2, "step"), 1], r"no activation such as that of layers\[1\], 'step'"),
        ([3, Dense(2, own), 1], r"no activation such as that of layers\[0\], "),
    ]:
        with pytest.raises(ValueError, match=f"Keras has {named}"):
            Model(layers).to_keras()


def test_without_keras(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ModuleNotFoundError, match="to_keras needs Keras 3 and one of its backends: pip install keras"):
        Model([2, 1]).to_keras()


@pytest.mark.usefixtures("stand_in")
def test_a_compiled_model_in_memory():
    model = Model([2, 1], output="identity").to_keras()
    model.compiled, model.get_compile_config = True, lambda: {"loss": "mae"}
    assert fastnn.from_keras(model).loss_name == "absolute_error"


def test_a_backend_without_float64(stand_in, monkeypatch):
    monkeypatch.setattr(StandIn, "get_weights", lambda self: [each.astype("f4") for each in self.weights])
    with pytest.raises(ValueError, match="float64"):
        Model([2, 1], dtype="float64").to_keras()


KERAS = pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras is not installed")


@KERAS
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras' own code
@pytest.mark.parametrize("dtype", DTYPES)
def test_keras_computes_the_same(dtype, tmp_path):
    """Keras' outputs of what to_keras gives; then its files, both kinds, and its model in memory are read back.

    Keras computes most functions of float64 in float32, so its outputs are compared to that.
    """
    for model in networks(dtype):
        theirs = model.to_keras()
        X = rng.normal(0, 2, (50, 4)).astype(dtype)
        outputs = np.asarray(theirs(X, training=False))
        assert (np.abs(model.predict(X) - outputs) <= 1e-4 * np.maximum(1, np.abs(outputs))).all()
        check_same(model, fastnn.from_keras(theirs))
        for name in ("net.keras", "net.h5"):
            theirs.save(tmp_path / name)
            check_same(model, fastnn.from_keras(tmp_path / name))
