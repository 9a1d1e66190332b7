"""The benchmark suite works and compares like with like. No test here looks at a time."""

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench import (
    baselines,
    calls,
    cases,
    children,
    export,
    fann,
    halving,
    machine,
    markdown,
    mnist,
    peers,
    population_sides,
    populations,
    predictors,
    sides,
    steps,
    streams,
    threads,
    timing,
    training,
    workers,
)
from bench.__main__ import QUESTIONS, main, parsed
from bench.baseline_numba import NumbaMLP
from bench.baseline_numpy import GATHERED_ROWS, NumpyMLP
from bench.cases import CASES, PREDICTED, Case
from bench.sides import ORIENTATIONS, PEERS, fastest
from fastnn import SGD, Adam, Dense, Model, OneCycle, load_digits
from fastnn.jobs.engines import Here
from fastnn.kernels import reference
from fastnn.kernels.formulas import loss_functions
from fastnn.settings.layers import HIDDEN
from fastnn.settings.optimizers import BY_NAME

ROOT = Path(__file__).parents[2]
HERE = ("fastnn", "numpy", "numba")
TORCH_WARNS = pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is deprecated:DeprecationWarning")
TWO_CPUS = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two CPUs"
)
X86 = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="reads the clock of x86 CPUs")


def reference_sgd(case, order, learning_rate, linear=False):
    """The parameters after SGD in float64, in one vector; the last layer has no sigmoid if linear."""
    X, labels = cases.data(case)
    start = [(W.T.astype(np.float64), b.astype(np.float64), "sigmoid") for W, b in cases.initial(case)]
    if linear:
        start[-1] = (*start[-1][:2], "identity")
    targets = np.eye(case.sizes[-1])[labels]
    _, network = reference.train(start, X.astype(np.float64), targets, order, case.batch_size, learning_rate)
    return vector([W.T for W, *_ in network], [b for _, b, _ in network])


def vector(weights, biases):
    """All parameters in one vector."""
    return np.concatenate([np.ravel(array) for array in (*weights, *biases)])


# ---- how things are timed ----


def test_sides_take_turns():
    log = []
    figures = timing.in_turn({name: lambda name=name: log.append(name) or len(log) for name in "ab"}, 3)
    assert log == ["a", "b"] * 3
    assert {name: each.tolist() for name, each in figures.items()} == {"a": [1, 3, 5], "b": [2, 4, 6]}


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    """Rounds in which the machine is slow change times, but not the ratio."""
    figures = {"a": np.array([1.0, 10.0, 2.0]), "b": np.array([3.0, 30.0, 4.0])}
    assert timing.ratios(figures) == {"a": 1, "b": 3}
    assert timing.ratios(figures, "b") == {"a": 1 / 3, "b": 1}
    assert timing.medians(figures) == {"a": 2, "b": 4}


def test_the_mean_of_a_call_is_timed(monkeypatch):
    clock, called = iter([1.0, 7.0, 8.0, 8.5]), []
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert timing.seconds(lambda: called.append(1), 3) == 2
    assert timing.seconds(lambda: called.append(1)) == 0.5
    assert len(called) == 4


def test_repeats_take_about_as_long_as_they_should():
    assert timing.repeats(lambda n: n * 0.01, 3.0) == 300
    assert timing.repeats(lambda n: 100.0 * n, 3.0) == 1


# ---- cases ----


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


# ---- the baselines; Numba compiles its trainer for each number of layers, so all networks here have three ----


@pytest.mark.parametrize("baseline", [NumpyMLP, NumbaMLP])
@pytest.mark.parametrize(
    ("sizes", "batch_size", "n_samples"),
    [((6, 4, 5, 3), 1, 8), ((6, 4, 5, 3), 300, 2 * GATHERED_ROWS + 11), ((4, 7, 5, 2), 8, 27)],
)
def test_a_baseline_matches_the_reference(baseline, sizes, batch_size, n_samples):
    case = Case(sizes, batch_size, n_samples)
    order = cases.orders(case, 2)
    model = baseline(sizes, cases.initial(case))
    model.fit(*cases.data(case), order, batch_size, 0.7)
    expected = reference_sgd(case, order, 0.7)
    np.testing.assert_allclose(vector(model.weights, model.biases), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "case", [Case((12, 9, 8, 4), 1, 40), Case((30, 20, 12, 10), 16, 200)], ids=lambda case: case.name
)
def test_numba_and_the_package_train_alike_in_float32(case):
    """The two differ by the rounding of the steps: some units in the last place of the largest parameter."""
    order, start = cases.orders(case, 5), cases.initial(case)
    numba, model = NumbaMLP(case.sizes, start), Model(case.sizes, init=start)
    X, labels = cases.data(case)
    numba.fit(X, labels, order, case.batch_size, 0.5)
    model.fit(X, labels, epochs=5, batch_size=case.batch_size, optimizer=SGD(0.5), shuffle=order)
    expected, found = vector(numba.weights, numba.biases), vector(model.weights, model.biases)
    assert expected.dtype == found.dtype == np.float32
    assert np.abs(found - vector(*zip(*start, strict=True))).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=0, atol=40 * np.finfo(np.float32).eps * abs(expected).max())


@pytest.mark.parametrize("baseline", [NumpyMLP, NumbaMLP])
def test_a_baseline_goes_on_from_where_it_is(baseline):
    case = Case((4, 5, 5, 3), 4, 30)
    X, labels = cases.data(case)
    order = cases.orders(case, 2)
    one, other = (baseline(case.sizes, cases.initial(case)) for _ in range(2))
    one.fit(X, labels, order, 4, 0.5)
    for epoch in order:
        other.fit(X, labels, [epoch], 4, 0.5)
    np.testing.assert_array_equal(vector(one.weights, one.biases), vector(other.weights, other.biases))


@pytest.mark.parametrize("baseline", [NumpyMLP, NumbaMLP])
def test_a_baseline_survives_saturated_neurons(baseline):
    zeros = np.zeros((1, 1), np.float32), np.zeros(1, np.float32)
    model = baseline((1, 1, 1, 1), [(np.full((1, 1), -1e4, np.float32), zeros[1]), zeros, zeros])
    model.fit(np.ones((1, 1), np.float32), np.zeros(1, np.int32), [np.zeros(1, np.int32)], 1, 1.0)
    assert model.weights[0] == -1e4
    assert model.biases[2] == 0.125  # from an output of 0.5 whose target is 1


# ---- the sides ----


@pytest.mark.parametrize("case", [Case((5, 7, 6, 3), 4, 30), CASES[6], CASES[7]], ids=lambda case: case.name)
def test_all_sides_learn_the_same(case):
    trained = {side: sides.trained(side, case) for side in HERE}
    assert sides.difference(trained) < 1e-4
    W, b = zip(*cases.initial(case), strict=True)
    assert np.abs(trained["numpy"] - vector(W, b)).max() > 0.01


def test_different_weights_are_an_error():
    with pytest.raises(ArithmeticError, match="fastnn and numpy"):
        sides.difference({"fastnn": np.zeros(3), "numpy": np.array([0, 1e-3, 0])})


@pytest.mark.parametrize("side", HERE)
def test_training_in_random_orders_moves_the_weights(side):
    trainer = sides.SIDES[side](Case((4, 3, 3, 2), 2, 9))
    before = np.array(trainer.model.weights[0])
    trainer.train(2)
    assert not np.array_equal(before, trainer.model.weights[0])


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
def test_a_peer_matches_the_reference(side, variant):
    peer = PEERS[side]
    pytest.importorskip(peer.package)
    case = Case((6, 5, 3), 8, 52)  # six batches and one of four samples
    order = cases.orders(case, 2)
    trainer = peer(case, variant)
    trainer.train(2, order)
    rate = getattr(peer, "learning_rate", cases.LEARNING_RATE)
    expected = reference_sgd(case, order, rate, linear=not peer.alike)
    before = vector(trainer.model.weights, trainer.model.biases)
    np.testing.assert_allclose(before, expected, rtol=1e-4, atol=1e-5)
    trainer.train(1)
    assert not np.array_equal(before, vector(trainer.model.weights, trainer.model.biases))


@pytest.mark.slow
@TORCH_WARNS
@pytest.mark.parametrize("side", predictors.SIDES)
@pytest.mark.parametrize("case", [PREDICTED[1], PREDICTED[3].cut(300)], ids=lambda case: case.name)
def test_predictions_match_the_reference(side, case):
    pytest.importorskip(predictors.SIDES[side].package)
    network = [(W.T.astype(np.float64), b, "sigmoid") for W, b in cases.initial(case)]
    outputs = reference.forward(network, cases.data(case)[0].astype(np.float64))[-1]
    predictor = predictors.SIDES[side](case)
    np.testing.assert_allclose(predictor.predict(), outputs, rtol=1e-4, atol=1e-5)
    predictor.run(2)


def test_cases_of_predictions():
    assert [case.name for case in PREDICTED][2:] == ["8-64-64-4, 1 row", "784-100-10, 50,000 rows"]
    assert PREDICTED[0].flops == 2 * (64 * 32 + 32 * 10)
    assert not {case.name for case in PREDICTED} & {case.name for case in CASES}


# ---- the command line ----


def test_help_lists_the_questions():
    command = [sys.executable, "-m", "bench", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=True).stdout
    modules = {path.stem for path in (ROOT / "bench").glob("*.py") if "\ndef run(options)" in path.read_text()}
    assert modules == QUESTIONS.keys()
    for question, sentence in QUESTIONS.items():
        assert f"    {question:14}{sentence}\n" in shown


NO_ROUNDS = "readme", "--rounds"  # each of its commands has its own


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_has_help(question, capsys):
    if question in ("estimators", "search", "tables"):
        pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
    with pytest.raises(SystemExit) as ended:
        main([question, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: python -m bench {question}" in shown
    assert all(option in shown for option in ("--rounds", "--quick", "--isa") if (question, option) != NO_ROUNDS)


ANSWERS = {  # what each line of a table is, by its command
    "roofline": r"one core: [1-9][\d.]* GFLOP/s float32, [1-9][\d.]* float64|memory read: [1-9].* GB/s",
    "simplechains": r"\d.* s for 10,000 epochs .*|.* of the one-core peak of \d+",
    "steps --case '64-32-10 b8'": r"64-32-10 b8, peak [1-9].*|operation .*|\w[\w, =]+ +\d+\.\d\d +\d+\.\d%( +\d+%)?"
    r"|All steps|network, batch .*|64-32-10 b8 +[1-9][\d,.]* +\d\.\d\d|",
    "steps --orientations": r"4-100-3 b150 float64( +\d+\.\d+){7}",
    "training --kind rule input --case '8-64-64-4 b64'": r"(rule|input) \w+ +\d+\.\d\d, [\d,]+ +-",
    "calls --table medians": r"[\d-]+, \d+( +-?\d+\.\d( \(target [\d.]+\))?){6}",
    "start": r"what +here +there.*|[\w .,()-]+ +\d+\.\d\d( {3,}\d.*)?",
    "outside": r"a minibatch of PPO.*|[\w', /-]+( +[\d.,e+-]+)+|(what|networks, rows) .*"
    r"|Gradients.*|Derivatives.*|Steps of many.*|",
    "training --against . --case '64-32-10 b8'": r"64-32-10 b8( +[1-9][\d,]*){2} +\d+\.\d\d +0 +[\d.]+",
    "calls --table values": r"fit of an epoch, .*, dropout at .* [\d,]+\.\d us"
    r"|(50 samples of dropout, 100 rows of 64-32-10, \w+|`predict` of (10,000|1) rows of [\d-]+, scale: [a-z ]+)"
    r" +[\d,]+\.\d us +\d+\.\d\d|10 networks .* \d+\.\d{3} s",
    "threads --case '64-32-10 b32'": r"64-32-10 b32(( +[1-9][\d,]*){2}( +\d+\.\d\d){2}){2}",
    "search": r"\w.*, \d+ threads, load \d+\.\d| +\d candidates .* \d+\.\d\d s +\d+\.\d\d( +target [\d.]+)?",
    "export --flags O3": r"[\w -]+ +\w[\w-]+( +[\d.e+]+ +\d+\.\d\d){2} +\S+e-0\d +[\d,]+( +[\d,]+)?"
    r"|run by .*|64-32-10 run by .*|Cortex-M4, -Os, bytes|header .*|\w+ +[1-9][\d,]*( +\d+){2}( +[\d,]+)?"
    r"|without \w[\w -]*: .*||Rows of the same class.*|activation .*|\w+( +(R2 )?[\d.]+, [\d.]+){5}",
    "groups": r"\w[\w ]* +\d.* s( +\d+ MB){3}|\d+ groups.*|rows of .*|way .*|what .*"
    r"|\w.* +[\d,.]+ +\d+\.\d+|10-32-1 .*|",
    "populations --case '8-16-1 b8' --side loop": r"8-16-1 b8, 1 +[1-9][\d,]* +0e\+00",
    "populations --case '8-16-1 b8' --side engine --cpu": r"8-16-1 b8, 1 +[1-9][\d,]* +0e\+00",
    "cluster --side threads processes": r"\d+ networks, \d+ epochs|engine .*|threads( +\d+\.\d s){3} +1\.00"
    r"|processes( +\d+\.\d s){3} +\d+\.\d\d +1\.11|By the formula.*|what .*|[\d,]+ (networks|rows) of .*|",
    "populations --table halving": r"[\d-]+ b32, (not )?validated( +[\d,]+\.\d+){3}( +\d+\.\d\d)?",
}
SLOWEST = [pytest.mark.slow, pytest.mark.every]  # before a release
MARKS = {
    "cluster": [
        *SLOWEST,
        pytest.mark.skipif(find_spec("joblib") is None, reason="joblib is not installed: it is in the extra processes"),
    ],
    "outside": [*SLOWEST, TORCH_WARNS],
    "start": SLOWEST,
    "steps": X86,
    "threads": TWO_CPUS,
    "search": SLOWEST,
    "groups": SLOWEST,
    "export": [*SLOWEST, pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")],
}


@pytest.mark.parametrize(
    "command", [pytest.param(command, marks=MARKS.get(command.split()[0], ())) for command in ANSWERS]
)
def test_a_question_is_answered(command, capsys):
    main([*shlex.split(command), "--quick", "--rounds", "1"])
    answers = [bool(re.fullmatch(ANSWERS[command], line)) for line in capsys.readouterr().out.splitlines()]
    assert True in answers
    assert all(answers[answers.index(True) :])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "there is no question 'nothing'"),
        (["--case", "nothing"], "784-30-10 b10"),
        (["roofline", "--rounds", "0"], "must be at least 1, got 0"),
        (["fann"], "DIR"),
    ],
)
def test_wrong_arguments_are_refused(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
)
def test_every_command_of_the_docs_is_understood(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    commands = re.findall(r"python -m bench\b(?! QUESTION)([^`#\n]*)", text)
    assert commands or page not in ("README.md", "CONTRIBUTING.md", "docs/why/performance.md")
    if any(question in command for command in commands for question in ("estimators", "search", "tables")):
        pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
    for command in commands:
        module, options = parsed(shlex.split(command.replace("NAME ..", "'64-32-10 b8'")))
        assert (module is None) == ("--help" in command)
        assert options is None or getattr(options, "rounds", 1) >= 1
    assert not re.search(r"\bbench\.(?!machine\.ISAS)[a-z]+\b", text)  # a module of it, as if it were a command


def test_an_instruction_set_is_asked_for_before_libraries_load(monkeypatch):
    """The command starts anew, once, in an environment that tells all packages."""
    started = []
    monkeypatch.setattr(os, "execv", lambda file, command: started.append((command, dict(os.environ))) or sys.exit(0))
    with pytest.raises(SystemExit), machine.environment():
        main(["roofline", "--isa", "avx2", "--quick"])
    ((command, environment),) = started
    assert command[1:] == ["-m", "bench", "roofline", "--isa", "avx2", "--quick"]
    assert machine.ISAS["avx2"].items() <= environment.items()


@pytest.mark.parametrize("instructions", machine.ISAS)
def test_an_instruction_set_is_asked_of_every_package(instructions, monkeypatch):
    for name, value in machine.ISAS[instructions].items():
        assert machine.isa() is None
        monkeypatch.setenv(name, value)
    assert machine.isa() == instructions
    assert children.numpy_sides() == ["numpy"]
    assert "at most avx2" in machine.host()["instruction set"]


def test_the_environment_is_put_back(monkeypatch):
    monkeypatch.setenv("FASTNN_ONE", "1")
    before = dict(os.environ)
    with machine.environment(FASTNN_ONE="2", FASTNN_OTHER="3"):
        assert (os.environ["FASTNN_ONE"], os.environ["FASTNN_OTHER"]) == ("2", "3")
    assert dict(os.environ) == before


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="needs Linux: it reads on which CPUs a process may run"
)
def test_the_cpus_are_put_back():
    before = os.sched_getaffinity(0)
    with machine.cpus(1):
        assert os.sched_getaffinity(0) == {max(before)}
    assert os.sched_getaffinity(0) == before


def test_without_a_question_it_is_the_baselines(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(baselines, "numpy_sides", lambda: ["numpy"])
    file, name = tmp_path / "bench.json", "64-32-10 b32"
    main(["--quick", "--case", name, "--rounds", "1", "--json", str(file)])
    assert name in capsys.readouterr().out
    content = json.loads(file.read_text())
    assert content["rounds"] == content["threads"] == 1
    assert content["machine"]["numpy"] == np.__version__
    (result,) = content["cases"]
    assert result["name"] == name
    assert set(result["seconds"]) == set(result["samples_per_second"]) == set(HERE)
    assert set(result["ratio"]) == set(result["seconds"]) - {"fastnn"}
    assert all(len(seconds) == 1 for seconds in result["seconds"].values())
    (numpy_seconds,), (fastnn_seconds,) = result["seconds"]["numpy"], result["seconds"]["fastnn"]
    times = result["repeats"]["fastnn"] / result["repeats"]["numpy"]
    assert result["ratio"]["numpy"] == pytest.approx(numpy_seconds / fastnn_seconds * times)
    assert result["max_difference"] < 1e-4


# ---- other packages ----


def made_up(name):
    rates = {"fastnn": 3e6, "jax": 2e6, "numpy": 1e6, "numpy-avx512": 1.5e6}
    return {"name": name, "samples_per_second": rates, "ratio": {"jax": 1.51, "numpy": 3.0, "numpy-avx512": 1.49}}


@pytest.fixture
def content():
    host = {"cpu": "a CPU", "cpus": 2, "system": "an OS", "python": "3", "jax": "1.2"}
    results = {"training": {"1": [made_up("64-32-10 b32")]}, "inference": {"1": [made_up("64-32-10, 1 row")]}}
    return {"machine": host, "rounds": 3, **results}


def test_the_text_of_the_tables(content):
    text = peers.all_rows(content)
    assert "| samples/s | fastnn | JAX | NumPy | ratio to the best |\n|---|---|---|---|---|\n" in text
    assert "| 64-32-10 b32 | 3,000,000 | 2,000,000 | 1,500,000 | 1.49 (NumPy) |\n" in text
    assert "| 64-32-10, 1 row | 0.3 us | 0.5 us | 0.7 us | 1.49 (NumPy) |\n" in text
    assert "Training, 1 thread:\n" in text
    assert text.endswith("\n\nan OS, Python 3, jax 1.2.")


def test_the_short_table_has_the_best_in_bold(content):
    of_torch = {"torch": 1e6, "torch-compile": 4e6}
    content["training"]["1"][0]["samples_per_second"] |= of_torch
    text = peers.speed(content)
    assert "| layers, batch | fastnn | JAX | PyTorch | NumPy | beside the best other |\n" in text
    assert text.endswith("\n| 64-32-10 b32 | 3,000 | 2,000 | **4,000** | 1,500 | 1.49 (NumPy) |")


def test_the_picture_is_the_same_each_time(content, tmp_path):
    pytest.importorskip("matplotlib")
    one, other = tmp_path / "one.svg", tmp_path / "other.svg"
    peers.draw(content, one)
    peers.draw(content, other)
    svg = one.read_text()
    assert svg == other.read_text()
    assert all(label in svg for label in ("64-32-10 b32", "fastnn", "JAX", "NumPy"))
    assert "<dc:date>" not in svg


def test_the_tables_of_the_baselines():
    result = made_up("64-32-10 b32") | {"fraction_of_peak": 0.5, "peak_gflops": [110.0, 118.04]}
    result["samples_per_second"]["numba"], result["ratio"]["numba"] = 5e5, 6.04
    text = baselines.figures([result])
    assert text.splitlines()[:3] == [
        "| network, batch | fastnn, samples/s | of the one-core peak | NumPy, samples/s | ratio |",
        "|---|---|---|---|---|",
        "| 64-32-10 b32 | 3,000,000 | 50% | 1,500,000 | 1.49 |",
    ]
    assert "The one-core peak: 110.0 to 118.0 GFLOP/s." in text
    slower = result | {"name": "slower", "ratio": {"numpy": 9.0, "numba": 1.0}}
    assert baselines.plain([result, slower]).splitlines()[2:] == [
        "| slower | 9.0 | 1.0 |",
        "| 64-32-10 b32 | 1.5 | 6.0 |",
    ]


def test_missing_packages_are_named(monkeypatch, capsys):
    monkeypatch.setattr(peers, "find_spec", lambda name: None if name == "jax" else name)
    assert "jax" not in peers.available(sides.SIDES)
    assert peers.available(predictors.SIDES)[0] == "fastnn"
    assert "jax: skipped, jax is not installed" in capsys.readouterr().out


@pytest.mark.slow
def test_the_packages_that_are_installed_are_compared(tmp_path, monkeypatch, capsys):
    others = {kind.package for kind in (*PEERS.values(), *predictors.SIDES.values())} - {"numpy"}
    monkeypatch.setattr(peers, "find_spec", lambda name: None if name in others else find_spec(name))
    monkeypatch.setattr(peers, "numpy_sides", lambda: ["numpy"])
    chosen, file = ["4-24-24-3 b256", "4-24-24-3, 1 row"], tmp_path / "peers.json"
    main(["peers", "--quick", "--rounds=1", "--threads=1", f"--json={file}", "--case", *chosen])
    assert "torch: skipped, torch is not installed" in capsys.readouterr().out
    content = json.loads(file.read_text())
    for kind, name in zip(("training", "inference"), chosen, strict=True):
        (result,) = content[kind]["1"]
        assert result["name"] == name
        assert set(result["samples_per_second"]) == {"fastnn", "numpy"}
        assert f"\n| {name} | " in peers.all_rows(content)


# ---- one core, a step, a small call ----


@X86
def test_operations_of_a_step():
    measured = steps.Step(Case((64, 128, 16), 8, 100)).measure(rounds=1, seconds=0.001)
    assert [name for name, *_ in measured[:2]] == ["gather", "one_hot"]
    assert {k for _, k, _, done in measured if done} == {64, 128, 16, 8}
    weights = 64 * 128 + 128 * 16
    # Forward and gradient of each weight, the delta of the hidden layer, and the sums of the biases: no padding.
    assert sum(done for *_, done in measured) == 8 * (2 * weights + 128 * 16 + 128 + 16)


@X86
def test_orientations():
    """Each variant is another program, and the layouts of other models are as before."""
    variants = steps.VARIANTS
    made = {name: steps.OrientedStep([13, 100, 3], 178, "float64", variants[name]) for name in variants}
    texts = {str(step.plan.by_threads[1].of_workers[0][-1]) for step in made.values()}
    assert len(texts) == len(variants)
    found, counted = steps.compare([4, 16, 3], 20, "float32", rounds=2)
    assert all(times.shape == (2,) and (times > 0).all() for times in found.values())
    assert 0.1 < counted < 10
    assert Model([13, Dense(3, "softmax")], loss="cross_entropy")._network.layout.losses_by_columns


def test_small_calls_in_turn():
    made = calls.steps((8, 6, 4), 5)
    assert next(iter(made)) == "fastnn"
    assert {"fastnn", "scikit-learn"} <= made.keys()
    found = calls.compare(made, 2, 1e-4)
    assert all(microseconds > 0 and ratio > 0 for microseconds, ratio in found.values())
    assert found["fastnn"][1] == 1
    predicted = calls.predictions((8, 6, 4), 3)
    assert {"fastnn", "NumPy", "scikit-learn"} <= predicted.keys()
    assert calls.compare(predicted, 2, 1e-4).keys() == predicted.keys()


def test_calls_with_any_number_of_rows():
    seen = []
    new, known, ratio = calls.any_rows(seen.append, 3, 12, calls=6)
    numbers = [n for n in seen if n != 12]
    assert len(set(numbers)) in (5, 6)
    assert set(seen) <= set(range(3, 13))
    assert all(low <= middle for low, middle in (new, known))
    assert ratio > 0
    assert {"predict", "partial_fit", "scikit-learn's predict"} <= calls.calls_with_rows((4, 5, 3), 6).keys()


def test_samples_of_dropout_that_differ_are_an_error():
    made = calls.samples_of_dropout()
    calls.check_samples(made)
    with pytest.raises(ArithmeticError, match="samples of dropout differ by"):
        calls.check_samples(made | {"NumPy": lambda: made["NumPy"]() + 0.1})


def test_the_packages_that_are_compared_make_the_same_step():
    pytest.importorskip("torch", reason="PyTorch is not installed: it is in the extra bench")
    pytest.importorskip("jax", reason="JAX is not installed: it is in the extra bench")
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((32, 8), dtype=np.float32), rng.integers(0, 4, 32)
    state, *_, step = sides.jax_recipe(X, y.astype(np.int32), (8, 6, 4))
    start = [(np.array(w).T, np.array(b)) for w, b in state[0]]
    model = Model([8, Dense(6, "relu"), Dense(4, "softmax")], loss="cross_entropy", init=start)
    for _ in range(3):
        model.partial_fit(X, y, optimizer=Adam())
        state = step(state, X, y.astype(np.int32), np.float32(0.001))
    for w, (its_w, _) in zip(model.weights, state[0], strict=True):
        np.testing.assert_allclose(w.T, its_w, atol=1e-5)


# ---- streams, threads ----


def test_streams_are_timed_from_every_source():
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: it is in the extra parquet")
    found = streams.measure(500, 2)
    assert list(found) == ["in memory", "memmap", ".npy files", "batches of 32", "Parquet"]
    assert found["in memory"][1] == 1
    for seconds, ratio, mebibytes in found.values():
        assert 0 < seconds < np.inf
        assert 0 < ratio < np.inf
        assert mebibytes > 0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux: it reads the peak of the memory")
def test_the_peak_of_the_memory(run_python, capsys):
    """In a process of its own: this one may give back what earlier tests have freed."""
    source = "import numpy as np; from bench import streams; before = streams.peak_mib(reset=True); a = np.ones(2**24)"
    grown = float(run_python(f"{source}; print(streams.peak_mib() - before)").stdout)
    assert 0.9 * 128 < grown < 1.5 * 128
    streams.print_growth(100)
    added = re.findall(r"(\w+) +-?\d+\.\d MiB +0\.34 MiB", capsys.readouterr().out)
    assert added == ["sgd", "adam"]


@TWO_CPUS
def test_threads_are_timed_beside_a_busy_loop():
    found = threads.rates(Case((8, 6, 4), 16, 64), 1, 1e-4)
    assert list(found) == [(1, False), (2, False), (1, True), (2, True)]
    assert all(rates.shape == (1,) and rates > 0 for rates in found.values())


# ---- the estimators ----


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


# ---- populations ----


def task(case, members=5):
    """Networks of a case, on as many samples as fill two batches and a part of one."""
    case = case.little()
    return population_sides.Task(case, members, *populations.samples(case))


PEERS_OF_POPULATIONS = [
    *(("jax", {"at once": n, "vector bits": 256}) for n in (0, 2)),
    *(("jax-one-order", {"at once": way, "vector bits": 512}) for way in ("last axis", 0, 2)),
    ("torch", {}),
    ("torch-one-order", {}),
]


@pytest.mark.slow
@TORCH_WARNS
@pytest.mark.parametrize("case", [populations.CASES[i] for i in (0, 2, 6, 7)], ids=lambda case: case.name)
@pytest.mark.parametrize(("side", "variant"), PEERS_OF_POPULATIONS, ids=_name)
def test_many_networks_train_as_one_model_does(side, variant, case):
    """Each network by itself: with its rate, from its start, in its order."""
    kind = population_sides.SIDES[side]
    pytest.importorskip(kind.package)
    (starts,) = kind.checked
    want = population_sides.Loop(task(case), 1).losses(starts)
    assert len(want) == len(np.unique(want)) == 5
    np.testing.assert_allclose(kind(task(case), 1, variant).losses(starts), want, rtol=1e-4)


def test_a_loop_from_arrays_is_the_reference():
    here = task(populations.CASES[0], 2)
    (W, b), (V, c) = here.starts()
    for i, (loss, order) in enumerate(zip(population_sides.Loop(here, 1).losses("arrays"), here.orders(), strict=True)):
        start = [(W[i].astype("f8"), b[i], "tanh"), (V[i].astype("f8"), c[i], "identity")]
        settings = here.rates[i], *population_sides.BETAS, population_sides.EPSILON
        X, y = here.X.astype("f8"), here.y.astype("f8")
        _, trained = reference.train(start, X, y, order, 32, *settings, optimizer="adam")
        assert loss == pytest.approx(((reference.forward(trained, X)[-1] - y) ** 2).mean() / 2, rel=1e-5)


def test_a_loop_on_threads_trains_the_same_networks():
    here = task(populations.CASES[3])
    one, two = (population_sides.Loop(here, threads).losses("seeds") for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert len(np.unique(one)) == 5


class Models:
    """What the bench needs of `fastnn.Population`: n models, each with its rate."""

    def __init__(self, sizes, n, *, rng, **network):
        assert len(rng) == n
        self.models = [Model(sizes, rng=seed, **network) for seed in rng]

    def __getitem__(self, i):
        return self.models[i]

    def fit(self, X, y, *, optimizer, **options):
        for model, rate in zip(self.models, optimizer.tolist(), strict=True):
            model.fit(X, y, optimizer=Adam(rate), **options)


def test_a_population_is_compared_with_the_loop_by_seeds():
    here = task(populations.CASES[0])
    side = population_sides.Population(here, 2)
    side._fastnn, side._optimizer = SimpleNamespace(Population=Models), lambda rates: rates
    (starts,) = side.checked
    np.testing.assert_array_equal(side.losses(starts), population_sides.Loop(here, 1).losses(starts))


def test_populations_that_differ_are_an_error():
    one = np.array([1.0, 2.0, 3.0])
    assert populations.agree({"a": one, "b": np.array([9.0, 2.0001, 0.5])}) == pytest.approx(5e-5, rel=1e-3)
    assert populations.agree({"a": one[:1], "b": one}) == 0  # as many as both have
    for wrong in (2.1, np.nan):
        with pytest.raises(ArithmeticError, match="a and b disagree: their median losses are 2 and"):
            populations.agree({"a": one, "b": np.full(3, wrong)})


def test_a_task_goes_through_a_folder(tmp_path):
    here = task(populations.CASES[3])
    here.write(tmp_path)
    there = population_sides.Task.read(tmp_path)
    assert (there.case, there.members) == (here.case, here.members)
    np.testing.assert_array_equal(there.X, here.X)
    np.testing.assert_array_equal(there.y, here.y)
    np.testing.assert_array_equal(there.orders(), here.orders())
    assert len(np.unique(there.rates)) == 5
    assert [len({order.tobytes() for order in epochs}) for epochs in there.orders()] == [1] * 5


def test_networks_that_halving_leaves_are_checked(monkeypatch):
    contest = halving.Contest(task(populations.CASES[0], 9), halving.QUICK_HALVING, validated=True)
    contest.check()
    spent, left, vectors = contest.together()
    assert spent > 0
    assert len(left) == len(vectors) == 1
    monkeypatch.setattr(contest, "alone", lambda: (spent, left, -vectors))
    with pytest.raises(ArithmeticError, match="8-16-1 b32: other networks are left"):
        contest.check()


# ---- what training costs, and recipes ----


def test_every_part_of_training_is_in_the_table():
    of_kind = {}
    for kind, name in training.variants():
        of_kind.setdefault(kind, set()).add(name.split(",")[0])
    assert of_kind["activation"] == set(HIDDEN) - {"step"}
    assert of_kind["loss"] == set(loss_functions.NAMES)
    assert of_kind["optimizer"] == set(BY_NAME) - {"rprop"}
    assert len(of_kind["rule"]) == 9


def test_a_part_of_training_is_timed():
    case = Case((8, 6, 4), 16, 64)
    for arguments in training.variants().values():
        assert 0 < training.turn(case, *arguments, 1e-4)() < np.inf


def test_the_recipe_is_timed_in_what_is_installed():
    found = training.recipe(Case((8, 6, 4), 16, 64), 2)
    assert next(iter(found)) == "fastnn"
    assert all(times.shape == (2,) and (times > 0).all() for times in found.values())


def test_an_embedding_is_timed_in_what_is_installed():
    found = training.embedding(640, 2)
    assert next(iter(found)) == "fastnn"
    assert all(times.shape == (2,) and (times > 0).all() for times in found.values())


def test_the_recipe_is_the_same_in_jax():
    pytest.importorskip("jax", reason="JAX is not installed: it is in the extra bench")
    X, y = load_digits()
    X, y = X[:192], y[:192].astype(np.int32)
    state, run, predict, _ = sides.jax_recipe(X, y, (64, 16, 10), 0.5)
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


@pytest.mark.parametrize("kind", ["arrays", "Parquet"])
def test_workers_are_measured(kind, tmp_path, capsys):
    if kind == "Parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed: it is in the extra parquet")
        task = workers.parquet(tmp_path, 3001)
    else:
        X, y = load_digits()
        task = workers.Task((64, 16, 10), 32, 3, 1.0, (X[:1500], y[:1500]), 1500, (X[1500:], y[1500:]))
    found = workers.measure(task, 1, Here())
    assert len(found) == len(task.optimizers) * (1 + len(workers.WORKERS) * 2 * len(task.between))
    for (_, rate, count, _), (taken, accuracy, idle) in found.items():
        assert rate in (1, count)
        assert taken > 0
        assert 20 < accuracy <= 100
        assert 0 <= idle < 1
    workers.print_measured(task, found, 1, (1e-3, 1e8))
    workers.print_most(task, 1e-4)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 + len(found) + 4 + len(workers.LINKS)  # each table has a title between empty lines, a head
    assert lines[3].split()[:3] == ["optimizer", "rate", "times"]


@pytest.mark.parametrize("between", [None, 10, 100])
@pytest.mark.parametrize("link", [(2e-4, 1.25e9), (1e-3, 1.25e8), (0.0, 1e7)])
def test_up_to_how_many_workers_half_of_the_time_is_training(between, link):
    """Found by trying numbers of workers with the formula of the time."""
    steps, step_seconds, n_bytes = 187_500, 1e-3, workers.round_bytes(1000, 2)
    assert n_bytes == 12_000

    def share(count):
        whole = workers.epoch_seconds(count, steps, step_seconds, between, n_bytes, *link)
        return steps / count * step_seconds / whole

    most = workers.most_workers(steps, step_seconds, between, n_bytes, *link)
    limit = steps if between is None else steps // between
    assert most == max((count for count in range(1, 20_000) if count <= limit and share(count) >= 0.5), default=0)
    assert workers.epoch_seconds(4, steps, step_seconds, 10, 0, 0.0, 1.0, processes=2) == pytest.approx(
        steps / 2 * step_seconds
    )


def test_exported_files_that_differ_from_the_model_are_an_error():
    expected = np.full((2, 3), 0.5)
    assert export.check("fastnn", np.full(6, 0.5 + 1e-7), expected) == pytest.approx(1e-7)
    assert export.check("emlearn", np.full(6, 0.5 + 1e-5), expected) == pytest.approx(1e-5)
    for wrong in (0.5 + 1e-5, np.nan):
        with pytest.raises(ArithmeticError, match="the outputs of fastnn's file differ from the model's by"):
            export.check("fastnn", np.full(6, wrong), expected)


def test_figures_of_exported_files(tmp_path, capsys):
    """Of programs that say what they took: medians of the rounds, and ratios to the first of those run alike."""
    sides, expected = {}, np.array([[0.25, 0.75]])
    taken = [("gcc -O2", "fastnn", 1e-6, 2e-3), ("gcc -O2", "emlearn", 3e-6, 1e-3), ("node", "fastnn", 5e-6, 4e-3)]
    for *name, row, rows in taken:
        file = tmp_path / f"{name[1]}.file"
        file.write_bytes(bytes(1234))
        said = f"print({row}, {rows}, 0.25, 0.75 + {1e-7 if name[0] == 'node' else 0})"
        sides[tuple(name)] = export.Side([sys.executable, "-c", said], file, 7000000 if name[0] == "node" else None)
    export.print_times(tmp_path, sides, expected, 2, 0.0)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if " fastnn " in line or "emlearn" in line]
    assert lines == [
        ["gcc", "-O2", "fastnn", "1", "1.00", "2e+03", "1.00", "0.0e+00", "1,234"],
        ["gcc", "-O2", "emlearn", "3", "3.00", "1e+03", "0.50", "0.0e+00", "1,234"],
        ["node", "fastnn", "5", "1.00", "4e+03", "1.00", "1.0e-07", "1,234", "7,000,000"],
    ]
    assert str(markdown.PRINTED["export-javascript"]).splitlines()[2] == (
        "| node | fastnn | 5 | 1.00 | 4e+03 | 1.00 | 1.0e-07 | 1,234 | 7,000,000 |"
    )


def test_what_is_absent_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    model, _ = export.network(tmp_path)
    _, options = parsed(["export", "--emlearn", "no-python", "--skl2onnx", "no-python", "--web", str(tmp_path)])
    assert {name for _, name in export.Sides(tmp_path, model, options).found} == {"fastnn"}
    said = capsys.readouterr().out
    for name in ("emlearn", "skl2onnx", "node", "onnxruntime-web"):
        assert re.search(f"^without {name}: .", said, re.M), name


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
    main(["fann", str(tmp_path), "--names", "small", "--epochs", "60", "--rounds", "1", "--hidden", "4"])
    assert len(capsys.readouterr().out.splitlines()) == 4 + 8
    lines = [line.strip("| ").split(" | ") for line in str(markdown.PRINTED["fann"]).splitlines()[2:]]
    assert [line[1] for line in lines] == ["Rprop"] * 5 + ["L-BFGS"] * 3
    for *_, error, share, of_train, of_test in lines:
        assert 0 <= float(error) < 0.25
        assert 0 <= float(share) <= 1
        assert float(of_train) > 0.7
        assert 0 <= float(of_test) <= 1
