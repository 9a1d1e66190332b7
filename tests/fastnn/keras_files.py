"""Writes keras_files.zip: files of Keras, some inputs, and the outputs that Keras computed. It needs Keras 3 and JAX.

KERAS_BACKEND=jax JAX_ENABLE_X64=1 python tests/fastnn/keras_files.py
"""

import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np

ARCHIVE = Path(__file__).with_suffix(".zip")
NAMES = ["relu", "sigmoid", "tanh", "elu", "selu", "gelu", "silu", "mish", "softplus", "exponential", "hard_sigmoid"]


def build(keras):
    """{name: a model}."""
    kinds, rng = keras.layers, np.random.default_rng(0)
    adapted = kinds.Normalization()
    adapted.adapt(rng.normal([5, -3, 0, 100], [1, 2, 3, 4], (50, 4)))
    whole = [kinds.Dense(6, use_bias=False), kinds.BatchNormalization(), kinds.Activation("relu"), kinds.Dropout(0.2)]
    whole += [kinds.Dense(5, "gelu"), kinds.LayerNormalization(), kinds.PReLU(), kinds.Dense(3), kinds.Softmax()]
    found = {"whole": keras.Sequential([keras.Input((4,)), adapted, *whole])}
    found["whole"].compile("adam", "sparse_categorical_crossentropy")

    inputs = x = keras.Input((4,), name="measured")
    leaky = kinds.LeakyReLU(negative_slope=0.01)
    for layer in (kinds.Dense(3, name="first"), leaky, kinds.Flatten(), kinds.Dense(5, "swish"), kinds.Dense(1)):
        x = layer(x)
    found["functional"] = keras.Model(inputs, kinds.Activation("sigmoid")(x))
    found["functional"].compile("sgd", keras.losses.BinaryCrossentropy())

    each = [kinds.Dense(3, name) for name in (*NAMES, None)]
    each[2].trainable = False
    found["activations"] = keras.Sequential([keras.Input((4,)), *each])

    pixels = [kinds.Rescaling(1 / 255), kinds.Flatten(), kinds.Dense(4, "relu"), kinds.Dense(3, "softmax")]
    found["images"] = keras.Sequential([keras.Input((2, 3)), *pixels])
    found["images"].compile("adam", "categorical_crossentropy")

    leaky, wide = kinds.LeakyReLU(negative_slope=0.01, dtype="float64"), {"dtype": "float64"}
    doubles = [kinds.Rescaling([0.1, 0.2, 0.3, -0.1], [0.0, 0.1, -0.2, 0.3], **wide), kinds.Dense(4, leaky, **wide)]
    doubles += [kinds.Dense(3, **wide), kinds.PReLU(**wide), kinds.Dense(2, **wide)]  # Keras' tanh is of float32
    found["float64"] = keras.Sequential([keras.Input((4,), dtype="float64"), *doubles])

    for policy in ("bfloat16", "mixed_float16"):
        small = [kinds.Dense(5, "tanh", dtype=policy), kinds.Dense(2, dtype=policy)]
        found[policy] = keras.Sequential([keras.Input((4,)), *small])

    back = [kinds.GaussianNoise(0.1), kinds.Dense(5), kinds.ELU(), kinds.LayerNormalization(scale=False, center=False)]
    back += [kinds.Dense(4), kinds.BatchNormalization(momentum=0.9, epsilon=1e-5, scale=False), kinds.ReLU()]
    back += [kinds.Dense(2), kinds.BatchNormalization(center=False)]
    found["regression"] = keras.Sequential([keras.Input((4,)), *back])
    found["regression"].compile("adam", "mae")

    units = [kinds.Normalization(axis=None, mean=2.0, variance=9.0), kinds.Dense(3, "tanh"), kinds.Dense(2)]
    units += [kinds.Normalization(mean=[10.0, -20.0], variance=[4.0, 0.25], invert=True), kinds.Rescaling(10.0, 1.0)]
    found["units"] = keras.Sequential([keras.Input((4,)), *units])
    found["units"].compile("adam", keras.losses.MeanSquaredError())
    return found


def refused(keras):
    """{name: a model that fastnn cannot hold}."""
    kinds = keras.layers
    inputs = keras.Input((4,))
    first = kinds.Dense(4)(inputs)
    found = {"added": keras.Model(inputs, kinds.Dense(1)(kinds.Add()([inputs, first])))}
    found["two outputs"] = keras.Model(inputs, [kinds.Dense(1)(first), kinds.Dense(1)(first)])
    for name, layer in {
        "leaky_relu": kinds.Dense(2, "leaky_relu"),
        "lambda": kinds.Lambda(lambda x: 2 * x),
        "nested": keras.Sequential([keras.Input((4,)), kinds.Dense(2)]),
    }.items():
        found[name] = keras.Sequential([keras.Input((4,)), layer, kinds.Dense(1)])
    return found


def with_numbers(model, rng):
    """A model with other numbers than those it began with."""
    for layer in model.layers:
        kind, weights = type(layer).__name__, layer.get_weights()
        if weights and kind != "Normalization":
            drawn = [rng.normal(0, 0.5, each.shape) for each in weights]
            if kind == "BatchNormalization":
                drawn[-1] = rng.uniform(0.5, 2, drawn[-1].shape)
            layer.set_weights([new.astype(old.dtype) for new, old in zip(drawn, weights, strict=True)])
    return model


def main():
    """Write the archive."""
    import keras

    rng, expected, known = np.random.default_rng(1), {}, build(keras)
    with tempfile.TemporaryDirectory() as folder:
        for name, model in (known | refused(keras)).items():
            shape = model.input_shape[1:]
            X = rng.integers(0, 256, (5, *shape)) * 1.0 if name == "images" else rng.normal(2, 3, (5, *shape))
            X = X.astype("float64" if name == "float64" else "float32")
            model = with_numbers(model, rng)
            outputs = model(X, training=False)
            if name in ("whole", "functional", "float64", "units", "images"):
                model.save(Path(folder, f"{name}.h5"))
            model.save(Path(folder, f"{name}.keras"))
            if name in known:
                outputs = np.asarray(outputs, np.float64).tolist()
                expected[name] = {"X": X.reshape(len(X), -1).tolist(), "outputs": outputs}
        Path(folder, "expected.json").write_text(json.dumps(expected))
        with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted(Path(folder).iterdir()):
                member = zipfile.ZipInfo(path.name)  # of 1980, so that the same files give the same archive
                archive.writestr(member, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    main()
