"""Networks of other people's public repositories: each is taken in and computes the same, or is refused by name.

The folder FASTNN_PUBLIC_FILES holds the files, as `owner+name/path` of a repository of GitHub. Not all of them may be
passed on, so none is here:

- fastmachinelearning+example-models (no licence): onnx/*.onnx, keras/*.json and keras/*.h5; whole networks, such as
  keras/keras_3layer.h5, are in older commits alone: they are read from the folder `history`.
- kraiskil+onnx2c: test/{mnist,tfl_helloworld,velardo,local_ops,simple_networks}, examples/atmega_mnist.
- sisl+NNet (MIT): nnet/TestNetwork2.{onnx,nnet}, nnet/KerasTestNetwork.h5.
- stanleybak+acasxu_closed_loop_sim (GPL-3): acasxu_dubins/*.onnx.
- stanleybak+vnncomp2021: benchmarks/acasxu/*.onnx, which are read from the folder `vnncomp`.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("h5py", reason="the extra keras is not installed")

import h5py
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import fastnn
from fastnn import Dense

from .test_from_onnx import with_inputs_as_constants

FOLDER = Path(os.environ.get("FASTNN_PUBLIC_FILES") or os.devnull)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="FASTNN_PUBLIC_FILES names no folder of public files"),
]
rng = np.random.default_rng(0)
EXAMPLES, ONNX2C = "fastmachinelearning+example-models", "kraiskil+onnx2c"
ACASXU = "stanleybak+acasxu_closed_loop_sim/acasxu_dubins/ACASXU_run2a_{}_1_batch_2000.onnx"
RELU, ACAS = ["relu"] * 3, (5, *[50] * 6, 5)
JETS = (16, 64, 32, 32, 5), [*RELU, "softmax"]
NETWORKS = {  # sizes and activations
    f"{EXAMPLES}/onnx/two_layer_keras.onnx": ((10, 32, 1), ["relu", "sigmoid"]),
    f"{EXAMPLES}/onnx/two_layer_pytorch.onnx": ((10, 32, 1), ["relu", "sigmoid"]),
    f"{EXAMPLES}/onnx/three_layer_keras.onnx": JETS,
    f"{EXAMPLES}/onnx/three_layer_pytorch.onnx": JETS,
    f"{EXAMPLES}/onnx/three_layer_bn_keras.onnx": JETS,
    f"{EXAMPLES}/onnx/three_layer_bn_pytorch.onnx": JETS,
    f"{EXAMPLES}/onnx/dense_big_keras.onnx": ((16, *[100] * 5, 5), [*["relu"] * 5, "softmax"]),
    f"{ONNX2C}/test/tfl_helloworld/model.onnx": ((1, 16, 16, 1), ["relu", "relu", "identity"]),
    f"{ONNX2C}/test/velardo/lesson9.onnx": ((2, 5, 1), ["sigmoid", "sigmoid"]),
    f"{ONNX2C}/test/velardo/lesson14.onnx": ((1690, 512, 256, 64, 10), [*RELU, "softmax"]),
    f"{ONNX2C}/test/mnist/pytorch.onnx": ((784, 64, 64, 10), ["identity"] * 3),
    "sisl+NNet/nnet/TestNetwork2.onnx": (ACAS, [*RELU, *RELU, "identity"]),
    **{ACASXU.format(i): (ACAS, [*RELU, *RELU, "identity"]) for i in range(1, 6)},
}
REFUSED = {
    f"{EXAMPLES}/onnx/conv1d_small_keras.onnx": r"\(Conv\)",
    f"{EXAMPLES}/onnx/conv2d_small_keras.onnx": r"\(Conv\)",
    f"{EXAMPLES}/onnx/conv2d_small_mp_keras.onnx": r"\(Conv\)",
    f"{EXAMPLES}/onnx/bnn_model_fc_1layer.onnx": r"\(onnx.brevitas.BipolarQuant\): its operator is none of ONNX's own",
    f"{EXAMPLES}/onnx/branched_model_ch_last.onnx": r"\(qonnx.custom_op.general.Quant\)",
    f"{ONNX2C}/examples/atmega_mnist/mnist.simplified.onnx": r"\(Conv\)",
    f"{ONNX2C}/test/mnist/model.onnx": r"\(Conv\)",
    f"{ONNX2C}/test/simple_networks/conv_3ch.onnx": r"\(Conv\)",
    f"{ONNX2C}/test/simple_networks/maxpool_k2.onnx": r"\(MaxPool\)",
    f"{ONNX2C}/test/simple_networks/lstm_k1_b1_r1.onnx": "must have a declared number of features",
    f"{ONNX2C}/test/simple_networks/treeensembleclassifier.onnx": r"\(ai.onnx.ml.TreeEnsembleClassifier\)",
}


PRODUCTS = [f"test_gemm_{each}" for each in ("C1", "C1_transB", "C1x1", "C1xN", "CN", "CN_transB")]
PRODUCTS += [f"test_matmul_{each}" for each in ("2x3_3x4", "3_3", "3_3x4", "3x4_4", "precision")]


def found(name):
    """The path of a file; skips where it is not there."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{name} is not there")
    return path


def rows(n, n_inputs):
    """Rows as large as the normalised inputs of ACAS Xu, whose networks cancel large sums beyond them."""
    return rng.uniform(-0.5, 0.5, (n, n_inputs)).astype(np.float32)


def softmax(z):
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


FUNCTIONS = {
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softmax": softmax,
}


def by_runtime(path, X):
    """What ONNX Runtime gives; it raises for batches other than the declared one."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(path)
    (given,) = (each for each in session.get_inputs() if each.name not in initializers(path))
    one = given.shape[0] == 1 or len(given.shape) == 1
    parts = X[:, None] if one else X[None]
    shape = given.shape if one else [len(X), *given.shape[1:]]
    return np.concatenate([session.run(None, {given.name: part.reshape(shape)})[0].reshape(-1) for part in parts])


def initializers(path):
    return {each.name for each in onnx.load(path).graph.initializer}


def by_reference(path, X):
    """What onnx's own implementation gives."""
    evaluator = ReferenceEvaluator(onnx.load(path))
    (name,) = (each for each in evaluator.input_names if each not in initializers(path))
    with np.errstate(all="ignore"):
        return evaluator.run(None, {name: X})[0]


def by_numpy(path, X):
    """What a reading of the weights gives, in double."""
    graph = onnx.load(path).graph
    constants = {each.name: numpy_helper.to_array(each).astype(float) for each in graph.initializer}
    value = X.astype(float)
    for node in graph.node:
        of = [constants[name] for name in node.input[1:]]
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "Gemm":
            value = value @ of[0] + of[1]
        elif node.op_type == "BatchNormalization":
            value = (value - of[2]) / np.sqrt(of[3] + attributes["epsilon"]) * of[0] + of[1]
        elif node.op_type != "Transpose":
            value = FUNCTIONS[node.op_type.lower()](value)
    return value


def computed(path, X):
    """(what a file gives for rows, by which of the three: the first one that runs it)."""
    for by in (by_runtime, by_reference):
        try:
            outputs = by(path, X)
        except Exception:  # of any kind
            continue
        if outputs.size == len(X) * (outputs.size // len(X)) and np.isfinite(outputs).all():
            return outputs, by.__name__
    return by_numpy(path, X), by_numpy.__name__


def compare(model, X, outputs):
    """Raise where outputs are further than 1e-5 from those of a model, relative to those above 1; gives how far."""
    got = model.predict(X).astype(float)
    apart = np.abs(got - outputs.reshape(got.shape)) / np.maximum(1, np.abs(got))
    assert apart.max() <= 1e-5
    return apart.max()


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    path, (sizes, activations) = found(name), NETWORKS[name]
    model = fastnn.from_onnx(path)
    assert (model.sizes, [layer.activation for layer in model.layers]) == (sizes, activations)
    X = rows(64, sizes[0])
    outputs, by = computed(path, X)
    print(f"{name}: within {compare(model, X, outputs):.1e}, {by}")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    with pytest.raises(ValueError, match=f"path must name an ONNX file .*{REFUSED[name]}"):
        fastnn.from_onnx(found(name))


def test_networks_of_a_competition(record_property):
    """Networks of ACAS Xu, as many as there are."""
    paths = sorted(found("vnncomp").glob("*.onnx"))
    assert paths
    X = rows(16, 5)
    for path in paths:
        outputs, by = computed(path, X)
        print(f"{path}: within {compare(fastnn.from_onnx(path), X, outputs):.1e}, {by}")


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob(f"{ONNX2C}/test/local_ops/test_[gm]*m[mu]*")))
def test_products_with_expected_outputs(name, tmp_path):
    """Gemm and MatMul with the outputs that the repository expects; rows on the right and stacks are refused."""
    folder = found(f"{ONNX2C}/test/local_ops/{name}")
    arrays = {each.stem: numpy_helper.to_array(onnx.load_tensor(each)) for each in folder.glob("test_data_set_0/*.pb")}
    inputs = [arrays[key] for key in sorted(arrays) if key.startswith("input")]
    onnx.save(with_inputs_as_constants(onnx.load(folder / "model.onnx"), inputs), tmp_path / "net.onnx")
    if name not in PRODUCTS:
        with pytest.raises(ValueError, match=r"\((Gemm|MatMul)\): (transA must|its weights must|it has|it multiplies)"):
            fastnn.from_onnx(tmp_path / "net.onnx")
        return
    model = fastnn.from_onnx(tmp_path / "net.onnx")
    compare(model, inputs[0].reshape(-1, model.sizes[0]), arrays["output_0"])


def test_the_text_of_a_network_of_nnet():
    """TestNetwork2.nnet says in text what TestNetwork2.onnx computes: inputs and outputs are normalised there."""
    text = found("sisl+NNet/nnet/TestNetwork2.nnet").read_text()
    lines = [line.strip(", ") for line in text.splitlines() if not line.startswith("//")]
    numbers = [np.array(line.split(","), float) for line in lines]
    sizes, least, most, means, ranges = numbers[1].astype(int), *numbers[3:7]
    X = rng.uniform(least, most, (64, sizes[0])).astype(np.float32)
    value, rest = (X.astype(float) - means[:-1]) / ranges[:-1], numbers[7:]
    for i, n in enumerate(sizes[1:], 2):
        value = value @ np.array(rest[:n]).T + np.concatenate(rest[n : 2 * n])
        value, rest = value if i == len(sizes) else np.maximum(value, 0), rest[2 * n :]
    assert not rest
    model = fastnn.from_onnx(found("sisl+NNet/nnet/TestNetwork2.onnx"))
    expected = value * ranges[-1] + means[-1]
    np.testing.assert_allclose(model.predict(X), expected, 1e-5, 1e-5 * ranges[-1])


# ---- Keras ----

BIG = [f"dense_16x{'x'.join([str(n)] * 5)}x5" for n in (100, 200, 500)]
PRUNED = [f"3layer_{n}pruned_retrained" for n in (70, 95)]
KERAS = {name: name for name in ("1layer", "3layer", "3layer_batch_norm", *BIG)} | dict.fromkeys(PRUNED, "3layer")
KERAS_REFUSED = {
    "KERAS_3layer_binary_smaller": "of class 'BinaryDense': fastnn has no such layer",
    "KERAS_3layer_ternary_small": "of class 'TernaryDense': fastnn has no such layer",
    "KERAS_conv1d": "of class 'Conv1D': fastnn has no such layer",
    "KERAS_conv2d_model": "of class 'Conv2D': fastnn has no such layer",
    "qkeras_3layer": "of class 'QDense': it is not one of Keras' own|of class 'QDense': fastnn has no such layer",
    "jetTagger_Conv2D_Small": "it reads values of shape",
    "garnet_1layer": "must have one of input_layers",
}


def joined(folder, description, weights):
    """A description and weights as the one file that Keras' `save` writes."""
    described = json.loads(found(f"{EXAMPLES}/keras/{description}.json").read_text())
    with h5py.File(found(f"{EXAMPLES}/keras/{weights}_weights.h5")) as old, h5py.File(folder / "net.h5", "w") as new:
        new.attrs["model_config"] = json.dumps(described)
        new.attrs["keras_version"] = old.attrs["keras_version"]
        old.copy(old["model_weights"] if "model_weights" in old else old["/"], new, "model_weights")
    return folder / "net.h5"


def by_h5py(path, X):
    """What a reading of a file's weights gives, in double, with its layers in their order."""
    with h5py.File(path) as file:
        config = json.loads(file.attrs["model_config"])["config"]
        value = X.astype(float)
        for layer in config if isinstance(config, list) else config["layers"]:
            kind, config = layer["class_name"], layer["config"]
            if kind in ("InputLayer", "Dropout"):
                continue
            variables = dict[str, np.ndarray]()
            file["model_weights"][config["name"]].visititems(
                lambda name, each, found=variables: (
                    found.update({name.rpartition("/")[2]: np.array(each, float)})
                    if isinstance(each, h5py.Dataset)
                    else None
                )
            )
            of = {key.removesuffix(":0").removeprefix(config["name"] + "_"): each for key, each in variables.items()}
            if kind == "BatchNormalization":
                factor = of["gamma"] / np.sqrt(of["moving_variance"] + config["epsilon"])
                value = (value - of["moving_mean"]) * factor + of["beta"]
                continue
            if kind == "Dense":
                value = value @ of.get("kernel", of.get("W")) + of.get("bias", of.get("b"))
            value = FUNCTIONS[config["activation"]](value)
    return value


def check_keras(path):
    model = fastnn.from_keras(path)
    assert isinstance(model.layers[-1], Dense)
    X = rows(64, model.sizes[0])
    print(f"{path}: within {compare(model, X, by_h5py(path, X)):.1e}")


@pytest.mark.filterwarnings("ignore:the network was compiled with the loss:UserWarning")
@pytest.mark.parametrize(
    "name", [*(f"history/keras_{each}.h5" for each in KERAS), "sisl+NNet/nnet/KerasTestNetwork.h5"]
)
def test_files_of_keras(name):
    """Whole networks, as Keras 1.2 and 2 wrote them."""
    check_keras(found(name))


@pytest.mark.parametrize("name", KERAS)
def test_weights_of_keras(name, tmp_path):
    """Weights alone are refused; with their description they are a network."""
    with pytest.raises(ValueError, match="a file of weights alone"):
        fastnn.from_keras(found(f"{EXAMPLES}/keras/KERAS_{name}_weights.h5"))
    check_keras(joined(tmp_path, f"KERAS_{KERAS[name]}", f"KERAS_{name}"))


@pytest.mark.parametrize("name", KERAS_REFUSED)
def test_what_is_refused_of_keras(name, tmp_path):
    with pytest.raises(ValueError, match=KERAS_REFUSED[name]):
        fastnn.from_keras(joined(tmp_path, name, name))
