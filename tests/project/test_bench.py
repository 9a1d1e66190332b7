"""The benchmark suite works and compares like with like. No test here looks at a time."""

import json
import platform
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bench import (
    calls,
    cases,
    fann,
    inference,
    measuring,
    mnist,
    operations,
    orientations,
    report,
    roofline,
    sides,
    streams,
    training,
)
from bench.__main__ import main
from bench.baseline_numpy import GATHERED_ROWS, NumpyMLP
from bench.cases import CASES, Case
from bench.peers import ORIENTATIONS, PEERS, fastest
from fastnn import Adam, Dense, Model, OneCycle, load_digits
from fastnn.kernels import loss_functions
from fastnn.layers import HIDDEN
from fastnn.optimizers import BY_NAME

ROOT = Path(__file__).parents[2]
BOTH = ("fastnn", "numpy")
TORCH_WARNS = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


def run_bench(*arguments):
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)


def naive_sgd(parameters, X, labels, order, batch_size, learning_rate, linear=False):
    """Mini-batch SGD on sigmoid layers with the quadratic cost, in float64 (Nielsen, eq. BP1 to BP4).

    The last layer has no sigmoid if linear.
    """
    weights = [W.astype(np.float64) for W, _ in parameters]
    biases = [b.astype(np.float64) for _, b in parameters]
    targets = np.eye(weights[-1].shape[0])[labels]
    for indices in order:
        for start in range(0, len(indices), batch_size):
            batch = indices[start : start + batch_size]
            outputs = [X[batch].astype(np.float64)]
            for W, b in zip(weights, biases, strict=True):
                outputs.append(outputs[-1] @ W.T + b)
                if not (linear and len(outputs) > len(weights)):
                    outputs[-1] = 1 / (1 + np.exp(-outputs[-1]))
            delta = outputs[-1] - targets[batch]
            for l in reversed(range(len(weights))):
                if not (linear and l == len(weights) - 1):
                    delta = delta * outputs[l + 1] * (1 - outputs[l + 1])
                dW, db = delta.T @ outputs[l] / len(batch), delta.mean(axis=0)
                delta = delta @ weights[l]
                weights[l] -= learning_rate * dW
                biases[l] -= learning_rate * db
    return weights, biases


def test_case_names_are_unique_and_tell_the_case():
    assert len({case.name for case in CASES}) == len(CASES) == 12
    assert CASES[0].name == "784-30-10 b10"


def test_flops_match_a_count_by_hand():
    # 784-30-10: forward and gradient 2 * 2 * (784 * 30 + 30 * 10), delta of the hidden layer 2 * 30 * 10
    assert CASES[0].flops == 95_880
    assert Case((2, 3), 1, 1).flops == 24


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_data_have_the_promised_form(case):
    assert min(case.sizes) > 0
    assert case.n_samples >= case.batch_size > 0
    case = case.cut(7)
    X, labels = cases.data(case)
    assert (X.shape, X.dtype) == ((7, case.sizes[0]), np.float32)
    assert (labels.shape, labels.dtype) == ((7,), np.int32)
    assert labels.min() >= 0
    assert labels.max() < case.sizes[-1]
    order = cases.orders(case, 3)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(7), (3, 1)))
    assert not (order[0] == order[1]).all()
    for (W, b), (fan_in, fan_out) in zip(cases.initial(case), pairwise(case.sizes), strict=True):
        assert (W.shape, W.dtype) == ((fan_out, fan_in), np.float32)
        assert (b.shape, b.dtype) == ((fan_out,), np.float32)
    np.testing.assert_array_equal(cases.data(case)[0], X)


def test_cut_never_adds_samples():
    assert Case((2, 3), 1, 10).cut(20) == Case((2, 3), 1, 10)


@pytest.mark.parametrize("sizes", [(5, 3), (6, 4, 3), (4, 7, 5, 2)])
@pytest.mark.parametrize("batch_size", [1, 8, 300])
@pytest.mark.parametrize("n_samples", [8, 2 * GATHERED_ROWS + 11])
def test_baseline_matches_naive_float64(sizes, batch_size, n_samples):
    case = Case(sizes, batch_size, n_samples)
    X, labels = cases.data(case)
    order = cases.orders(case, 2)
    model = NumpyMLP(sizes, cases.initial(case))
    model.fit(X, labels, order, batch_size, 0.7)
    weights, biases = naive_sgd(cases.initial(case), X, labels, order, batch_size, 0.7)
    for ours, theirs in zip([*model.weights, *model.biases], [*weights, *biases], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_baseline_goes_on_from_where_it_is():
    case = Case((4, 5, 3), 4, 30)
    X, labels = cases.data(case)
    order = cases.orders(case, 2)
    one, other = (NumpyMLP(case.sizes, cases.initial(case)) for _ in range(2))
    one.fit(X, labels, order, 4, 0.5)
    for epoch in order:
        other.fit(X, labels, [epoch], 4, 0.5)
    for x, y in zip([*one.weights, *one.biases], [*other.weights, *other.biases], strict=True):
        np.testing.assert_array_equal(x, y)


def test_baseline_survives_saturated_neurons():
    model = NumpyMLP((1, 1), [(np.full((1, 1), -1e4, np.float32), np.zeros(1, np.float32))])
    model.fit(np.ones((1, 1), np.float32), np.zeros(1, np.int32), [np.zeros(1, np.int32)], 1, 1.0)
    assert model.weights[0] == -1e4


@pytest.mark.parametrize("case", [Case((5, 7, 3), 4, 30), CASES[2], CASES[4]], ids=lambda case: case.name)
def test_both_sides_learn_the_same(case):
    trained = {side: sides.trained(side, case) for side in BOTH}
    assert sides.difference(trained) < 1e-4
    arrays = cases.initial(case)
    start = np.concatenate([a.ravel() for a in (*(W for W, _ in arrays), *(b for _, b in arrays))])
    assert np.abs(trained["numpy"] - start).max() > 0.01


def test_different_weights_are_an_error():
    with pytest.raises(ArithmeticError, match="fastnn and numpy"):
        sides.difference({"fastnn": np.zeros(3), "numpy": np.array([0, 1e-3, 0])})


@pytest.mark.parametrize("side", BOTH)
def test_training_in_random_orders_moves_the_weights(side):
    trainer = sides.SIDES[side](Case((4, 3, 2), 2, 9))
    before = np.array(trainer.model.weights[0])
    trainer.train(2)
    assert not np.array_equal(before, trainer.model.weights[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_peak_is_positive(dtype):
    assert roofline.fma_peak(dtype, repeats=1, seconds=1e-4) > 0


def test_read_bandwidth_is_positive():
    assert roofline.read_bandwidth(2**16, repeats=1) > 0


@pytest.mark.slow
def test_command_line_writes_json(tmp_path):
    file = tmp_path / "bench.json"
    done = run_bench("--quick", "--case", "64-32-10 b32", "--rounds", "1", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "64-32-10 b32" in done.stdout
    content = json.loads(file.read_text())
    assert content["rounds"] == content["threads"] == 1
    assert content["machine"]["numpy"] == np.__version__
    (result,) = content["cases"]
    assert result["name"] == "64-32-10 b32"
    assert set(result["seconds"]) == set(result["samples_per_second"]) >= {"fastnn", "numpy"}
    assert set(result["ratio"]) == set(result["seconds"]) - {"fastnn"}
    assert all(len(seconds) == 1 for seconds in result["seconds"].values())
    assert result["max_difference"] < 1e-4


def test_command_line_refuses_an_unknown_case():
    done = run_bench("--case", "nothing")
    assert done.returncode == 2
    assert "784-30-10 b10" in done.stderr


def test_the_fastest_variant_is_kept():
    cost = {"a": 3, "b": 2, "x": 2, "y": 1}
    tried = []

    def seconds(variant):
        tried.append(variant)
        return sum(cost[value] for value in variant.values())

    options = {"one": ("a", "b"), "two": ("x", "y"), "three": ("x",)}
    assert fastest(options, seconds) == {"one": "b", "two": "y", "three": "x"}
    assert len(tried) == 3
    assert fastest({}, seconds) == {}


def _name(value):
    return value if isinstance(value, str) else ", ".join(map(str, value.values()))


JAX = {"orientation": "rows", "sigmoid": "logistic", "gradient": "jax.grad", "unroll": 1, "vector bits": 256}
COMPILED = {"orientation": "rows", "gradient": "torch.func.grad", "unroll": 1}
VARIANTS = [
    *(("jax", JAX | {"orientation": key}) for key in ORIENTATIONS),
    *(("jax", JAX | {"orientation": key, "gradient": "written out", "unroll": 4}) for key in ORIENTATIONS),
    ("jax", JAX | {"sigmoid": "tanh", "vector bits": 512}),
    ("torch-compile", COMPILED),
    *(
        ("torch-compile", COMPILED | {"orientation": key, "gradient": "written out", "unroll": 4})
        for key in ORIENTATIONS
    ),
    *(("torch", {"step": step}) for step in PEERS["torch"].options["step"]),
    ("sklearn", {}),
]


@pytest.mark.slow
@TORCH_WARNS
@pytest.mark.parametrize(("side", "variant"), VARIANTS, ids=_name)
def test_a_peer_matches_naive_float64(side, variant):
    peer = PEERS[side]
    pytest.importorskip(peer.package)
    case = Case((6, 5, 3), 8, 52)  # six batches and one of four samples
    X, labels = cases.data(case)
    order = cases.orders(case, 2)
    trainer = peer(case, variant)
    trainer.train(2, order)
    rate = getattr(peer, "learning_rate", cases.LEARNING_RATE)
    weights, biases = naive_sgd(cases.initial(case), X, labels, order, 8, rate, linear=not peer.alike)
    for ours, theirs in zip([*trainer.model.weights, *trainer.model.biases], [*weights, *biases], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    before = trainer.model.weights[0].copy()
    trainer.train(1)
    assert not np.array_equal(before, trainer.model.weights[0])


@pytest.mark.slow
@TORCH_WARNS
@pytest.mark.parametrize("side", inference.SIDES)
@pytest.mark.parametrize("case", [inference.CASES[1], inference.CASES[3].cut(300)], ids=lambda case: case.name)
def test_inference_matches_naive_float64(side, case):
    pytest.importorskip(inference.SIDES[side].package)
    outputs = cases.data(case)[0].astype(np.float64)
    for W, b in cases.initial(case):
        outputs = 1 / (1 + np.exp(-(outputs @ W.T + b)))
    predictor = inference.SIDES[side](case)
    np.testing.assert_allclose(predictor.predict(), outputs, rtol=1e-4, atol=1e-5)
    predictor.run(2)


def test_inference_cases():
    assert [case.name for case in inference.CASES][2:] == ["8-64-64-4, 1 row", "784-100-10, 50,000 rows"]
    assert inference.CASES[0].flops == 2 * (64 * 32 + 32 * 10)
    assert not {case.name for case in inference.CASES} & {case.name for case in CASES}


def made_up(name):
    rates = {"fastnn": 3e6, "jax": 2e6, "numpy": 1e6, "numpy-avx512": 1.5e6}
    return {"name": name, "samples_per_second": rates, "ratio": {"jax": 1.51, "numpy": 3.0, "numpy-avx512": 1.49}}


@pytest.fixture
def content():
    host = {"cpu": "a CPU", "cpus": 2, "system": "an OS", "python": "3", "jax": "1.2"}
    results = {"training": {"1": [made_up("64-32-10 b8")]}, "inference": {"1": [made_up("64-32-10, 1 row")]}}
    return {"machine": host, "rounds": 3, **results}


def test_report_text(content):
    text = report.text(content)
    assert "| samples/s | fastnn | JAX | NumPy | ratio to the best |\n|---|---|---|---|---|\n" in text
    assert "| 64-32-10 b8 | 3,000,000 | 2,000,000 | 1,500,000 | 1.49 (NumPy) |\n" in text
    assert "| 64-32-10, 1 row | 0.3 us | 0.5 us | 0.7 us | 1.49 (NumPy) |\n" in text
    assert "Training, 1 thread:\n" in text
    assert "a CPU (2 CPUs), an OS, Python 3, jax 1.2; `python -m bench --peers --rounds 3`." in text
    assert max(len(line) for line in text.splitlines()) <= 120


def test_report_files(content, tmp_path):
    pytest.importorskip("matplotlib")
    for folder in ("one", "other"):
        report.write(content, tmp_path / folder)
    assert json.loads((tmp_path / "one" / "peers.json").read_text()) == content
    assert (tmp_path / "one" / "peers.md").read_text() == report.text(content)
    svg = (tmp_path / "one" / "peers.svg").read_text()
    assert svg == (tmp_path / "other" / "peers.svg").read_text()
    assert all(label in svg for label in ("64-32-10 b8", "fastnn", "JAX", "NumPy"))
    assert "<dc:date>" not in svg


def test_readme_has_one_place_for_the_tables():
    page = (ROOT / "README.md").read_text()
    changed = report.replace_block(page, "| a table |\n")
    assert "| a table |\n<!-- peers:end -->" in changed
    assert report.replace_block(changed, page.split(report.BEGIN)[1].split(report.END)[0]) == page


def test_missing_packages_are_named(monkeypatch, capsys):
    monkeypatch.setattr(report, "find_spec", lambda name: None if name == "jax" else name)
    assert "jax" not in report.available(sides.SIDES)
    assert report.available(inference.SIDES)[0] == "fastnn"
    assert "jax: skipped, jax is not installed" in capsys.readouterr().out


@pytest.mark.slow
def test_command_line_compares_with_what_is_installed(tmp_path, monkeypatch, capsys):
    peers = {kind.package for kind in (*PEERS.values(), *inference.SIDES.values())} - {"numpy"}
    monkeypatch.setattr(report, "find_spec", lambda name: None if name in peers else find_spec(name))
    main(["--peers", "--quick", "--rounds=1", "--threads=1", "--case", "4-24-24-3 b256", f"--out={tmp_path}"])
    assert "torch: skipped, torch is not installed" in capsys.readouterr().out
    content = json.loads((tmp_path / "peers.json").read_text())
    (result,) = content["training"]["1"]
    assert set(result["samples_per_second"]) - {"numpy-avx512"} == {"fastnn", "numpy"}
    assert len(content["inference"]["1"]) == len(inference.CASES)
    assert (tmp_path / "peers.md").read_text() == report.text(content)


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="reads the clock of x86 CPUs")
def test_operations_of_a_step():
    measured = operations.measure(Case((64, 128, 16), 8, 100), rounds=1, seconds=0.001)
    assert [name for name, *_ in measured[:2]] == ["gather", "one_hot"]
    assert {k for _, k, _, done in measured if done} == {64, 128, 16, 8}
    weights = 64 * 128 + 128 * 16
    # Forward and gradient of each weight, the delta of the hidden layer, and the sums of the biases: no padding.
    assert sum(done for *_, done in measured) == 8 * (2 * weights + 128 * 16 + 128 + 16)


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="reads the clock of x86 CPUs")
def test_orientations():
    """Each variant is another program, and the layouts of other models are as before."""
    variants = orientations.VARIANTS
    steps = {name: orientations.Step([13, 100, 3], 178, "float64", variants[name]) for name in variants}
    texts = {str(step.plan.by_threads[1].of_workers[0][-1]) for step in steps.values()}
    assert len(texts) == len(variants)
    found, counted = orientations.measure([4, 16, 3], 20, "float32", rounds=2)
    assert all(times.shape == (2,) and (times > 0).all() for times in found.values())
    assert 0.1 < counted < 10
    assert Model([13, Dense(3, "softmax")], loss="cross_entropy")._network.layout.losses_by_columns


def test_what_a_small_call_costs(monkeypatch):
    monkeypatch.setattr(calls, "CALLS", 10)
    monkeypatch.setattr(calls, "EPOCHS", 2)
    found = calls.row((4, 8, 3), 5)
    assert next(iter(found)) == "fit, 1 epoch"
    assert all(value > 0 for name, value in found.items() if name != "beside its arithmetic")


def test_small_calls_in_turn(monkeypatch):
    monkeypatch.setattr(calls, "ROUNDS", 2)
    monkeypatch.setattr(calls, "ROUND_SECONDS", 1e-4)
    sides = calls.steps((8, 6, 4), 5)
    assert next(iter(sides)) == "fastnn"
    assert {"fastnn", "scikit-learn"} <= sides.keys()
    found = calls.in_turn(sides)
    assert all(microseconds > 0 and ratio > 0 for microseconds, ratio in found.values())
    assert found["fastnn"][1] == 1
    predicted = calls.predictions((8, 6, 4), 3)
    assert {"fastnn", "NumPy", "scikit-learn"} <= predicted.keys()
    assert calls.in_turn(predicted).keys() == predicted.keys()


def test_the_packages_that_are_compared_make_the_same_step():
    pytest.importorskip("torch", reason="PyTorch is not installed: it is in the extra bench")
    pytest.importorskip("jax", reason="JAX is not installed: it is in the extra bench")
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((32, 8), dtype=np.float32), rng.integers(0, 4, 32)
    state, *_, step = training.jax_recipe(X, y.astype(np.int32), (8, 6, 4))
    start = [(np.array(w).T, np.array(b)) for w, b in state[0]]
    model = Model([8, Dense(6, "relu"), Dense(4, "softmax")], loss="cross_entropy", init=start)
    for _ in range(3):
        model.partial_fit(X, y, optimizer=Adam())
        state = step(state, X, y.astype(np.int32), np.float32(0.001))
    for w, (its_w, _) in zip(model.weights, state[0], strict=True):
        np.testing.assert_allclose(w.T, its_w, atol=1e-5)


def test_streams_are_timed_from_every_source():
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: it is in the extra parquet")
    found = streams.measure(500, 2)
    assert list(found) == ["in memory", "memmap", ".npy files", "batches of 32", "Parquet"]
    assert found["in memory"][1] == 1
    for seconds, ratio, mebibytes in found.values():
        assert 0 < seconds < np.inf
        assert 0 < ratio < np.inf
        assert mebibytes > 0


@pytest.mark.parametrize("instructions", measuring.ISAS)
def test_an_instruction_set_is_asked_of_every_package(instructions, monkeypatch):
    for name, value in measuring.ISAS[instructions].items():
        assert measuring.isa() is None
        monkeypatch.setenv(name, value)
    assert measuring.isa() == instructions
    assert measuring.numpy_sides() == ["numpy"]
    assert "at most avx2" in measuring.machine()["instruction set"]


@pytest.fixture
def iris(monkeypatch):
    """bench.estimators, and its case of iris with few iterations."""
    pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
    from bench import estimators

    monkeypatch.setattr(estimators, "CALLS", 2)
    return estimators, estimators.Case("iris", "iris", 10, parameters={"max_iter": 3})


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_the_estimators_are_compared_with_scikit_learns(iris):
    estimators, case = iris
    result = estimators.measure(case, case.samples(), 1)
    assert result["iterations"] == 3
    assert result["difference"] < 1e-9
    assert result["fit"][2] == result["fit"][1] / result["fit"][0]


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_estimators_that_differ_are_an_error(iris, monkeypatch):
    estimators, case = iris
    monkeypatch.setattr(estimators, "TOLERANCE", {"float64": -1})
    with pytest.raises(ArithmeticError, match="iris: the two differ by"):
        estimators.measure(case, case.samples(), 1)


# ---- what training costs ----


def test_every_part_of_training_is_in_the_table():
    of_kind = {}
    for kind, name in training.variants():
        of_kind.setdefault(kind, set()).add(name.split(",")[0])
    assert of_kind["activation"] == set(HIDDEN) - {"step"}
    assert of_kind["loss"] == set(loss_functions.NAMES)
    assert of_kind["optimizer"] == set(BY_NAME) - {"rprop"}
    assert len(of_kind["rule"]) == 9


def test_a_part_of_training_is_timed(monkeypatch):
    monkeypatch.setattr(training, "SECONDS", 0.001)
    case = Case((8, 6, 4), 16, 64)
    plain = training.Side(case, {}, {})
    for of_model, of_fit in training.variants().values():
        ratio, nanoseconds = training.ratios(case, of_model, of_fit, plain, 1)
        assert 0 < ratio < np.inf
        assert 0 < nanoseconds < np.inf


def test_the_recipe_is_the_same_in_jax():
    pytest.importorskip("jax", reason="JAX is not installed: it is in the extra bench")
    X, y = load_digits()
    X, y = X[:192], y[:192].astype(np.int32)
    state, run, predict, _ = training.jax_recipe(X, y, (64, 16, 10), 0.5)
    layers = [64, Dense(16, "relu"), Dense(10, "softmax")]
    start = [(np.array(w).T, np.array(b)) for w, b in state[0]]
    model = Model(layers, loss="cross_entropy", init=start, input_scale=0.5)
    order = np.random.default_rng(0).permutation(192)
    model.fit(X, y, epochs=1, batch_size=32, optimizer=Adam(OneCycle(0.01, 6)), shuffle=order[None])
    state = run(state, order.reshape(6, 32), OneCycle(0.01, 6).rates(0, 6))
    for w, b, (its_w, its_b) in zip(model.weights, model.biases, state[0], strict=True):
        # Adam divides what is nearly zero by what is nearly zero: a few elements differ by some parts of a step
        assert np.quantile(abs(w.T - its_w), 0.9) < 1e-5
        np.testing.assert_allclose(w.T, its_w, atol=0.005)
        np.testing.assert_allclose(b, its_b, atol=0.005)
    assert (predict(state, X).argmax(axis=1) == model.classify(X)).mean() > 0.99


def test_the_time_to_an_accuracy(monkeypatch):
    monkeypatch.setattr(mnist, "SIZES", (64, 32, 10))
    monkeypatch.setattr(mnist, "EPOCHS", 20)
    monkeypatch.setattr(mnist, "SCALE", 1.0)
    X, y = load_digits()
    found = mnist.compare((X[:1500], y[:1500], X[1500:], y[1500:]), 1)
    for runs in found.values():
        assert len(runs) == 2
        assert all(seconds > 0 and accuracy > 0.85 for seconds, accuracy in runs)
    assert "fastnn" in found


def test_the_table_of_fann_has_a_line_for_each_way(tmp_path, capsys):
    """Files as FANN has them: numbers in lines of any length."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 40), ("test", 20)):
        X = rng.random((n, 3)).round(3)
        Y = np.eye(2)[(X[:, 0] > 0.5).astype(int)]
        numbers = "\n".join(" ".join(map(str, row)) for pair in zip(X, Y, strict=True) for row in pair)
        (tmp_path / f"small.{part}").write_text(f"{n} 3 2\n{numbers}\n")
    read = fann.read(tmp_path / "small.test")
    np.testing.assert_array_equal(read[0], X.astype(np.float32))
    np.testing.assert_array_equal(read[1], Y)
    fann.main([str(tmp_path), "--names", "small", "--epochs", "60", "--seeds", "1", "--hidden", "4"])
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [line[1] for line in lines] == ["Rprop"] * 5 + ["L-BFGS"] * 3
    for *_, error, share, of_train, of_test in lines:
        assert 0 <= float(error) < 0.25
        assert 0 <= float(share) <= 1
        assert float(of_train) > 0.7
        assert 0 <= float(of_test) <= 1
