"""Networks of integers: the C code has the bits of the arithmetic in NumPy, which does what real numbers do, nearly."""

import math
import re
import shutil
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")

from sklearn import datasets
from sklearn.model_selection import train_test_split

import fastnn
from fastnn import Dense, Model
from fastnn.exchange import c_header, integer_steps, quantizing
from fastnn.exchange.computation import LABELS, NUMBERS
from fastnn.exchange.describing import computation_of
from fastnn.exchange.integer_steps import UNIT
from fastnn.settings.layers import HIDDEN

from .test_export_c import COMPILERS, MACHINES, Compiled, compiler, ran, run, self_tests, symbols

rng = np.random.default_rng(0)
N = 7  # inputs


def bent(x):
    return math.sin(x) + 0.1 * x


def slope(x):
    return math.cos(x) + 0.1


BENT = fastnn.Activation(bent, slope)
HEADS = {
    "classes": (Dense(4, "softmax"), {"loss": "cross_entropy"}),
    "two classes": (Dense(1, "sigmoid"), {"loss": "cross_entropy"}),
    "one of two": (Dense(2, "softmax"), {"loss": "cross_entropy"}),
    "sigmoids": (Dense(3, "sigmoid"), {}),
    "number": (Dense(1, "identity"), {}),
    "numbers": (Dense(3, "identity"), {}),
    "counts": (Dense(2, "exp"), {"loss": "poisson"}),
    "signs": (Dense(1, "identity"), {"loss": "hinge"}),
    "scores": (Dense(3, "tanh"), {}),
    **{
        f"head of {name}": (Dense(2, name), {}) for name in HIDDEN if name not in ("identity", "sigmoid", "tanh", "exp")
    },
    "own head": (Dense(2, BENT), {}),
}


def rows(n=300, scale=1.0, shift=0.0):
    return (rng.normal(0, 1, (n, N)) * scale + shift).astype(np.float32)


def network(hidden=("tanh",), head="classes", X=None, seed=0, units=9, **how):
    """(a computation, its network of integers, the rows that it was calibrated with)."""
    X = rows() if X is None else X
    last, more = HEADS[head]
    layers = [X.shape[1], *(Dense(units + i, each) for i, each in enumerate(hidden)), last]
    scaler = {"input_shift": X.mean(axis=0, dtype=np.float64), "input_scale": 1 / X.std(axis=0, dtype=np.float64)}
    model = Model(layers, rng=seed, **scaler, **more, **how)
    for bias in model.biases:
        bias[...] = rng.normal(0, 0.5, bias.shape)
    computation = computation_of(model)
    return computation, quantizing.quantized(computation, X, 0)[0], X


def hard(X):
    """Rows like X, and others with values at the ends of float32 and what is no number."""
    ends = [0, -0.0, 1e-45, -1e-40, 1e-38, 3e38, -3e38, np.inf, -np.inf, np.nan, 1e9, -1e9, 0.5, -0.5, 1, 2**24, 127.5]
    odd = rng.choice(np.array(ends, np.float32), (200, X.shape[1]))
    with np.errstate(over="ignore"):
        near = (X * rng.choice([0.5, 1, 2, 10], (len(X), 1))).astype(np.float32)
    return np.concatenate([X, odd, near])


def finite(X):
    """The last rows of these that a self test can have."""
    found = hard(X)
    return found[np.isfinite(found).all(axis=1)][-16:]


class Headers:
    """Headers of several networks as one library."""

    def __init__(self, folder, networks, command, *options):
        paths = []
        for name, (_, whole, X) in networks.items():
            paths.append(folder / f"{name}.h")
            paths[-1].write_bytes(c_header.quantized(whole, X, name, {}))
        self.library = Compiled(folder, paths, command, *options)
        self.networks = networks

    def check(self):
        for name, (_, whole, X) in self.networks.items():
            X = hard(X)
            found = self.library.outputs(name, whole.computation, X)
            expected = whole.outputs(whole.integers(X)[-1])
            assert np.isfinite(expected).all()
            np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32), err_msg=name)


CASES = {
    **{f"hidden_{name}": ((name, name), "numbers") for name in HIDDEN},
    "hidden_own": ((BENT, "relu"), "numbers"),
    "no_hidden": ((), "classes"),
    "deep": (("relu", "tanh", "silu", "step", "gelu"), "classes"),
    **{re.sub(r"\W", "_", f"head_{name}"): (("tanh",), name) for name in HEADS},
}


def cases():
    found = {name: network(*how) for name, how in CASES.items()}
    for power in (-38, -30, -10, 8, 20, 37):  # inputs of all sizes
        found[f"scale_{power + 40}"] = network(("tanh",), "numbers", rows(scale=10.0**power))
    for ratio in (1e3, 1e6):
        found[f"shift_{ratio:.0f}"] = network(("tanh",), "numbers", rows(shift=ratio))
    constant = rows()
    constant[:, [1, 4]] = 0, 1e5
    model = Model([N, Dense(5, "relu"), 2], rng=0)
    computation = computation_of(model)
    found["constant"] = computation, quantizing.quantized(computation, constant, 0)[0], constant
    wide = Model([300, Dense(63, "relu"), Dense(1, "identity")], rng=0)
    X = rng.exponential(1, (100, 300)).astype(np.float32)
    found["wide"] = computation_of(wide), quantizing.quantized(computation_of(wide), X, 0)[0], X
    for name, weights, head in (
        ("hardly_read", [[1, 1e-20, -1]], "identity"),
        ("dead", np.zeros((2, 3)), "tanh"),
        ("tiny", [[1e-12, 2e-12, 0]], "gelu"),
        ("huge", [[1e12, 2e12, 0]], "softplus"),
        ("large_counts", [[20, 0, 0]], "exp"),
    ):
        computation = computation_of(scaled_model(weights, head))
        X = rows()[:, :3]
        found[name] = computation, quantizing.quantized(computation, X, 0)[0], X
    double = network(("tanh",), "classes", dtype="float64")
    return {**found, "double": double}


@pytest.fixture(scope="module")
def networks():
    with warnings.catch_warnings():
        return cases()


WAYS = {
    "gcc -O0": ("gcc", ["-O0"]),
    "gcc -O3": ("gcc", ["-O3", "-march=native"]),
    "clang": ("clang", ["-O2"]),
    "tcc": ("tcc", []),
}


@pytest.mark.parametrize(
    "way", ["gcc -O0", "tcc", *(pytest.param(w, marks=pytest.mark.slow) for w in ("gcc -O3", "clang"))]
)
def test_the_bits_of_the_arithmetic_in_numpy(way, networks, tmp_path):
    name, options = WAYS[way]
    Headers(tmp_path, networks, compiler(name), *options).check()


@pytest.mark.slow
def test_random_networks(tmp_path):
    """Of odd sizes, with weights and inputs of all scales."""
    found = {}
    for i in range(60):
        local = np.random.default_rng(i)
        n, depth = int(local.integers(1, 40)), int(local.integers(0, 4))
        X = (local.standard_normal((40, n)) * 10.0 ** local.integers(-6, 7, n)).astype(np.float32)
        hidden = [Dense(int(local.integers(1, 70)), str(local.choice(HIDDEN))) for _ in range(depth)]
        head, how = HEADS[str(local.choice(list(HEADS)))]
        model = Model([n, *hidden, head], rng=i, input_scale=1 / X.std(axis=0, dtype=np.float64), **how)
        for weight in model.weights:
            weight *= local.choice([0.3, 1, 3])
        computation = computation_of(model)
        found[f"random{i}"] = computation, quantizing.quantized(computation, X, 0)[0], X
    Headers(tmp_path, found, compiler("gcc"), "-O2").check()


# ---- arithmetic ----


def test_exponentials():
    """Of a polynomial: the largest error is 1e-7."""
    for bits in (0, 5, 20, 30):
        x = np.unique(np.concatenate([np.arange(2000), rng.integers(0, 2**30, 5000)]))
        found = integer_steps.exponential(x, bits) / 2**UNIT
        np.testing.assert_allclose(found, np.exp(-x / 2.0**bits), rtol=0, atol=1.1e-7)


def test_inverses():
    x = np.concatenate([2**UNIT + np.arange(100), rng.integers(2**UNIT, 2**44, 5000), [2 ** (UNIT + 1)]])
    y, shift = integer_steps.inverse(x)
    np.testing.assert_allclose(y / 2.0 ** (UNIT + shift), 2.0**UNIT / x, rtol=1e-8)


def test_probabilities():
    z = rng.normal(0, 5, (500, 6))
    z[:, 0] *= rng.choice([0, 1, 100], 500)
    fixed = np.rint(z * 2**16).astype(np.int64)
    real = fixed / 2**16
    e = np.exp(real - real.max(axis=1, keepdims=True))
    np.testing.assert_allclose(integer_steps.softmax(fixed, 16) / 2**UNIT, e / e.sum(axis=1, keepdims=True), atol=3e-7)
    expected = np.exp(-np.logaddexp(0, -real))
    np.testing.assert_allclose(integer_steps.sigmoid(fixed, 16) / 2**UNIT, expected, atol=3e-7)


def test_fixed_point_and_back():
    x = np.concatenate([rng.normal(0, 10.0**p, 200) for p in range(-10, 8)]).astype(np.float32)
    for bits in (-3, 0, 8, 20):
        exact = np.clip(x.astype(np.float64) * 2.0**bits, -(2**30), 2**30)
        found = integer_steps.fixed(x, bits)
        assert np.abs(found - exact).max() <= 0.5
        np.testing.assert_array_equal(integer_steps.numbers(found, bits), (found * 2.0**-bits).astype(np.float32))
    assert integer_steps.fixed(np.array([np.nan, np.inf, -np.inf], np.float32), 3).tolist() == [0, 2**30, -(2**30)]
    assert integer_steps.fixed(np.array([0.25, -0.25, 0.75], np.float32), 1).tolist() == [1, -1, 2]


def test_scaling_rounds_halves_up():
    x = np.array([-3, -2, -1, 0, 1, 2, 3])
    assert integer_steps.scaled(x, 2**30, 31).tolist() == [-1, -1, 0, 0, 1, 1, 2]


def test_tables_are_interpolated():
    x = np.arange(-40, 400)
    table = np.array([0, 10, -10, 70])
    expected = np.floor(np.interp(x, [0, 64, 128, 192], table) + 1e-9)
    found = integer_steps.interpolated(x, table, 0, 6)
    assert np.abs(found - expected)[x < 192].max() <= 1
    assert (found[x >= 192] == found[x == 191]).all()


# ---- how well it does ----


@pytest.mark.parametrize("name", ["digits", "iris", "wine", "breast_cancer"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_classes_agree_on_rows_that_calibration_has_not_seen(name, activation):
    """99% of them. Rows are as they come from the set: the network scales them, or integers do."""
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    there, other, labels, _ = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
    model = Model(
        [X.shape[1], Dense(32, activation), Dense(int(y.max()) + 1, "softmax")],
        loss="cross_entropy",
        rng=0,
        **dict(zip(("input_shift", "input_scale"), fastnn.standardize(there), strict=True)),
    )
    model.fit(there, labels, epochs=60, batch_size=16, optimizer=fastnn.Adam(2e-3))
    computation = computation_of(model)
    whole, report = quantizing.quantized(computation, there, 0.98)
    found = whole.predictions(whole.integers(other)[-1])
    assert report.agreement >= 0.99
    assert (found == model.predict(other).argmax(axis=1)).mean() >= 0.99


def test_numbers_lose_little():
    X, y = datasets.load_diabetes(return_X_y=True)
    there, other, targets, expected = train_test_split(X, y, test_size=0.3, random_state=0)
    model = Model([10, Dense(32, "tanh"), 1], rng=0, input_scale=1 / there.std(axis=0))
    model = Model([10, Dense(32, "tanh"), Dense(1, "identity")], rng=0, input_scale=1 / there.std(axis=0))
    mean, deviation = targets.mean(), targets.std()
    model.fit(there, ((targets - mean) / deviation)[:, None], epochs=60, batch_size=16, optimizer=fastnn.Adam(2e-3))
    whole, _ = quantizing.quantized(computation_of(model), there, 0.98)

    def r2(outputs):
        wanted = (expected - mean) / deviation
        return 1 - ((outputs[:, 0] - wanted) ** 2).sum() / ((wanted - wanted.mean()) ** 2).sum()

    assert abs(r2(whole.outputs(whole.integers(other)[-1])) - r2(model.predict(other))) <= 0.005


@pytest.mark.parametrize("name", HIDDEN)
def test_each_layer_is_near_its_real_values(name):
    """Of two layers: within a hundredth of the range; units of "step" are 0 or 1, nearly all of them rightly."""
    X = rows()
    model = Model([N, Dense(9, name), Dense(10, name), Dense(3, "identity")], rng=3)
    model.weights[1][...] *= 0.1 if name == "exp" else 1
    computation = computation_of(model)
    whole, _ = quantizing.quantized(computation, X, 0)
    values, integers = computation.values(X, "float64"), whole.integers(X)
    names = [step.function for step in computation.steps]
    places = [i + 1 for i, each in enumerate(names) if each == name]
    places = places or [i + 1 for i, each in enumerate(names) if each == "dense"][:-1]  # of "identity"
    assert len(places) == 2
    for layer, q, place in zip(whole.layers, integers[1:], places, strict=False):
        found, exact = layer.given.values(q), values[place]
        if name == "step":
            assert set(np.unique(found.round(12))) == {0.0, 1.0}
            assert (found.round() == exact).mean() > 0.97
        else:
            assert np.sqrt(np.square(found - exact).mean()) < 0.01 * np.ptp(exact)


def test_a_rare_large_value_does_not_take_the_place_of_others():
    """Without the balance of steps and weights, and the bias that takes up what rounding does, errors are larger."""
    X = rows(500)
    X[:, 0] = 0
    X[::250, 0] = 40
    computation, whole, _ = network(("tanh",), "numbers", X)
    exact = computation.values(X, "float64")
    found = whole.layers[0].given.values(whole.integers(X)[1])
    assert np.sqrt(np.square(found - exact[3]).mean()) < 0.02


# ---- the report ----


def test_the_report():
    X = rows()
    computation, whole, _ = network(("tanh", "relu"), "classes", X)
    _, report = quantizing.quantized(computation, X, 0)
    assert [each.layer for each in report.layers] == ["inputs", "1: 9, tanh", "2: 10, relu", "3: 4, softmax"]
    values, integers = computation.values(X, "float64"), whole.integers(X)
    back = X.astype(np.float64) * 0 + whole.inputs.middle + whole.inputs.step * integers[0]
    apart = back - values[0]
    assert report.layers[0].error == pytest.approx(np.sqrt((apart**2).sum() / (values[0] ** 2).sum()))
    assert report.layers[0].clipped == pytest.approx((np.abs(apart) > 1.5 * whole.inputs.step).mean(), abs=1e-3)
    classes = whole.outputs(integers[-1]).argmax(axis=1)
    assert report.agreement == report.layers[-1].agreement == (classes == values[-1].argmax(axis=1)).mean()
    for layer, step in ((1, 3), (2, 5)):  # the rest in real numbers
        h = whole.layers[layer - 1].given.values(integers[layer])
        for dense in [each for each in computation.steps[step:] if each.function == "dense"]:
            h = h @ dense.operands["weight"].T.astype(np.float64) + dense.operands["bias"]
            h = np.maximum(h, 0) if dense is not computation.steps[-2] else h
        assert report.layers[layer].agreement == (h.argmax(axis=1) == values[-1].argmax(axis=1)).mean()
    lines = str(report).splitlines()
    assert lines[0].split() == ["layer", "error", "clipped", "agreement"]
    assert len(lines) == 5


def test_clipped_values_are_counted():
    X = rows(2000)
    X[:, 2] = rng.standard_t(1.5, 2000)  # a long tail
    _, report = quantizing.quantized(network(X=X)[0], X, 0)
    assert 0 < report.layers[0].clipped < 0.05
    assert report.agreement > 0.99


def test_agreement_of_numbers_is_r2(tmp_path):
    X = rows()
    model = Model([N, Dense(9, "tanh"), Dense(2, "identity")], rng=0)
    report = model.export(tmp_path / "net.h", quantize="int8", calibrate=X)
    whole, _ = quantizing.quantized(computation_of(model), X, 0)
    exact, found = model.predict(X).astype(np.float64), whole.outputs(whole.integers(X)[-1])
    r2 = 1 - ((found - exact) ** 2).sum(axis=0) / ((exact - exact.mean(axis=0)) ** 2).sum(axis=0)
    assert report.agreement == pytest.approx(r2.min(), abs=1e-6)


def test_too_little_agreement_is_an_error(tmp_path):
    """Of outputs that hardly differ, the class is a matter of rounding."""
    model = Model([N, Dense(30, "tanh"), Dense(30, "tanh"), Dense(10, "softmax")], loss="cross_entropy", rng=0)
    model.weights[-1][...] *= 1e-3
    model.weights[-1][:, :] = model.weights[-1][:1] + 1e-6 * rng.standard_normal(model.weights[-1].shape)
    path = tmp_path / "net.h"
    with pytest.raises(
        ValueError, match=r"int8 must keep 98% of the predictions, got \d+\.\d%; least_agreement=0 takes"
    ):
        model.export(path, quantize="int8", calibrate=rows())
    assert not path.exists()
    report = model.export(path, quantize="int8", calibrate=rows(), least_agreement=0)
    assert 0 < report.agreement < 0.98
    assert path.exists()


# ---- what is refused ----

REFUSED = {
    "a mean": (fastnn.Population([N, 4, 2], 2, rng=0), "values that several steps read"),
    "codes": (Model([N, fastnn.Embedding([0], [5]), Dense(2)], rng=0), "values that several steps read"),
    "a sum": (Model([N, Dense(N), fastnn.Residual(Dense(N)), 2], rng=0), "values that several steps read"),
    "rows' means": (Model([N, Dense(5), fastnn.LayerNorm(), 2], rng=0), "this network has 'normalised'"),
    "slopes": (Model([N, Dense(5, "identity"), fastnn.PReLU(), 2], rng=0), "this network has 'sloped'"),
    "deviations": (Model([N, Dense(4, "identity")], loss="gaussian", rng=0), "values that several steps read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_integers_cannot_hold(name, tmp_path):
    what, told = REFUSED[name]
    with pytest.raises(ValueError, match=f"^int8 takes .*{told}"):
        fastnn.export(what, tmp_path / "net.h", quantize="int8", calibrate=rows())
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments(tmp_path):
    model, X = Model([N, 2], rng=0), rows()
    for how, told in (
        ({"quantize": "int4", "calibrate": X}, "quantize must be 'int8' or None, got 'int4'"),
        ({"quantize": "int8"}, "calibrate must be rows of inputs for quantize='int8', got None"),
        ({"calibrate": X}, "calibrate is for quantize='int8', got quantize=None"),
        ({"quantize": "int8", "calibrate": X[:19]}, r"calibrate must have shape \(n, 7\) with n >= 20, got \(19, 7\)"),
        ({"quantize": "int8", "calibrate": X[:, 0]}, r"calibrate must have shape \(n, 7\) with n >= 20, got \(300,\)"),
        (
            {"quantize": "int8", "calibrate": X[:, :3]},
            r"calibrate must have shape \(n, 7\) with n >= 20, got \(300, 3\)",
        ),
        ({"quantize": "int8", "calibrate": X * np.nan}, "calibrate must be finite"),
        ({"quantize": "int8", "calibrate": X, "rows": X[:, :2]}, r"rows must have shape \(n, 7\) with n >= 1, got"),
        ({"quantize": "int8", "calibrate": X, "least_agreement": 2}, "least_agreement must be .*, got 2"),
    ):
        with pytest.raises(ValueError, match=told):
            model.export(tmp_path / "net.h", **how)
    with pytest.raises(ValueError, match=r"path must end in \.h or \.onnx for quantize='int8', got"):
        model.export(tmp_path / "net.py", quantize="int8", calibrate=X)
    assert list(tmp_path.iterdir()) == []


def test_sums_that_32_bits_cannot_hold():
    model = Model([140_000, Dense(1, "identity")], rng=0)
    model.weights[0][...] = 1
    with pytest.raises(ValueError, match="whose sums fit in 32 bits, got one of 140000 inputs"):
        quantizing.quantized(computation_of(model), np.repeat([[-1.0], [1.0]], 10, axis=0) + np.zeros(140_000), 0)


# ---- files ----


def estimator():
    X, y = datasets.load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])
    found = fastnn.MLPClassifier(hidden_layer_sizes=(16,), max_iter=400, learning_rate_init=0.01, random_state=0, tol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return found.fit(X, names[y]), X


def test_an_estimator(tmp_path):
    classifier, X = estimator()
    report = classifier.export(tmp_path / "iris.h", quantize="int8", calibrate=X)
    assert report.agreement >= 0.99
    text = (tmp_path / "iris.h").read_text()
    assert '"versicolor"' in text
    assert "131 parameters, 112 multiply-adds a row, int8." in text
    if not any(map(shutil.which, ("cc", "gcc"))):
        pytest.skip("needs a compiler")
    found = fastnn.verify(tmp_path / "iris.h")
    assert found == (16, 0.0, 0.0, 0, True, True)
    weight = re.search(r"iris_weight\d+\[64\] = \{\s+(-?\d+),", text)[1]
    (tmp_path / "iris.h").write_text(text.replace(f"{{\n    {weight},", f"{{\n    {int(weight) ^ 64},", 1))
    assert not fastnn.verify(tmp_path / "iris.h").passed


@pytest.mark.parametrize("head", [name for name in HEADS if "head" not in name])
def test_classes_in_c(head, tmp_path):
    """The self test of each header compares them; it runs with the sanitizers of undefined behaviour."""
    computation, whole, X = network(("tanh",), head)
    path = tmp_path / "net.h"
    path.write_bytes(c_header.quantized(whole, finite(X), "net", {}))
    kind = computation.decision.kind
    assert ("net_classify" in path.read_text()) == (kind != NUMBERS)
    (tmp_path / "test.c").write_text('#define NET_SELFTEST\n#include "net.h"\n')
    options = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    assert ran("gcc", options, tmp_path / "test.c", tmp_path, tmp_path).startswith(
        "16 rows, largest error 0, 0 ulp, 0 l"
    )
    outputs = whole.outputs(whole.integers(X)[-1])
    if kind == LABELS:
        assert (whole.predictions(whole.integers(X)[-1]) == (outputs > 0.5)).all()
    elif kind != NUMBERS:
        z = whole.integers(X)[-1]
        apart = np.abs(np.diff(np.sort(z, axis=1)[:, -2:], axis=1))[:, 0] if z.shape[1] > 1 else np.abs(z[:, 0])
        sure = apart > 2 ** (whole.bits - 10)
        expected = computation.predictions(outputs.astype(np.float64))
        assert (whole.predictions(z) == expected)[sure].all()
        assert sure.mean() > 0.9


def test_another_threshold():
    """An output is compared with the threshold as an integer."""
    model = Model([N, Dense(1, "sigmoid")], loss="cross_entropy", rng=0)
    computation = computation_of(model)
    object.__setattr__(computation.decision, "threshold", 0.8)
    whole, report = quantizing.quantized(computation, rows(), 0)
    z = whole.integers(rows())[-1]
    assert whole.threshold == math.floor(math.log(4) * 2**whole.bits)
    assert ((whole.outputs(z)[:, 0] > 0.8) == (whole.predictions(z) == 1)).mean() > 0.999
    assert report.agreement > 0.98


# ---- compilers ----


@pytest.fixture(scope="module")
def sources(networks, tmp_path_factory):
    """A folder with headers; of all of them, and of each half, a source that calls them and one of their self tests."""
    folder = tmp_path_factory.mktemp("int8")
    for name, (_, whole, X) in networks.items():
        (folder / f"{name}.h").write_bytes(c_header.quantized(whole, finite(X), name, {}))
    for part, names in parts(networks).items():
        lines = list[str]()
        for name in names:
            call = f"void rows_{name}(const float *x, float *y, int32_t n)"
            lines += [f'#include "{name}.h"', f"{call};", f"{call}\n{{\n    {name}_predict_rows(x, y, n);\n}}"]
            if networks[name][1].computation.decision.kind not in (NUMBERS, LABELS):
                call = f"int32_t class_{name}(const float *x)"
                lines += [f"{call};", f"{call}\n{{\n    return {name}_classify(x);\n}}"]
        (folder / f"{part}.c").write_text("\n".join(lines) + "\n")
        tests, tested = self_tests(names)
        main = f"int main(void)\n{{\n    return {tested};\n}}\n"
        (folder / f"tests-{part}.c").write_text("\n".join([*tests, main]))
    return folder


def parts(networks):
    """Names of networks: all take long for each compiler and machine, so most have a half of them."""
    names = [*networks]
    return {"all": names, "half 0": names[::2], "half 1": names[1::2]}


ALLOWED = (
    r"__aeabi_(lmul|llsl|llsr|lasr|uidiv|idiv|uidivmod|idivmod|lcmp|ldivmod|uldivmod)"
    r"|__(ashl|ashr|lshr)di3|memcpy|memset"
)


ALL_BY = ("gcc", "clang", "tcc")  # the others have the parsers of the first two


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "part"), [(name, "all" if name in ALL_BY else f"half {i % 2}") for i, name in enumerate(COMPILERS)]
)
def test_no_warning_and_no_float(name, part, sources, tmp_path):
    """Every warning is an error; nothing is needed but what integers of 64 bits take on a CPU that has not got them."""
    _, others = symbols(name, "-Os", sources / f"{part}.c", tmp_path)
    assert [each for each in others if name not in ("Cortex-M0", "mips") or not re.fullmatch(ALLOWED, each)] == []


ELSEWHERE = {
    "gcc": ("gcc", ["-O3"]),
    "g++": ("g++", ["-O2"]),
    "sanitizers": ("gcc", ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]),
    **{name: (name, ["-Os"]) for name in MACHINES},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "part"), [(way, "all" if way == "sanitizers" else f"half {i % 2}") for i, way in enumerate(ELSEWHERE)]
)
def test_the_same_bits_on_other_machines(way, part, sources, networks, tmp_path):
    """Self tests, whose outputs are compared bit for bit."""
    said = ran(*ELSEWHERE[way], sources / f"tests-{part}.c", tmp_path, sources)
    passed = re.findall(r"^16 rows, largest error 0, 0 ulp, 0 labels differ$", said, re.M)
    assert len(passed) == len(parts(networks)[part])


def test_flash_on_a_cortex_m4(tmp_path):
    """At most 5 KB of 64-32-10, decisions included."""
    model = Model([64, Dense(32, "tanh"), Dense(10, "softmax")], loss="cross_entropy", rng=0)
    X = rng.uniform(0, 16, (100, 64))
    model.export(tmp_path / "net.h", quantize="int8", calibrate=X, least_agreement=0)
    (tmp_path / "net.c").write_text(
        '#include "net.h"\nint32_t classify(const float *x) { return net_classify(x); }\n'
        "void predict(const float *x, float *y) { net_predict(x, y); }\n"
    )
    run(*compiler("Cortex-M4"), "-Os", "-c", "net.c", "-o", "net.o", cwd=tmp_path)
    text, data, bss = map(int, run("arm-none-eabi-size", tmp_path / "net.o").splitlines()[1].split()[:3])
    assert (data, bss) == (0, 0)
    assert text <= 5 * 1024


# ---- ONNX ----


def onnx_values(content, X):
    """By the names of operators: what all nodes of a file give for rows, by ONNX Runtime."""
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    names = [node.output[0] for node in model.graph.node if node.op_type in ("QuantizeLinear", "Gemm")]
    for name in names:
        if name not in {each.name for each in model.graph.output}:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"X": X}), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_onnx_has_the_same_integers(name, tmp_path):
    """Within one; nearly all are equal. The file verifies itself, by ONNX Runtime as it comes."""
    from fastnn.exchange import onnx_file

    how = CASES[name]
    _, whole, X = network(*how)
    if any(layer.step is not None and layer.step.own is not None for layer in whole.layers):
        expressions = {"bent": "s = Sin(x) c = Constant<value = float {0.1}>() t = Mul(x, c) y = Add(s, t)"}
    else:
        expressions = {}
    content = onnx_file.quantized(whole, X, "net", expressions)
    values, integers = onnx_values(content, X), whole.integers(X)
    found = [each for each in values.values() if each.dtype == np.int8]
    kept = [found[0]]
    place = 1
    for layer in whole.layers[:-1]:
        place += 1 if layer.sums is not None else 0
        kept.append(found[place])
        place += 1
    for each, expected in zip(kept, integers[:-1], strict=True):
        apart = np.abs(each.astype(int) - expected)
        assert apart.max() <= 1 or "step" in name or name == "deep"  # a sum that is 0 here may be 1e-9 there
        assert (apart > 0).mean() < 0.01
    (tmp_path / "net.onnx").write_bytes(content)
    verified = fastnn.verify(tmp_path / "net.onnx")
    assert verified.passed
    assert verified.rows == 16


def test_onnx_of_an_estimator(tmp_path):
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    classifier, X = estimator()
    path = tmp_path / "iris.onnx"
    report = classifier.export(path, quantize="int8", calibrate=X)
    assert report.agreement >= 0.99
    assert fastnn.verify(path).passed
    from fastnn.exchange import onnx_file

    found = onnx_file.run(path, X)
    assert (found["label"] == classifier.predict(X)).mean() >= 0.99
    assert np.abs(found["probabilities"] - classifier.predict_proba(X)).max() < 0.05


# ---- the ends of what numbers hold ----


def quantized(model, X):
    return quantizing.quantized(computation_of(model), X, 0)


def scaled_model(weights, head="identity", X=None):
    """A model without a hidden layer, of given weights."""
    weights = np.asarray(weights, np.float64)
    model = Model([weights.shape[1], Dense(len(weights), head)], rng=0)
    model.weights[0][...] = weights
    return model


def test_inputs_that_hardly_matter():
    """Their steps are at most their ranges, for zeros to fit in 32 bits."""
    whole, _ = quantized(scaled_model([[1, 1e-20, -1, 1e-38]]), rows()[:, :4])
    assert (whole.inputs.step <= 1.3 * np.ptp(rows()[:, :4], axis=0).max()).all()
    assert (np.abs(whole.inputs.zero) < 2**30).all()


def test_inputs_far_from_zero():
    """The middle of a range is what its integer says: no input is rounded by more than half a step."""
    X = (8e5 + rng.random((200, 2))).astype(np.float32)
    model = Model([2, Dense(2, "identity")], rng=0, input_shift=X.mean(axis=0, dtype=np.float64), input_scale=3.0)
    whole, report = quantized(model, X)
    q = whole.inputs.integers(X)
    inside = (q > -128) & (q < 127)
    assert inside.mean() > 0.9
    assert np.abs(whole.inputs.values(q) - X)[inside].max() <= 0.501 * whole.inputs.step.max()
    assert report.agreement > 0.999


def test_infinite_inputs_are_as_two_to_128():
    ends = np.array([np.inf, -np.inf], np.float32)
    assert integer_steps.fixed(ends, -100).tolist() == [2**28, -(2**28)]
    assert integer_steps.fixed(ends, -97).tolist() == [2**30, -(2**30)]


def test_multipliers_of_any_size():
    factor = np.array([0, 1e-300, 2.0**-31, 0.3, 1, 2.0**30, 1e300])
    multiplier, shift = quantizing._multipliers(factor)
    assert ((shift >= 1) & (shift <= 62)).all()
    assert ((multiplier >= 0) & (multiplier < 2**31)).all()
    np.testing.assert_allclose((multiplier / 2.0**shift)[:6], factor[:6], rtol=1e-9, atol=2.0**-63)
    assert (multiplier / 2.0**shift)[6] == pytest.approx(2.0**30)


@pytest.mark.parametrize("head", ["identity", "tanh", "relu", "sigmoid"])
def test_outputs_that_are_constant(head):
    """Of a dead network, and of an output beside others."""
    X = rows()[:, :3]
    whole, report = quantized(scaled_model(np.zeros((2, 3)), head), X)
    assert report.agreement == 1
    np.testing.assert_allclose(whole.outputs(whole.integers(X)[-1]), 0.5 if head == "sigmoid" else 0, atol=1e-9)
    model = scaled_model([[1e-3, 2e-3, 0], [0, 0, 0]], head)
    model.biases[0][1] = 0.3
    assert quantized(model, X)[1].agreement > 0.98


def test_agreement_of_a_constant_output_is_of_its_size():
    computation, exact = computation_of(scaled_model([[1, 0, 0]])), np.full((30, 1), 0.3)
    assert quantizing._agreement(computation, exact * 1.1, exact) == pytest.approx(0.99)
    assert quantizing._agreement(computation, exact + 1e-9, exact) > 1 - 1e-12


@pytest.mark.parametrize("head", ["tanh", "softplus", "leaky_relu", "exp"])
@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_curved_outputs_of_small_and_large_sums(head, size):
    X = np.abs(rows()[:, :3])
    model = scaled_model(size * np.array([[1, 2, 0.5]]) * (-1 if head == "exp" and size > 1 else 1), head)
    whole, _ = quantized(model, X)
    found, exact = whole.outputs(whole.integers(X)[-1]), model.predict(X)
    np.testing.assert_allclose(found, exact, rtol=0.1, atol=0.1 * np.abs(exact).max())


def test_large_counts():
    """e^x of sums near the largest number of float32, beyond which the table goes on."""
    X = rows()[:, :1] / 5
    model = scaled_model([[30]], "exp")
    model.biases[0][...] = 85 - 30 * X.max()
    whole, _ = quantized(model, X)
    found = whole.outputs(whole.integers(hard(X))[-1])
    assert np.isfinite(found).all()
    assert found.max() >= 0.9 * 2.0**119


def test_the_table_of_outputs_is_for_sums_that_there_are():
    """A rare large input that is clipped does not stretch it."""
    X = rows(2000)[:, :3]
    X[::500, 0] = 1e6
    model = scaled_model([[1, 1, -1]], "tanh")
    whole, _ = quantized(model, X)
    typical = np.abs(X[:, 0]) < 100
    apart = whole.outputs(whole.integers(X)[-1]) - model.predict(X)
    assert np.sqrt(np.square(apart[typical]).mean()) < 0.05


def test_values_that_float32_cannot_hold_are_an_error(tmp_path):
    X = rows()
    model = Model([N, Dense(5, "relu"), Dense(5, "relu"), 1], rng=0, dtype="float64")
    for weight in model.weights:
        weight *= 1e30
    with pytest.raises(ValueError, match=r"^calibrate must be rows whose values in each layer are finite in float32"):
        model.export(tmp_path / "net.h", quantize="int8", calibrate=X)
    large = X.astype(np.float64)
    large[3, 2] = 1e300
    with pytest.raises(ValueError, match=r"^calibrate must be finite in float32, got calibrate\[3, 2\] = 1e\+300"):
        model.export(tmp_path / "net.h", quantize="int8", calibrate=large)
    assert list(tmp_path.iterdir()) == []


# ---- rows of calibration ----


def test_ranges_are_wider_than_the_rows():
    """By a tenth at each end, where that is tried."""
    X = rows(40)
    inputs = quantizing.Inputs.of(X.astype(np.float64), np.ones((1, N)), *quantizing.RANGES[0])
    wider = 0.09 * np.ptp(X, axis=0)
    assert (inputs.values(-128) < X.min(axis=0) - wider).all()
    assert (inputs.values(127) > X.max(axis=0) + wider).all()


def test_a_bias_takes_up_the_error_of_its_sums():
    """In the median."""
    X = (rows(300) > 1).astype(np.float32)
    computation, whole, _ = network(("identity",), "numbers", X)
    layer, values = whole.layers[0], computation.values(X, "float64")
    place = [step.function for step in computation.steps].index("dense") + 1
    sums = integer_steps.sums(whole.integers(X)[0], layer.weight, layer.bias) * layer.scale
    assert (np.abs(np.median(sums - values[place], axis=0)) <= 0.51 * layer.scale).all()


def test_many_rows_are_thinned_out():
    X = np.zeros((25_000, 2))
    X[::3] = rows(8334)[:, :2]
    X[1::3] = 1e6
    whole, _ = quantized(scaled_model([[1, 1]]), X)
    assert whole.inputs.values(127).max() < 10


def test_kinds_of_rows():
    """A list, a frame, integers and bools are as the array of them."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X = rng.integers(0, 2, (40, 3))
    expected, _ = quantized(scaled_model([[1, 2, 3]]), X.astype(np.float32))
    for given in (X, X.astype(bool), X.tolist(), pandas.DataFrame(X), X.astype(np.uint8)):
        found, _ = quantized(scaled_model([[1, 2, 3]]), given)
        np.testing.assert_array_equal(found.integers(X)[-1], expected.integers(X)[-1])


# ---- ONNX where rounding is large ----


@pytest.mark.parametrize("case", ["far from zero", "large terms", "steps", "wide"])
def test_onnx_verifies_itself(case, tmp_path):
    """Where float32 rounds sums by more than 1e-5, or to the other side of 0, the self test allows for it."""
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    X = rows()[:, :2]
    if case == "far from zero":
        X = (8e5 + X).astype(np.float32)
        model = Model([2, Dense(2, "selu")], rng=0, input_shift=X.mean(axis=0, dtype=np.float64), input_scale=3.0)
    elif case == "large terms":
        model = scaled_model([[1e6, 1e6], [1e6, -1e6]])
        model.biases[0][...] = -2e6
    elif case == "steps":
        X = (X > 0).astype(np.float32)  # half of the sums are 0
        model = Model([2, Dense(4, "step"), Dense(2, "identity")], rng=0)
        model.weights[0][...] = [[1, -1], [-1, 1], [3, -3], [1, 1]]
    else:
        X = rng.standard_normal((100, 500))
        model = Model([500, Dense(300, "tanh"), Dense(300, "gelu"), Dense(3, "identity")], rng=0)
    path = tmp_path / "net.onnx"
    model.export(path, quantize="int8", calibrate=X, least_agreement=0)
    assert fastnn.verify(path).passed


def test_onnx_of_inputs_too_small_for_its_scales(tmp_path):
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    model, X = Model([N, 2], rng=0, input_scale=1e38), rows(scale=1e-38)
    model.export(tmp_path / "net.h", quantize="int8", calibrate=X)
    with pytest.raises(ValueError, match=r"^an ONNX file of int8 takes inputs of larger ranges, got 1e-36 at most of"):
        model.export(tmp_path / "net.onnx", quantize="int8", calibrate=X)
    assert not (tmp_path / "net.onnx").exists()


def test_scales_that_float32_cannot_hold(tmp_path):
    """Weights of a feature of tiny values; C takes them."""
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    model = Model([N, Dense(3, "tanh"), Dense(1, "identity")], dtype="float64", rng=0)
    model.weights[1][...] = 1e39
    with pytest.raises(ValueError, match="an ONNX file of int8 takes parameters that float32 holds, got"):
        model.export(tmp_path / "net.onnx", quantize="int8", calibrate=rows() * 1e-4, least_agreement=0)
