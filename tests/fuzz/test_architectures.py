"""Random networks: training against a float64 twin, and the ways that must give the same bits."""

import copy
import itertools
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

import fastnn
from fastnn import DivergenceError, Embedding
from fastnn.kernels import reference
from fastnn.kernels.formulas import loss_functions
from fastnn.kernels.programs import strategy

from .. import cases, twin
from ..kernels.kernel_calls import twin_of
from .helpers import (
    attack,
    chance,
    check_same,
    check_whole,
    on_threads,
    pick,
    random_problem,
    with_everything,
    with_kinds,
)

TOLERANCE = {"float32": 1e-4, "float64": 1e-10}  # relative, of an array's norm
CHANGE_TOLERANCE = {"float32": 2e-3, "float64": 1e-9}  # of what training changed, and a hundredth of what was there
ROUNDING = {"float32": 6e-8, "float64": 1.1e-16}
AMPLIFIED = 100  # times as far as from a twin that starts a rounding error away, a model may be
ORIENTATIONS = None, "row-major", "feature-major"
NEAR = {"float32": 1e-5, "float64": 1e-11}  # a relu or a step so near to its kink may fall on either side


class Twin(twin.Twin):
    """A model's copy in float64. It knows how near a relu or a step has come to its kink."""

    def __init__(self, model, optimizer):
        super().__init__(model, optimizer)
        self.start = [a.copy() for a in (*self.weights, *self.biases)]
        self.nearest = np.inf

    def _loss_and_gradients(self, X, Y, weights=None):
        outputs = reference.forward(self.network, X)
        for (w, b), name, x in zip(self.layers, self.activations, outputs, strict=False):
            if name in ("relu", "step") and x.size:
                scale = 1 + np.abs(x) @ np.abs(w.T) + np.abs(b)
                self.nearest = min(self.nearest, np.abs((x @ w.T + b) / scale).min())
        return super()._loss_and_gradients(X, Y, weights)

    def error(self, model):
        """The largest distance of one of the model's arrays from the one here, relative to how far training went."""
        errors = [0.0]
        mine, its = [*self.weights, *self.biases], [*model.weights, *model.biases]
        for got, want, start in zip(its, mine, self.start, strict=True):
            whole = np.linalg.norm(want - start) + 0.01 * np.linalg.norm(start) + 1e-3
            errors.append(np.linalg.norm(got - want) / whole)
        return max(errors)


def exactly(problem, model):
    """(X, Y, weights) in float64, of the values that the package gets to see."""
    scale = 1 if model.input_scale is None else model.input_scale
    X, y = problem.X.astype(model.dtype).astype(float) * scale, problem.y
    if y.ndim == 1 and model.sizes[-1] > 1:
        Y = np.eye(model.sizes[-1])[y]
    else:
        Y = y.reshape(len(X), -1).astype(model.dtype).astype(float)
    return X, Y, None if problem.weights is None else problem.weights.astype(model.dtype).astype(float)


def random_order(rng, epochs, n):
    """The orders of some epochs, seldom with samples that come more than once."""
    if chance(rng, 0.1):
        return rng.integers(0, n, (epochs, n))
    return np.array([rng.permutation(n) for _ in range(epochs)], int).reshape(epochs, n)


def distance(got, want):
    """The relative error of an array."""
    got, want = np.asarray(got, float), np.asarray(want, float)
    return np.linalg.norm(got - want) / (np.linalg.norm(want) + 1e-2)


def check_close(got, want, tolerance, what):
    """Raise where two arrays differ by more than rounding."""
    error = distance(got, want)
    assert error < tolerance, f"{what}: relative error {error:.2g}, more than {tolerance:g}"


@attack(cases=25, share=4)
def test_networks_against_the_twin(rng):
    """Losses, parameters, outputs, scores and gradients are the twin's, and the padding stays zero."""
    problem = random_problem(rng)
    try:
        with on_threads(rng, pick(rng, ORIENTATIONS)):
            compare_with_the_twin(rng, problem)
    except Exception as error:
        raise AssertionError(f"{error!r}: {problem}") from error


def compare_with_the_twin(rng, problem):
    model = problem.model()
    exact = Twin(model, problem.optimizer)
    X, Y, weights = exactly(problem, model)
    tolerance, near = TOLERANCE[model.dtype], NEAR[model.dtype]
    gradients, wanted = model.gradients(problem.X, problem.y), exact.gradients(X, Y)
    if exact.nearest > near:
        for l, (got, want) in enumerate(zip(gradients, wanted, strict=True)):
            check_close(got[0], want[0], tolerance, f"gradient of the weights of layer {l}")
            check_close(got[1], want[1], tolerance, f"gradient of the biases of layer {l}")
    epochs = int(rng.integers(1, 4))
    order = random_order(rng, epochs, len(X))
    if weights is not None:
        weights_seen = weights[order].sum(axis=1)
        order = order if weights_seen.all() else np.tile(np.arange(len(X)), (epochs, 1))
    training = X, Y, order, min(problem.batch_size, len(X)), weights
    try:
        history = problem.fit(model, epochs, shuffle=order, threads=int(rng.integers(1, 4)))
    except DivergenceError:
        with np.errstate(all="ignore"):
            assert not (np.abs(exact.train(*training)) < 1e30).all(), "the twin does not diverge"
        return
    losses = exact.train(*training)
    check_whole(model)
    if exact.nearest < near:
        return
    for _ in range(3):  # a single estimate of the rounding errors may be ten times too small by chance
        try:
            check_trained(rng, problem, model, exact, history, training, losses)
        except AssertionError as error:
            found = error
        else:
            return
    raise found


def check_trained(rng, problem, model, exact, history, training, losses):
    """Raise where losses, parameters, outputs and scores differ from the twin's by more than rounding errors may make.

    Long training multiplies them. How much is seen of another twin, with rounding errors in its first parameters.
    """
    X, Y, *_, weights = training
    other = Twin(problem.model(), problem.optimizer)
    for array in (*other.weights, *other.biases):
        array *= 1 + ROUNDING[model.dtype] * rng.choice([-1, 1], array.shape)
    for array in other.biases:  # which are zero where all are
        array += ROUNDING[model.dtype] * rng.choice([-1, 1], array.shape)
    tolerance = TOLERANCE[model.dtype] + AMPLIFIED * distance(other.train(*training), losses)
    apart = CHANGE_TOLERANCE[model.dtype] + AMPLIFIED * exact.error(other)
    check_close(history.loss, losses, tolerance, "losses")
    assert exact.error(model) < apart, f"parameters: relative error {exact.error(model):.2g}"
    predicted, outputs = model.predict(problem.X), exact.predict(X)
    tolerance += AMPLIFIED * distance(other.predict(X), outputs)
    check_close(predicted, outputs, tolerance, "outputs")
    scores = model.evaluate(problem.X, problem.y, sample_weight=problem.weights)
    mean, means = np.average(exact.losses(X, Y), weights=weights), np.average(other.losses(X, Y), weights=weights)
    check_close(scores.pop("loss"), mean, tolerance + AMPLIFIED * distance(means, mean), "loss")
    check_score(scores, model, problem, Y, predicted[:, : Y.shape[1]].astype(float), weights)


def check_score(scores, model, problem, Y, outputs, weights):
    """Raise where the accuracy or the r2 is not that of the outputs."""
    ((name, score),) = scores.items()
    if name == "accuracy":
        truth = problem.y if problem.y.ndim == 1 else problem.y[:, 0]
        want = np.average(model.classify(problem.X) == truth, weights=weights)
    else:
        residual = np.average((Y - outputs) ** 2, axis=0, weights=weights)
        spread = np.average((Y - np.average(Y, axis=0, weights=weights)) ** 2, axis=0, weights=weights)
        if (spread < 1e-6).any():
            return
        want = np.mean(1 - residual / spread)
    assert abs(score - want) <= 1e-6 * (1 + abs(want)), f"{name} {score}, not {want}"


@attack(cases=25, share=2)
def test_kinds_of_layers_against_the_reference(rng):
    """Gradients, losses, parameters, running statistics and outputs in float64."""
    problem = with_kinds(rng, random_problem(rng))
    problem = replace(problem, frozen=[], options=problem.options | {"dtype": "float64", "init": "scaled"})
    try:
        with on_threads(rng, pick(rng, [None, "row", "feature"])):
            compare_with_the_reference(rng, problem)
    except Exception as error:
        raise AssertionError(f"{error!r}: {problem}") from error


def arrays_of(layer):
    """The arrays of a layer of the reference: a list."""
    if isinstance(layer, reference.Embedding):
        return layer.tables
    return [array for array in layer if isinstance(array, np.ndarray)]


def as_weights(tables):
    """The gradients of an Embedding's tables as `Model.gradients` has them, transposed."""
    widest = max(table.shape[1] for table in tables)
    return np.vstack([np.pad(table, ((0, 0), (0, widest - table.shape[1]))) for table in tables]).T


def compare_with_the_reference(rng, problem):
    model = problem.model()
    X, Y, weights = exactly(problem, model)
    weights = None if weights is None or not weights.all() else weights
    problem = replace(problem, weights=None if weights is None else problem.weights)
    name = loss_functions.kernel_name(model.loss_name, problem.options["output"])
    exact, tolerance = twin_of(model), TOLERANCE["float64"]
    if len(X) > 1 or not model._network.layout.whole_batch:
        _, wanted = reference.gradients(exact, X, Y, name)
        for i, (pair, parts) in enumerate(zip(model.gradients(problem.X, problem.y), wanted, strict=True)):
            if i == 0 and isinstance(exact[0], reference.Embedding):
                parts = [as_weights(parts)]
            for got, want in zip(pair, parts, strict=False):
                check_close(got.T, want / len(X), tolerance, f"gradient of layer {i}")
    order = np.array([rng.permutation(len(X)) for _ in range(int(rng.integers(1, 4)))])
    optimizer = problem.optimizer
    settings = cases.settings_of(optimizer)

    def trained(network):
        given = {"loss_name": name, "optimizer": optimizer._kernel, "weights": weights}
        given |= cases.kinds_of_tensors(optimizer)
        losses, network = reference.train(network, X, Y, order, min(problem.batch_size, len(X)), *settings, **given)
        outputs = reference.forward(network, X)[-1]
        return [losses, outputs, *(array for layer in reference.numbered(network) for array in arrays_of(layer))]

    other = twin_of(model)  # a rounding error away
    for layer in reference.numbered(other):
        for array in arrays_of(layer):
            array *= 1 + ROUNDING["float64"] * rng.choice([-1, 1], array.shape)
    history = problem.fit(model, len(order), shuffle=order, threads=int(rng.integers(1, 4)))
    check_whole(model)
    got = [history.loss, model.predict(problem.X)]
    got += [array for layer in reference.numbered(twin_of(model)) for array in arrays_of(layer)]
    for i, (one, want, near) in enumerate(zip(got, trained(exact), trained(other), strict=True)):
        check_close(one, want, tolerance + AMPLIFIED * distance(near, want), f"result {i}")


@attack(cases=15, share=3)
def test_the_same_bits(rng):
    """Threads, fits in parts, streams, single steps, files, copies and populations give the bits of one plain fit."""
    problem = random_problem(rng, most_samples=700)
    if chance(rng, 0.6):
        problem = with_everything(rng, problem)
    if chance(rng, 0.4):
        problem = with_kinds(rng, problem)
    how = pick(rng, ORIENTATIONS)
    try:
        with on_threads(rng, how):
            checks = check_threads, check_parts, check_streams, check_steps, check_outside, check_copies
            for check in (*checks, check_populations):
                check(rng, problem)
    except Exception as error:
        raise AssertionError(f"{error!r}: {problem}, orientation {how}") from error


def fitted(problem, epochs, **options):
    """(model, losses) after a fit."""
    model = problem.model()
    return model, list(problem.fit(model, epochs, **options).loss)


def check_threads(rng, problem):
    epochs = int(rng.integers(1, 3))
    alone, losses = fitted(problem, epochs, threads=1)
    for count in (2, 3):
        shared, others = fitted(problem, epochs, threads=count)
        check_same(shared, alone, f"{count} threads")
        assert others == losses, f"other losses: {count} threads"
        outputs = shared.predict(problem.X, threads=count)
        assert outputs.tobytes() == alone.predict(problem.X, threads=1).tobytes(), f"other outputs: {count} threads"


def check_parts(rng, problem):
    first, second = int(rng.integers(0, 3)), int(rng.integers(0, 3))
    order = random_order(rng, first + second, len(problem.X)) if problem.weights is None else None
    whole, parts = problem.model(), problem.model()
    for given in (False, True) if order is not None else (False,):
        options = [{"shuffle": part} for part in (order, order[:first], order[first:])] if given else [{}] * 3
        together = list(problem.fit(whole, first + second, **options[0]).loss)
        apart = [*problem.fit(parts, first, **options[1]).loss, *problem.fit(parts, second, **options[2]).loss]
        check_same(parts, whole, f"fits of {first} and {second} epochs")
        assert apart == together, f"other losses: fits of {first} and {second} epochs"


def check_streams(rng, problem):
    """Samples in pieces, through a buffer of any size."""
    more = {name: value for name, value in problem.more.items() if name not in ("dropout", "input_noise")}
    problem, n = replace(problem, more=more), len(problem.X)
    edges = np.unique([0, *rng.integers(0, n, rng.integers(0, 8)), n])
    arrays = [each for each in (problem.X, problem.y, problem.weights) if each is not None]
    pieces = [[array[a:b] for array in arrays] for a, b in itertools.pairwise(edges)]
    whole, streamed = problem.model(), problem.model()
    losses = problem.fit(whole, 2, shuffle=False).loss
    given = {"batch_size": problem.batch_size, "optimizer": problem.optimizer, "shuffle": False} | more
    stream = fastnn.Stream(pieces, buffer_rows=int(rng.integers(1, n + 10)))
    history = streamed.fit(stream, epochs=2, threads=int(rng.integers(1, 3)), **given)
    check_same(streamed, whole, "a stream")
    np.testing.assert_allclose(history.loss, losses, rtol=1e-5 if whole.dtype == "float32" else 1e-12)


def check_steps(rng, problem):
    problem = replace(problem, more={})  # partial_fit takes none of these
    stepped, whole = problem.model(), problem.model()
    for _ in range(2):
        loss = stepped.partial_fit(problem.X, problem.y, optimizer=problem.optimizer, sample_weight=problem.weights)
        history = problem.fit(whole, 1, batch_size=len(problem.X), shuffle=False)
        heights = strategy.heights(whole._network.layout.block_rows)
        if problem.weights is not None or len(problem.X) in heights:
            check_same(stepped, whole, "partial_fit and a fit of one batch")
            assert loss == history.loss[0], "other loss: partial_fit and a fit of one batch"
            continue
        tolerance = 1e-4 if whole.dtype == "float32" else 1e-10  # the sums run over other blocks
        np.testing.assert_allclose(loss, history.loss[0], rtol=tolerance, atol=tolerance)
        if isinstance(problem.optimizer, (fastnn.Rprop, fastnn.Lion)):
            return  # whose steps follow the signs of sums that may be zero
        limit = tolerance * max(1.0, float(np.abs(whole.parameters).max()))
        np.testing.assert_allclose(stepped.parameters, whole.parameters, rtol=tolerance, atol=limit)


def check_outside(rng, problem):
    """`backward` and `step` give the same bits whatever went forward before, and those of `gradients` where both do."""
    model, n = problem.model(), len(problem.X)
    if model._network.layout.whole_batch and not 1 < n <= model._network.layout.block_rows:
        return
    outputs = model.forward(problem.X)
    Y = rng.normal(size=outputs.shape).astype(model.dtype)
    d_a = (outputs - Y) * outputs.dtype.type(1 / n)
    if not np.isfinite(d_a).all():
        return
    if model.loss_name == "quadratic":
        parts = [part for pair in model.gradients(problem.X, Y) for part in pair]
        if isinstance(model.layers[0], Embedding):
            edges = np.cumsum((0, *model.layers[0].categories))
            rows = itertools.pairwise(edges.tolist())
            parts[:1] = [parts[0][slice(*some), :n] for some, n in zip(rows, model.layers[0].widths, strict=True)]
        of_loss = np.concatenate([part.ravel() for part in parts])
        found = model.backward(problem.X, d_a, inputs=True)[0]
        named = [item for tensors in model.tensors for item in tensors.items()]
        kept = [np.full(each.size, not name.startswith("running")) for name, each in named]
        assert found[np.concatenate(kept)].tobytes() == of_loss.tobytes(), "other gradients"
    alone = problem.model()
    for _ in range(3):
        before = pick(rng, [[], [n], [n, max(n // 2, 2)], [max(n // 3, 2), n]])
        if not model._network.layout.whole_batch:
            for rows in before:
                model.forward(problem.X[:rows])
        for got, want in zip(*(each.backward(problem.X, d_a, inputs=True) for each in (model, alone)), strict=True):
            assert got.tobytes() == want.tobytes(), f"other gradients after {before}"
        for each in (model, alone):
            each.step(problem.X, d_a, optimizer=problem.optimizer)
        check_same(model, alone, f"steps on a gradient from outside after {before}")
        alone._network.tapes.latest = None


def through_a_file(model):
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, "model"))
        return fastnn.load(Path(folder, "model"))


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "a file": through_a_file,
}


def check_copies(rng, problem):
    model, _ = fitted(problem, 1)
    before = model.parameters.tobytes()
    name = pick(rng, list(COPIES))
    twin = COPIES[name](model)
    check_same(twin, model, name)
    assert repr(twin) == repr(model), name
    assert twin.frozen == model.frozen, name
    problem.fit(twin, 2)
    assert model.parameters.tobytes() == before, f"{name}: training the copy changed the model"
    problem.fit(model, 2)
    check_same(twin, model, f"{name}, and further training")


def of_members(rng, problem, n):
    """(arguments of a population's fit, those of each member's): numbers differ, and some rules are off for some."""
    together, alone = {}, [{} for _ in range(n)]
    for name, value in problem.more.items():
        values = [value] * n
        if isinstance(value, float) and value and name != "max_norm":
            values = [value * float(pick(rng, [0, 0.5, 1])) for _ in range(n)]
            together[name] = np.array(values)
        else:
            together[name] = value
        for each, own in zip(alone, values, strict=True):
            each[name] = own
    rate, optimizers = problem.optimizer.learning_rate, [problem.optimizer] * n
    if isinstance(rate, float):
        optimizers = [replace(problem.optimizer, learning_rate=rate * float(rng.uniform(0.1, 1))) for _ in range(n)]
    for each, optimizer in zip(alone, optimizers, strict=True):
        each["optimizer"] = optimizer
    return together | {"optimizer": optimizers}, alone


def check_populations(rng, problem):
    """Each of some members, on some of the rows, is a model by itself."""
    n, epochs, rows = int(rng.integers(1, 5)), int(rng.integers(1, 3)), len(problem.X)
    models = []
    for i in range(n):
        seeded = replace(problem, options=problem.options | {"rng": problem.options["rng"] + i})
        models.append(seeded.model())
    population = fastnn.Population.from_models(models)
    together, alone = of_members(rng, problem, n)
    chosen = None
    if chance(rng, 0.5):
        chosen = [np.append(0, rng.integers(0, rows, rng.integers(1, rows + 1))) for _ in range(n)]
    whole_batch = any(kind.whole_batch for kind in models[0]._network.layout.kinds)
    if whole_batch or isinstance(problem.optimizer, fastnn.Rprop):
        chosen = None  # for which any number of rows would be wrong
    given = {"batch_size": problem.batch_size, "sample_weight": problem.weights, "threads": int(rng.integers(1, 4))}
    population.fit(problem.X, problem.y, epochs=epochs, rows=chosen, **given | together)
    for i, (model, own) in enumerate(zip(models, alone, strict=True)):
        some = slice(None) if chosen is None else chosen[i]
        weights = None if problem.weights is None else problem.weights[some]
        arguments, layout = given | own | {"sample_weight": weights}, model._network.layout
        x, y = problem.X[some], problem.y[some]
        if strategy.lanes_pay(layout, min(problem.batch_size, len(x))):  # where a model's sums may have another order
            of_one = fastnn.Population.from_models([model])
            losses = of_one.fit(x, y, epochs=epochs, **arguments).loss[0].tolist()
            model = of_one[0]
        else:
            losses = list(model.fit(x, y, epochs=epochs, **arguments).loss)
        check_same(population[i], model, f"member {i} of {n}")
        assert population.history.loss[i].tolist() == losses, f"other losses: member {i} of {n}"
        outputs = population.predict(problem.X)[i]
        assert outputs.tobytes() == model.predict(problem.X).tobytes(), f"other outputs: member {i} of {n}"
