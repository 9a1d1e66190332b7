"""Calls with wrong arguments, callbacks and metrics that misbehave: a clear error, and a model that is as it was."""

import contextlib
import copy
import inspect
import itertools
import os
import re
import tempfile
import warnings
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import fastnn
from fastnn import SGD, Adam, Dense, DivergenceError, Model, Momentum

from .helpers import CASE, SECONDS, attack, check_history, check_whole, little_memory, on_threads, pick, snapshot
from .values import ANYTHING, MADE, NAMED, MineError, Value

ALLOWED = (ValueError, TypeError, DivergenceError, OSError, MemoryError, MineError)
X, NUMBERS = np.random.default_rng(0).normal(size=(12, 4)), np.random.default_rng(1).normal(size=(12, 2))
CLASSES, SIDES = np.arange(12) % 3, np.arange(12) % 2
MODELS = {  # a trained model, and what it is trained with
    "softmax": (Model([4, 7, 3], output="softmax", loss="cross_entropy", rng=0), X, CLASSES),
    "two classes": (Model([4, Dense(5, "relu"), 1], dtype="float64", rng=0), X, SIDES),
    "numbers": (Model([4, 5, 2], activation="gelu", output="identity", dtype="float64", rng=0), X, NUMBERS),
    "probabilities": (Model([4, 2], loss="cross_entropy", input_scale=0.5, rng=0), X, 1 / (1 + np.exp(-NUMBERS))),
    "gaussian": (Model([4, 5, 4], output="identity", loss="gaussian", rng=0), X, NUMBERS),
    "steps": (Model([4, 2], output="step", rng=0), X, SIDES),
    "bytes": (Model([4, 6, 3], input_scale=1 / 255, rng=0), np.abs(X * 50).astype(np.uint8), CLASSES),
}
for model, inputs, targets in MODELS.values():
    model.fit(inputs, targets, epochs=2, batch_size=5, optimizer=Momentum(0.01), validation_fraction=0.3)

# Arguments that are right, by function: of a model's methods "X", "y" and so on stand for those of the model.
METHODS = {
    "fit": {"X": "X", "y": "y", "epochs": 2, "batch_size": 5},
    "partial_fit": {"X": "X", "y": "y"},
    "predict": {"X": "X"},
    "classify": {"X": "X"},
    "evaluate": {"X": "X", "y": "y"},
    "loss": {"X": "X", "y": "y"},
    "gradients": {"X": "X", "y": "y"},
    "forward": {"X": "X"},
    "backward": {"X": "X", "dA": "dA"},
    "step": {"X": "X", "dA": "dA"},
    "jvp": {"X": "X", "V": "V"},
    "blend": {"other": "model", "tau": 0.5},
    "freeze": {"layers": 0},
    "replace_head": {"n_out": 3},
    "save": {"path": "new"},
}
FUNCTIONS = {
    "Model": (Model, {"sizes_or_layers": [4, 3]}),
    "Dense": (Dense, {"units": 3}),
    "SGD": (SGD, {}),
    "Momentum": (Momentum, {}),
    "Adam": (Adam, {}),
    "EarlyStopping": (fastnn.EarlyStopping, {}),
    "ModelCheckpoint": (fastnn.ModelCheckpoint, {"path": "model-{epoch}"}),
    "ReduceOnPlateau": (fastnn.ReduceOnPlateau, {}),
    "TargetReached": (fastnn.TargetReached, {"monitor": "loss", "value": 0.1}),
    "TimeLimit": (fastnn.TimeLimit, {"seconds": 1.0}),
    "CSVLogger": (fastnn.CSVLogger, {"path": "log.csv"}),
    "Metric": (fastnn.Metric, {"function": max}),
    "find_learning_rate": (
        fastnn.find_learning_rate,
        {"model": MODELS["softmax"][0], "X": X, "y": CLASSES, "batch_size": 5, "steps": 5},
    ),
    "LBFGS": (fastnn.LBFGS, {}),
    "StepDecay": (fastnn.StepDecay, {"learning_rate": 0.1, "every": 3}),
    "ExponentialDecay": (fastnn.ExponentialDecay, {"learning_rate": 0.1, "gamma": 0.9}),
    "InverseScaling": (fastnn.InverseScaling, {"learning_rate": 0.1}),
    "CosineDecay": (fastnn.CosineDecay, {"learning_rate": 0.1, "length": 5}),
    "OneCycle": (fastnn.OneCycle, {"learning_rate": 0.1, "length": 5}),
    "load": (fastnn.load, {"path": "model"}),
    "load_idx": (fastnn.load_idx, {"path": "idx"}),
    "one_hot": (fastnn.one_hot, {"labels": [0, 2, 1], "n_classes": 3}),
    "windows": (fastnn.windows, {"series": NUMBERS, "lags": 3}),
}
CHANGING = {"fit", "partial_fit", "step", "forward", "blend", "freeze", "replace_head"}  # forward draws dropout
OTHER_NAMES = {"sizes_or_layers": "sizes", "n_out": "(units|outputs)"}  # as messages may call an argument


def arguments_of(name):
    """The names of a function's arguments."""
    function = getattr(Model, name) if name in METHODS else FUNCTIONS[name][0]
    return [name for name in inspect.signature(function).parameters if name != "self"]


def endless(name, value):
    """Whether a value is legal but asks for very much work: so many epochs or steps, or rows that take no memory."""
    if isinstance(value, np.ndarray):
        return value.size > 2**30 and name != "X"
    return name in ("epochs", "steps", "samples") and isinstance(value, int) and value > 100


@st.composite
def calls(draw):
    """(function, model, {argument: value}) with one wrong argument, or up to three."""
    function = draw(st.sampled_from([*METHODS, *["fit"] * 6, *["partial_fit"] * 2, *FUNCTIONS]))
    names = st.lists(
        st.sampled_from(arguments_of(function)), min_size=1, max_size=draw(st.sampled_from([1, 1, 1, 2, 3]))
    )
    wrong = {name: draw(ANYTHING) for name in draw(names)}
    return function, draw(st.sampled_from(sorted(MODELS))) if function in METHODS else None, wrong


@contextlib.contextmanager
def in_a_folder():
    """In a folder of its own, with a model file and an IDX file."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        MODELS["softmax"][0].save("model")
        Path("idx").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
        yield


def contents(value):
    """The bytes of an array, which no call may change."""
    plain = (
        isinstance(value, np.ndarray) and not value.dtype.hasobject and value.dtype.kind != "T" and value.size < 2**30
    )
    return np.asarray(value).tobytes() if plain else None


def holds_functions(value):
    """Whether a value is a function, or a list of some: an error may be theirs."""
    return callable(value) or (isinstance(value, (list, tuple)) and any(map(callable, value)))


def try_call(function, kind, wrong):
    """Call a function with wrong values among right ones, and check what it does."""
    if kind is None:
        call, right = FUNCTIONS[function]
        model = None
    else:
        original, inputs, targets = MODELS[kind]
        model = copy.copy(original)
        call, right = getattr(model, function), METHODS[function]
        of_model = {"X": inputs, "y": targets, "V": np.ones(inputs.shape), "model": original}
        of_model["dA"] = np.ones((len(inputs), model.sizes[-1]))
        right = {name: of_model.get(value, value) if isinstance(value, str) else value for name, value in right.items()}
    made = {name: value.make() for name, value in wrong.items()}
    if any(endless(name, value) for name, value in made.items()):
        return
    held, before = {name: contents(value) for name, value in made.items()}, model and snapshot(model)
    files = sorted(os.listdir())
    error, result = None, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", UserWarning)  # advice
            result = call(**right | made)
    except ALLOWED as raised:
        error = raised
    if error is not None:
        of_its_own = function in ("fit", "evaluate") and any(map(holds_functions, map(made.get, ("metric", "dropout"))))
        if not of_its_own:
            check_error(error, arguments_of(function))
        assert sorted(os.listdir()) == files, "files were left"
        if function == "fit" and (isinstance(error, DivergenceError) or of_its_own):  # after some epochs
            check_whole(model)
            check_history(model.history)
        else:
            assert model is None or snapshot(model) == before, f"the model is another one after {error!r}"
    else:
        check_result(function, model, right | made, result)
        assert model is None or function in CHANGING or snapshot(model) == before, "the model is another one"
        for name in {*os.listdir()} - {*files}:
            os.remove(name)
    for name, value in made.items():
        assert contents(value) == held[name], f"{name} was written to"


def check_error(error, names):
    """Raise where a message is empty, or names no argument."""
    if isinstance(error, (MemoryError, MineError, DivergenceError)) or getattr(error, "filename", None):
        return
    message = str(error)
    assert message, f"{type(error).__name__} without a message"
    names = [*names, *(OTHER_NAMES[name] for name in names if name in OTHER_NAMES)]
    assert any(re.search(rf"\b{name}\b", message) for name in names), (
        f"no argument in {type(error).__name__}: {message}"
    )


def check_result(function, model, arguments, result):
    """Raise where a call went through, but its result cannot be used."""
    if model is not None:
        check_whole(model)
    if function == "fit":
        check_history(result)
        assert result is model.history
        assert np.isfinite(result.loss).all(), "a loss is not finite"
    if function == "partial_fit":
        assert np.isfinite(result), "the loss is not finite"
    if function in ("predict", "classify"):
        inputs = np.asarray(arguments["X"], float)
        pair = isinstance(result, tuple)  # means and standard deviations
        result, shape = result[0] if pair else result, (len(inputs), model.sizes[-1] // (2 if pair else 1))
        drawn = () if arguments.get("dropout") is None else (arguments.get("samples") or 50,)
        assert result.shape == (*drawn, *(shape if function == "predict" else shape[:1])), result.shape
        assert not (np.abs(inputs) < 1e6).all() or np.isfinite(result).all(), "outputs are not finite"
    if function == "gradients":
        assert [(w.shape, b.shape) for w, b in result] == [
            (w.shape, b.shape) for w, b in zip(model.weights, model.biases, strict=True)
        ]
    if function == "evaluate":
        assert all(isinstance(value, float) for value in result.values()), result
    if function == "Model":
        check_whole(result)
    if function == "windows":
        X, y = result
        assert len(X) == len(y) > 0
    if function == "one_hot":
        assert (result.sum(axis=1) == 1).all()


@attack(cases=1, share=3)
def test_wrong_arguments(rng):
    """An error of the right kind names the argument, and the model is as it was; or the call works."""
    examples = 1000 if SECONDS else 400

    @hypothesis.seed(int(rng.integers(2**32)))
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        report_multiple_bugs=False,
    )
    @hypothesis.given(calls())
    def tried(call):
        try_call(*call)

    with in_a_folder(), little_memory():
        tried()
    return examples


@pytest.mark.skipif(bool(CASE), reason="one case of an attack is run")
def test_every_value_as_every_argument():
    """As above, without chance: each of the scalars and objects in each place."""
    with in_a_folder(), little_memory():
        for function in (*METHODS, *FUNCTIONS):
            kinds = itertools.cycle(sorted(MODELS) if function in METHODS else [None])
            for argument, name in itertools.product(arguments_of(function), (*NAMED, *MADE)):
                try_call(function, next(kinds), {argument: Value(name)})


# ---- callbacks and metrics that misbehave ----


class Data:
    """The arrays that a fit gets, which a callback can reach."""

    def __init__(self, kind):
        _, X, y = MODELS[kind]
        self.X, self.y, self.weights = X.copy(), y.copy(), np.linspace(0.5, 1.5, len(X))
        self.held = X.copy(), y.copy()
        self.order = np.array([np.arange(12)[::-1]] * 4, np.int32)
        self.callbacks = []

    def fit(self, model, epochs, **options):
        """A fit with a validation set, weights and given orders."""
        given = {"validation_data": self.held, "sample_weight": self.weights, "shuffle": self.order[:epochs]}
        return model.fit(self.X, self.y, epochs=epochs, batch_size=5, **given | options)


def refit(rng, model, data):
    model.fit(data.X, data.y, epochs=1, batch_size=5)


def refit_a_step(rng, model, data):
    model.partial_fit(data.X, data.y)


def spoil_labels(rng, model, data):
    for y in (data.y, data.held[1]):
        if y.dtype.kind == "i":
            y[...] = 2**30


def spoil_the_order(rng, model, data):
    data.order[...] = 2**30


def spoil_samples(rng, model, data):
    data.X[...] = 3 if data.X.dtype == np.uint8 else pick(rng, [np.nan, 1e300, 0.0])


def spoil_weights(rng, model, data):
    data.weights[...] = pick(rng, [np.nan, -1, 0, 1e300])


def spoil_parameters(rng, model, data):
    model.weights[0][...] = pick(rng, [np.nan, np.inf, 1e30, 0])


def spoil_history(rng, model, data):
    history = model.history
    for values in history._lists().values():
        pick(rng, [list.clear, lambda v: v.append("x"), lambda v: v.extend([0.0] * 3), lambda v: v.insert(0, None)])(
            values
        )


def forget_history(rng, model, data):
    model.history = pick(rng, [None, fastnn.History(), 3])


def spoil_views(rng, model, data):
    for view in (model.parameters, *model.weights, *model.biases):
        for change in (
            lambda v: v.resize(1),
            lambda v: setattr(v, "shape", (1, -1)),
            lambda v: v.setflags(write=False),
        ):
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                change(view)


def spoil_attributes(rng, model, data):
    for name in ("loss_name", "input_scale", "dtype", "layers", "sizes", "frozen", "weights", "biases", "parameters"):
        with contextlib.suppress(AttributeError):
            setattr(model, name, pick(rng, [None, 3, "quadratic", ()]))


def resize_the_data(rng, model, data):
    for array in (data.X, data.y, data.weights, data.order):
        with contextlib.suppress(ValueError):
            array.resize((1, 1))


def change_the_callbacks(rng, model, data):
    pick(rng, [list.clear, lambda c: c.append(3)])(data.callbacks)


def use(rng, model, data):
    model.predict(X)
    model.gradients(MODELS["steps"][1], data.held[1])
    model.evaluate(X, data.held[1])
    fastnn.load("model").predict(X)
    model.save("other")
    snapshot(model)


def train_a_copy(rng, model, data):
    refit(rng, copy.deepcopy(model), data)


def freeze(rng, model, data):
    model.freeze(pick(rng, [0, -1, [], range(len(model.layers))]))


def replace_head(rng, model, data):
    model.replace_head(model.sizes[-1], rng=0)


def fail(rng, model, data):
    raise pick(rng, [MineError, ValueError, KeyError, StopIteration, KeyboardInterrupt, SystemExit, GeneratorExit])(
        MINE
    )


MINE = "raised by the attack"
HARMLESS = (  # the fit may end, but goes the same way
    spoil_labels,
    spoil_the_order,
    spoil_weights,
    spoil_history,
    forget_history,
    spoil_views,
    spoil_attributes,
    resize_the_data,
    change_the_callbacks,
    use,
    train_a_copy,
    fail,
    refit,
    refit_a_step,
)
CHANGES = (spoil_samples, spoil_parameters, freeze, replace_head)
ANSWERS = (None, "0.5", 0.5, np.float32(0.5), np.nan, np.inf, 1j, [1.0], np.zeros(3), True, 10**400, object())


def spoil_arrays(rng, *arrays):
    """What a metric can do with what it gets."""
    for array in arrays:
        with contextlib.suppress(ValueError):
            array[...] = pick(rng, [0, 1, 2**30])
        with contextlib.suppress(ValueError):
            array.resize(1, refcheck=False)


@attack(cases=60, share=1)
def test_callbacks_and_metrics(rng):
    """Whatever they do, the model is whole afterwards, can be trained, and the epochs that ended are the usual ones."""
    kind, action = pick(rng, sorted(MODELS)), pick(rng, HARMLESS + CHANGES)
    epoch, at, answer = int(rng.integers(1, 4)), pick(rng, ["callback", "metric"]), pick(rng, ANSWERS)
    model, reference, data = copy.copy(MODELS[kind][0]), copy.copy(MODELS[kind][0]), Data(kind)
    what = f"{action.__name__} in a {at} of epoch {epoch} for {kind!r}, the metric answers {answer!r}"

    ended = {"callback": 0, "metric": 0}

    def act(here):
        ended[here] += 1
        if here == at and ended[here] == epoch:
            action(rng, model, data)

    def metric(y_true, y_pred):
        act("metric")
        spoil_arrays(rng, y_true, y_pred)
        return answer

    data.callbacks += [lambda m: act("callback")]
    threads = int(rng.integers(1, 4))
    with in_a_folder(), on_threads(rng), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", UserWarning)
        try:
            data.fit(model, 4, callbacks=data.callbacks, metric=metric, threads=threads)
        except (RuntimeError, ValueError, TypeError, OverflowError, DivergenceError):
            pass
        except BaseException as error:
            if error.args != (MINE,):
                raise AssertionError(f"{error!r}: {what}") from error
        try:
            check_afterwards(model, reference, kind, action)
        except Exception as error:
            raise AssertionError(f"{error!r}: {what}") from error


def check_afterwards(model, reference, kind, action):
    """Raise where a fit with a callback that misbehaved left something behind."""
    if action is not forget_history:
        check_history(model.history)
    if action in HARMLESS and action is not forget_history:
        epochs = len(model.history.loss)
        Data(kind).fit(reference, epochs)
        assert model.parameters.tobytes() == reference.parameters.tobytes(), f"other parameters after {epochs} epochs"
        assert action is spoil_history or model.history.loss == reference.history.loss, "other losses"
    if action is spoil_parameters:
        for array in (*model.weights, *model.biases):
            array[...] = 0.1
    check_whole(model)
    Data(kind).fit(model, 2)
    assert len(model.history.loss) == 2
    check_history(model.history)
    check_whole(model)
