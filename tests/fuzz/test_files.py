"""Mutated model files and IDX files: a ValueError that names the path, or a whole model or array."""

import contextlib
import functools
import gzip
import json
import struct
import tempfile
import warnings
from pathlib import Path

import numpy as np
import safetensors.numpy

import fastnn
from fastnn import BatchNorm, Dense, Embedding, LayerNorm, Model, PReLU, Residual, Scale
from fastnn.files import storage

from .helpers import attack, chance, check_whole, little_memory, pick

VALUES = (
    *(
        None,
        True,
        False,
        0,
        1,
        2,
        3,
        -1,
        2**31,
        2**63,
        2**64,
        10**400,
        0.5,
        -0.0,
        1e400,
        float("nan"),
        1e308,
        "",
        "0",
        "F32",
    ),
    *(
        "sigmoid",
        "softmax",
        "float64",
        "\0",
        "x" * 1000,
        [],
        [0],
        [[]],
        [0, 2**62],
        [-1, 4],
        [None],
        {},
        {"a": 1},
        [1] * 50,
    ),
)


@functools.cache
def model_files():
    """[(bytes of a model file, bytes of the model's parameters)]."""
    models = [
        Model([2, 1], rng=0),
        Model([4, Dense(7, "relu"), 3], output="softmax", loss="cross_entropy", dtype="float64", rng=0),
        Model([5, 8, Dense(6, "gelu"), 2], input_scale=1 / 255, output="tanh", rng=0),
        Model([3, BatchNorm(), Residual(LayerNorm(activation="tanh"), Scale(), Dense(3, "gelu")), PReLU(), 2], rng=0),
        Model([3, Embedding([2, 0], [5, 3], [2, 1]), Dense(4, "tanh"), 2], rng=0),
    ]
    models[2].freeze([0, 1])
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            model.save(Path(folder, "model"))
            found.append((Path(folder, "model").read_bytes(), model.parameters.tobytes()))
    return found


def mutated_bytes(rng, content):
    """Bytes flipped, cut off, taken out, put in or doubled."""
    content = bytearray(content)
    for _ in range(pick(rng, [1, 1, 1, 2, 5, 20])):
        n, kind = len(content), pick(rng, ["bit", "byte", "cut", "out", "in", "twice", "number"])
        at = int(rng.integers(n + 1)) if chance(rng, 0.5) else int(rng.integers(min(n, 64) + 1))
        length = int(rng.integers(1, 9))
        if kind == "bit" and at < n:
            content[at] ^= 1 << int(rng.integers(8))
        elif kind == "byte" and at < n:
            content[at] = int(pick(rng, [0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x7B, 0x5D]))
        elif kind == "cut":
            del content[at:]
        elif kind == "out":
            del content[at : at + length]
        elif kind == "in":
            content[at:at] = rng.bytes(length)
        elif kind == "twice":
            content[at:at] = content[at : at + length * 8]
        elif kind == "number":
            large = pick(rng, [0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1])
            content[at : at + 8] = struct.pack(pick(rng, ["<Q", ">Q"]), large)
    return bytes(content)


def mutated_value(rng, value):
    """A JSON value with something in it replaced, taken out or put in."""
    if isinstance(value, dict) and value and chance(rng, 0.9):
        key = pick(rng, sorted(value))
        if chance(rng, 0.15):
            return {k: v for k, v in value.items() if k != key}
        if chance(rng, 0.1):
            return {(k + "x" if k == key else k): v for k, v in value.items()}
        return value | {key: mutated_value(rng, value[key])}
    if isinstance(value, list) and value and chance(rng, 0.8):
        i = int(rng.integers(len(value)))
        return pick(
            rng,
            [
                [*value[:i], mutated_value(rng, value[i]), *value[i + 1 :]],
                [*value[:i], *value[i + 1 :]],
                [*value, *value[i:]],
            ],
        )
    if isinstance(value, int) and chance(rng, 0.5):
        return value + int(pick(rng, [-1, 1, 2, -(2**32), 2**62]))
    return pick(rng, VALUES)


def mutated_header(rng, content):
    """A safetensors file with another header: its metadata, the description of the model or of a tensor.

    Most have a right checksum, or are of version 1, which has none.
    """
    header, tensors = parts(content)
    part = pick(rng, ["model", "model", "model", "metadata", "tensors", "depth", "text"])
    metadata = header["__metadata__"]
    description = json.loads(metadata["model"])
    if part == "model":
        for _ in range(pick(rng, [1, 1, 2])):
            description = mutated_value(rng, description)
        metadata["model"] = json.dumps(description)
    elif part == "metadata":
        key = pick(rng, sorted(metadata))
        metadata[key] = str(pick(rng, VALUES))
        if chance(rng, 0.3):
            del metadata[key]
    elif part == "tensors":
        header = mutated_value(rng, {k: v for k, v in header.items() if k != "__metadata__"})
        header = {**header, "__metadata__": metadata} if isinstance(header, dict) else header
    elif part == "depth":
        depth = pick(rng, [10, 900, 5000, 100_000])
        metadata["model"] = pick(
            rng, ["[" * depth + "]" * depth, '{"n_inputs":' * depth + "1" + "}" * depth, "9" * depth]
        )
    elif part == "text":
        metadata["model"] = mutated_bytes(rng, metadata["model"].encode()).decode("latin-1")
    if "model" in metadata:
        metadata |= pick(
            rng,
            [
                {},
                {"format_version": "1"},
                {"sha256": storage.checksum(metadata["model"], safetensors.numpy.load(content))},
            ],
        )
    return joined(header, tensors)


def parts(content):
    """(the header, the bytes of the tensors) of a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header, tensors):
    """The file of such parts."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + tensors


def mutated_estimator(rng, content):
    """A file whose description of an estimator or of its table is another one, with a right checksum."""
    header, tensors = parts(content)
    metadata = header["__metadata__"]
    description = json.loads(metadata["model"])
    for _ in range(pick(rng, [1, 1, 2, 3])):
        part = pick(rng, ["parameters", "attributes", "solver", *({"table", "targets"} & {*description})])
        whole = description if part in description else description["estimator"]
        whole[part] = mutated_value(rng, whole[part])
    metadata["model"] = json.dumps(description)
    metadata["sha256"] = storage.checksum(metadata["model"], safetensors.numpy.load(content))
    return joined(header, tensors)


def mutated_tensors(rng, content):
    """A file some of whose numbers are others, with a right checksum."""
    found = {name: tensor.copy() for name, tensor in safetensors.numpy.load(content).items()}
    header, _ = parts(content)
    for _ in range(pick(rng, [1, 2, 5])):
        name = pick(rng, sorted(found))
        if found[name].dtype.kind == "f" and found[name].size:
            numbers = [np.nan, np.inf, -1.0, 1e30, 0.0, -0.0, 1e-45]
            found[name].flat[rng.integers(found[name].size)] = pick(rng, numbers)
    metadata = header["__metadata__"]
    metadata["sha256"] = storage.checksum(metadata["model"], found)
    return safetensors.numpy.save(found, metadata)


def taken(read, path):
    """What a function makes of a file, or None where it refuses the file and says which one."""
    try:
        with little_memory():
            return read(path)
    except ValueError as error:
        message = str(error)
    assert str(path) in message, f"the message does not name the file: {message}"
    assert "path" in message, f"the message does not name the argument: {message}"
    return None


@attack(cases=150, share=1)
def test_mutated_model_files(rng):
    """A file is refused, or gives a model that is whole and predicts."""
    original, parameters = pick(rng, model_files())
    mutate = pick(rng, [mutated_bytes, mutated_header])
    content = mutate(rng, original)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path(folder, "model")
        path.write_bytes(content)
        model = taken(fastnn.load, path)
        if model is None:
            assert content != original, "an unchanged file is refused"
            return
        if mutate is mutated_bytes:  # the change was where nothing is read, such as the order of the header's entries
            assert model.parameters.tobytes() == parameters, "a damaged file gives other parameters"
        predicted = model.predict(np.ones((2, model.sizes[0])))
        assert predicted.shape == (2, model.sizes[-1])
        if np.isfinite(model.parameters).all():
            check_whole(model)
        model.save(path)
        assert repr(fastnn.load(path)) == repr(model)


@functools.cache
def group_files():
    """[bytes of a file of networks of groups]."""
    rows = np.arange(24)
    frame = {"a": rows % 2, "b": np.array(["x", "y", "z"])[rows % 3], "x": rows % 7, "y": rows % 5, "z": rows * 0.1}
    frame["day"] = np.datetime64("2024-01-01") + rows % 4
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for by, target in (("a", "y"), (["b", "a"], ["y", "z"]), ("day", "y")):
            models = fastnn.fit_groups(frame, by=by, target=target, features=["x"], layers=[2], epochs=1, rng=0)
            models.save(Path(folder, "groups"))
            found.append(Path(folder, "groups").read_bytes())
    return found


@attack(cases=150, share=0.5)
def test_mutated_files_of_groups(rng):
    """A file is refused, or gives networks that predict."""
    original = pick(rng, group_files())
    content = pick(rng, [mutated_bytes, mutated_header])(rng, original)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path(folder, "groups")
        path.write_bytes(content)
        models = taken(fastnn.load, path)
        if models is None:
            assert content != original, "an unchanged file is refused"
            return
        if not isinstance(models, fastnn.GroupModels):  # its description lost what it says of groups
            return
        for key in models:
            width = () if models._contents.single else (len(models.targets),)
            assert models[key].predict(np.ones((2, len(models.features)))).shape == (2, *width)
        models.save(path)
        assert repr(fastnn.load(path)) == repr(models)


@functools.cache
def estimator_files():
    """[bytes of a file of an estimator]."""
    X = np.random.default_rng(0).normal(size=(40, 3))
    labels, small = np.arange(40) % 3, {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0}
    estimators = [
        fastnn.MLPClassifier(**small, dropout=[0.1]).fit(X, np.array(["a", "bc", "d"])[labels]),
        fastnn.MLPClassifier(**small, early_stopping=True, solver="sgd", learning_rate="adaptive").fit(X, labels > 0),
        fastnn.MLPClassifier(**small | {"random_state": np.random.RandomState(0)}).fit(X, labels[:, None] == [0, 1, 2]),
        fastnn.MLPRegressor(**small, solver=fastnn.AdamW(fastnn.CosineDecay(0.1, 9)), loss=fastnn.Huber(0.5)).fit(X, X),
        fastnn.MLPRegressor(**small, solver="lbfgs").fit(X, X[:, 0]),
        fastnn.MLPEnsembleClassifier(2, **small, solver=fastnn.SGD(np.array([0.1, 0.2]))).fit(
            X, labels.astype("M8[D]")
        ),
        fastnn.MLPEnsembleRegressor(2, **small, loss="gaussian", early_stopping=True).fit(X, X[:, 0]),
    ]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for estimator in estimators:
            estimator.save(Path(folder, "estimator"))
            found.append(Path(folder, "estimator").read_bytes())
    return found


def estimator_of(path, content, original):
    """The estimator of a file, which is the same after it is saved again; None where there is none."""
    path.write_bytes(content)
    found = taken(fastnn.load, path)
    if found is None:
        assert content != original, "an unchanged file is refused"
        return None
    if isinstance(found, (Model, fastnn.Population)):  # its description lost what it says of an estimator
        return None
    found.save(path)
    description = storage.read(path)[0]
    fastnn.load(path).save(path)
    assert storage.read(path)[0] == description
    return found


@attack(cases=200, share=1)
def test_mutated_files_of_estimators(rng):
    """A file is refused, or gives an estimator that predicts, and that trains or refuses to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few epochs
        original = pick(rng, estimator_files())
    content = pick(rng, [mutated_bytes, mutated_header, mutated_estimator, mutated_estimator])(rng, original)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimator_of(Path(folder, "estimator"), content, original)
        if found is None:
            return
        warnings.simplefilter("ignore")  # of names of features, and of what a fit finds
        X = np.random.default_rng(0).normal(size=(8, found.n_features_in_))
        predicted = found.predict(X)
        assert len(predicted) == len(X)
        if hasattr(found, "classes_"):
            assert found.predict_proba(X).shape[1] == max(2, len(found.classes_))
        if hasattr(found, "partial_fit"):
            with contextlib.suppress(ValueError, TypeError, AttributeError, OverflowError, ZeroDivisionError):
                found.partial_fit(X, predicted)
            assert found.predict(X).shape == predicted.shape


def mixed_table(n=40):
    """A table of columns of all kinds, with gaps; one of them becomes codes."""
    rows = np.arange(n)
    frame = {"number": rows * 0.25, "gaps": np.where(rows % 3, rows, np.nan), "large": 2**60 + rows % 20}
    frame |= {"town": np.array(["x", "y", "z"])[rows % 3], "code": np.char.add("c", (rows % 15).astype(str))}
    frame |= {"day": np.datetime64("2024-01-01") + rows, "span": rows * np.timedelta64(1, "h"), "lift": rows % 2 == 0}
    return frame | {"none": [None] * n}


@functools.cache
def table_files():
    """[bytes of a file of an estimator of tables]."""
    frame, y = mixed_table(), np.arange(40) % 7 * 1.0
    small = {"n_members": 2, "epochs": 2, "hidden_layer_sizes": 3, "random_state": 0}
    estimators = [
        fastnn.TabularClassifier(**small).fit(frame, y > 3),
        fastnn.TabularClassifier(**small, drop=["code"], class_weight="balanced").fit(
            frame, np.array(["a", "b"])[y.astype(int) % 2]
        ),
        fastnn.TabularRegressor(**small, log_target=True).fit(frame, y + 1),
        fastnn.TabularRegressor(**small, categorical=["large"], refit=True).fit(frame, np.stack([y, -y], axis=1)),
        fastnn.TabularRegressor(**small).fit({name: frame[name][:15] for name in ("number", "town", "day")}, y[:15]),
    ]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for estimator in estimators:
            estimator.save(Path(folder, "estimator"))
            found.append(Path(folder, "estimator").read_bytes())
    return found


@attack(cases=200, share=1)
def test_mutated_files_of_tables(rng):
    """A file is refused, or gives an estimator that predicts a table, or refuses the table."""
    original = pick(rng, table_files())
    mutate = pick(rng, [mutated_bytes, mutated_header, mutated_tensors, mutated_estimator, mutated_estimator])
    content = mutate(rng, original)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimator_of(Path(folder, "estimator"), content, original)
        if found is None:
            return
        warnings.simplefilter("ignore", UserWarning)  # of columns that the table had not
        frame = mixed_table(6)
        with little_memory(), contextlib.suppress(ValueError, TypeError):  # a column of another kind than in the table
            predicted = found.predict(frame)
            assert len(predicted) == 6
            if hasattr(found, "classes_"):
                assert found.predict_proba(frame).shape == (6, len(found.classes_))
                return
            lower, upper = found.predict_interval(frame, 0.5)
            assert lower.shape == upper.shape == predicted.shape
            assert (lower <= predicted).all()
            assert (predicted <= upper).all()


CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


@attack(cases=100, share=0.5)
def test_mutated_idx_files(rng):
    """A file is refused, or gives an array of the size that its bytes allow; a file that is whole gives its array."""
    dtype = pick(rng, sorted(CODES))
    shape = tuple(int(rng.integers(0, 5)) for _ in range(int(rng.integers(0, 5))))
    array = rng.integers(0, 100, shape).astype(dtype)
    start = bytes([0, 0, CODES[dtype], len(shape)]) + b"".join(struct.pack(">I", n) for n in shape)
    content = start + array.astype(f">{dtype}").tobytes()
    whole, changed = chance(rng, 0.1), content
    zipped = pick(rng, ["no", "before", "after"])
    if zipped == "before":
        changed = gzip.compress(changed, mtime=0)
    if not whole:
        changed = mutated_bytes(rng, changed)
    if zipped == "after":
        changed = gzip.compress(changed, mtime=0)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path(folder, "idx")
        path.write_bytes(changed)
        found = taken(fastnn.load_idx, path)
    if found is None:
        assert not whole, "a whole file is refused"
        return
    assert found.dtype.isnative
    if whole:
        assert found.dtype == dtype
        assert found.shape == shape
        assert np.array_equal(found, array)
    found[...] = 0  # it can be written to
