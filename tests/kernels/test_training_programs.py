"""Programs of training and prediction, run as they will be, against the reference."""

import itertools

import numpy as np
import pytest

from fastnn.kernels import reference
from fastnn.kernels.cpu.target import AVX2, AVX512, NEON, SSE
from fastnn.kernels.formulas.update_rules import OPTIMIZERS
from fastnn.kernels.programs import block_programs, prediction_programs, records, sources, strategy, training_programs
from fastnn.kernels.programs.block_programs import Rules
from fastnn.kernels.programs.memory import STATE, Layout, Vector, Workspace, aligned_zeros
from fastnn.kernels.programs.passes import Destination
from fastnn.kernels.programs.program import OUTPUTS, SAMPLES, TARGETS, Code, bind, bindings
from fastnn.kernels.programs.sources import Sources
from fastnn.kernels.programs.training_programs import AFTER, BEFORE, BLOCKS
from fastnn.kernels.running import entry
from fastnn.kernels.vector.barriers import Worker
from fastnn.kernels.vector.library import functions
from fastnn.kernels.vector.matrix import LINE_BYTES
from fastnn.training.options import RuleValues

from ..cases import DTYPES, EPS, JUMPING, SETTINGS
from .kernel_calls import EVERY_TARGET, ONLY, Net, on_targets, trainable

rng = np.random.default_rng(2)
CASES = list(
    itertools.product(DTYPES, [1, 7, 32, 1500], ["given", "drawn", "as is"], ["values", "uint8"], ["labels", "values"])
)
NOISE_ERROR = 1e-4  # normal numbers are of single precision


def close(got, want, dtype, factor=60):
    scale = max(1.0, np.abs(want).max())
    np.testing.assert_allclose(got, want, atol=factor * EPS[dtype] * scale)


@pytest.mark.pairs
@pytest.mark.parametrize(("target", "case"), on_targets(CASES, CASES[::7]))
def test_train(case, target):
    """Batches of one row, with a remainder, of the whole set, and larger than a block of rows."""
    dtype, batch_size, mode, inputs, targets = case
    sizes, names = [13, 20, 17, 5], ["sigmoid", "tanh", "sigmoid"]
    rows, epochs, rate, scale = 1500 if batch_size == 1500 else 150, 2, 0.5, 0.25
    n = Net(sizes, names, dtype, 3, target=target)
    assert (batch_size > n.layout.block_rows) == (batch_size == 1500)
    x = rng.integers(0, 9, (rows, 13)).astype(np.uint8)
    if inputs == "values":
        x = x.astype(dtype)
    labels = rng.integers(0, 5, rows)
    y = reference.one_hot(labels, 5)
    state, order = 12345, None
    if mode == "given":
        order = want_order = np.array([rng.permutation(rows) for _ in range(epochs)], np.int32)
    elif mode == "drawn":
        want_order = []
        for _ in range(epochs):
            drawn, state = reference.draw_order(rows, state)
            want_order.append(drawn)
    else:
        want_order = [np.arange(rows)] * epochs
    want_losses, want = reference.train(n.twin, scale * x.astype("f8"), y, want_order, batch_size, rate)

    kind = {"as is": records.AS_IS, "drawn": records.DRAWN, "given": records.GIVEN}[mode]
    y = labels.astype(np.int32) if targets == "labels" else y.astype(dtype)
    done = n.train(x, y, batch_size, (rate,), epochs, kind, order, scale=scale, seed=12345)
    np.testing.assert_allclose(done.losses, want_losses, rtol=100 * EPS[dtype])
    for (w, b), (want_w, want_b, _) in zip(n.layout.views(n.parameters), want, strict=True):
        close(w, want_w, dtype, 500)
        close(b, want_b, dtype, 500)
    assert not n.padding(n.parameters).any()
    np.testing.assert_array_equal(done.kept, n.parameters)
    assert int(done.state["random"][0]) == int(done.kept_state["random"][0]) == state


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("how", ["feature-major", "row-major"])
@pytest.mark.parametrize(("target", "batch_size"), on_targets([1, 7, 1100], [7]))
def test_every_optimizer(batch_size, how, optimizer, dtype, target):
    """Against the reference; padding stays zero, where lines are half full and others of the network are longer too."""
    n = Net([9, 72, 40, 20, 3], ["tanh", "sigmoid", "tanh", "identity"], dtype, 2, target=target, orientation=how)
    rows, settings = 1250 if batch_size == 1100 else 61, SETTINGS[optimizer]
    x, y = rng.standard_normal((rows, 9)).astype(dtype), rng.standard_normal((rows, 3)).astype(dtype)
    order = np.array([rng.permutation(rows) for _ in range(2)])
    want_losses, want = reference.train(
        n.twin, x.astype("f8"), y.astype("f8"), order, batch_size, *settings, optimizer=optimizer
    )
    done = n.train(x, y, batch_size, settings, 2, records.GIVEN, order, optimizer=optimizer)
    tolerance = 5000 * EPS[dtype]  # Adam divides by small numbers
    jumps = optimizer in JUMPING and dtype == "float32"  # where a gradient near zero may go either way
    np.testing.assert_allclose(done.losses, want_losses, rtol=0.01 if jumps else tolerance)
    for (w, b), (want_w, want_b, _) in zip(n.layout.views(n.parameters), want, strict=True):
        for got, expected in ((w, want_w), (b, want_b)):
            if jumps:
                assert np.median(np.abs(got - expected)) < tolerance
            else:
                close(got, expected, dtype, 5000)
    for vector in (*done.live, *done.kept_arrays):
        for part in vector.reshape(-1, n.parameters.size):
            assert not n.padding(part).any()
    for live, kept in zip(done.live, done.kept_arrays, strict=True):
        np.testing.assert_array_equal(live, kept)
    np.testing.assert_array_equal(done.state, done.kept_state)


def run_on_rows(net, write, x, width, scale, in_place, seen=None):
    """What the program that `write` writes for all rows of x gives, (n, width), after it has seen other rows."""
    work = Workspace(net.layout, net.layout.block_rows)
    source = sources.Source.of("samples", x).once
    parameters = Vector(net.layout, net.parameters.ctypes.data)
    code = Code([write(parameters, work, source, len(x), scale, in_place)], net.library)
    n_out, table, out = net.layout.sizes[-1], bindings(), np.full((len(x), width), 7, net.dtype)
    units = np.zeros(2 * n_out - 1, net.dtype)
    units[n_out - 1] = 1
    bind(table, TARGETS, units[n_out - prediction_programs.outputs_at_once(net.layout) :].ctypes.data)
    bind(table, OUTPUTS, out.ctypes.data, out.strides[0])
    for rows in (x if seen is None else seen, x):
        bind(table, SAMPLES, rows.ctypes.data, rows.strides[0])
        entry.sweep(code.operations, code.patches, code.parts, ONLY, table, 0, len(x))
    return out


INSIDE = [
    (hidden, output, rows, how)
    for hidden, (output, rows), how in itertools.product(
        ["tanh", "gelu"],
        [("softmax", 1), ("softmax", 27), ("identity", 5), ("sigmoid", 40), ("silu", 1), ("silu", 19)],
        ["feature-major", "row-major", "in place"],
    )
    if rows > 1 or how == "row-major"
]


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("target", "case"), on_targets(INSIDE))
def test_what_hidden_layers_give_and_derivatives_by_inputs(case, dtype, target):
    """Against the reference, also after samples that have left NaN in all buffers, padding included."""
    hidden, output, rows, how = case
    loss = "softmax_cross_entropy" if output == "softmax" else "quadratic"
    orientation = "feature-major" if how == "feature-major" else "row-major"
    names = [hidden, hidden, output]
    n = Net([6, 19, 8, 5], names, dtype, 4, loss, frozen=[0], target=target, orientation=orientation)
    scale, in_place = 1.0 if how == "in place" else 0.3, how == "in place"
    x = rng.standard_normal((rows, 6)).astype(dtype)
    inside = reference.forward(n.twin, scale * x.astype("f8"))[1:-1]
    slopes = scale * reference.input_gradients(n.twin, scale * x.astype("f8"))
    for seen in (x, np.full_like(x, np.nan), np.full_like(x, np.inf)):
        got = run_on_rows(n, prediction_programs.hidden_program, x, 27, scale, in_place, seen)
        close(got, np.hstack(inside), dtype)
        got = run_on_rows(n, prediction_programs.input_gradient_program, x, 30, scale, in_place, seen)
        close(got.reshape(rows, 5, 6), slopes, dtype)


@pytest.mark.pairs
@pytest.mark.parametrize("how", ["feature-major", "row-major"])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize(("target", "targets"), on_targets(["labels", "values"]))
def test_fetching_ahead_changes_no_bit(targets, batch_size, how, target, monkeypatch):
    """Of samples and targets, into either cache, past the end of the order too."""
    x, y = rng.standard_normal((150, 40)).astype("f4"), rng.standard_normal((150, 3)).astype("f4")
    if targets == "labels":
        y = np.arange(150, dtype=np.int32) % 3
    results = []
    for in_cache in (sources.L2_SAMPLE_BYTES, 0):
        monkeypatch.setattr(sources, "L2_SAMPLE_BYTES", in_cache)
        n = Net([40, 9, 3], ["sigmoid", "tanh"], "float32", 4, target=target, orientation=how)
        done = n.train(x, y, batch_size, (0.5,), 2, records.DRAWN)
        results.append((done.losses.tolist(), n.parameters.tobytes()))
        for program in done.programs[0][BLOCKS:]:
            fetches = [operation for operation in program.operations if operation[0].startswith("prefetch")]
            assert {arguments["gather"] for _, arguments, _ in fetches} == (set() if in_cache else {0, 1})
            assert in_cache or {name for name, *_ in fetches} == (
                {"prefetch_L1", "prefetch_L2"} if program.rows == 64 else {"prefetch_L1"}
            )
    assert results[0] == results[1]


def test_divergence_leaves_what_was_kept():
    n = Net([3, 2], ["identity"], "float32", 5)
    x, y = rng.standard_normal((64, 3)).astype("f4"), rng.standard_normal((64, 2)).astype("f4")
    done = n.train(x, y, 8, (3.0,), 500, records.AS_IS, blocks=10**6)
    run = done.run[0]
    assert run["status"] == records.DIVERGED
    assert 0 < run["epoch"] < 500
    assert np.isfinite(done.losses[: run["epoch"]]).all()
    assert np.isfinite(done.kept).all()
    assert not np.isfinite(n.parameters).all() or not np.isfinite(done.losses[run["epoch"]])


@pytest.mark.parametrize("steps", [1, 3, 10**6])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_how_training_is_chunked_changes_no_bit(steps, optimizer):
    x, y = rng.standard_normal((50, 6)).astype("f4"), rng.standard_normal((50, 2)).astype("f4")
    results = []
    for chunk in (2, steps):
        n = Net([6, 20, 2], ["tanh", "identity"], "float32", 1)
        done = n.train(x, y, 8, SETTINGS[optimizer], 3, records.DRAWN, optimizer=optimizer, blocks=chunk)
        results.append((done.losses.tolist(), n.parameters.tobytes(), done.state.tobytes()))
    assert results[0] == results[1]


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("how", ["feature-major", "row-major"])
@pytest.mark.parametrize(("target", "batch_size"), on_targets([20, 300, 1100], [300]))
def test_any_number_of_threads_gives_the_same_bits(batch_size, how, optimizer, dtype, target):
    """Also more threads than a layer has lines, or a block has shards."""
    rows = 1250 if batch_size == 1100 else 650
    x, y = rng.standard_normal((rows, 7)).astype(dtype), rng.standard_normal((rows, 3)).astype(dtype)
    results = []
    for threads in (1, 2, 3):
        n = Net([7, 40, 20, 3], ["tanh", "sigmoid", "identity"], dtype, 3, target=target, orientation=how)
        settings = SETTINGS[optimizer]
        done = n.train(x, y, batch_size, settings, 2, records.DRAWN, optimizer=optimizer, threads=threads)
        results.append((done.losses.tolist(), n.parameters.tobytes(), done.kept.tobytes(), done.state.tobytes()))
    assert results[1] == results[0]
    assert results[2] == results[0]


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [[300, 20, 3], [5, 100, 7], [784, 40]])
@pytest.mark.parametrize(("target", "more"), on_targets([1, 2, 25, 61, 255], [1, 25]))
def test_samples_are_predicted_where_they_lie(sizes, more, dtype, target):
    """More than one block, in the network's dtype: the first layer reads them without a copy."""
    n = Net(sizes, ["sigmoid"] * (len(sizes) - 1), dtype, target=target)
    x = rng.standard_normal((n.layout.block_rows + more, sizes[0])).astype(dtype)
    work = Workspace(n.layout, n.layout.block_rows)
    code = n.sweep_code(work, x, in_place=True)
    want = reference.forward(n.twin, x.astype("f8"))[-1]
    for copy in (x, x.copy()):  # the second time it moves
        out = np.zeros((len(x), sizes[-1]), dtype)
        n.run_sweep(code, copy, out=out)
        np.testing.assert_allclose(out, want, atol=100 * EPS[dtype])
        with_copy = np.zeros_like(out)
        n.sweep(x, out=with_copy)
        np.testing.assert_array_equal(out, with_copy)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_samples_may_be_bytes(scale, dtype, target):
    n = Net([20, 9, 3], ["sigmoid", "identity"], dtype, 2, target=target)
    x, y = rng.integers(0, 256, (70, 20)).astype(np.uint8), rng.integers(0, 3, 70).astype(np.int32)
    out = np.empty((70, 3), dtype)
    value = n.sweep(x, y, out, scale=scale)
    want = reference.forward(n.twin, np.dtype(dtype).type(scale) * x.astype("f8"))[-1]
    close(out, want, dtype, 200)
    assert value == pytest.approx(
        reference.loss("quadratic", want, reference.one_hot(y, 3))[0] / 70, rel=1e4 * EPS[dtype]
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_swept_on_several_threads_give_the_same_bits(dtype):
    n = Net([5, 30, 2], ["tanh", "identity"], dtype)
    x = rng.standard_normal((3 * n.layout.block_rows + 17, 5)).astype(dtype)
    results = []
    for threads in (1, 2, 3, 5):
        works = [Workspace(n.layout, n.layout.block_rows) for _ in range(threads)]
        shares = [np.subtract(*strategy.shard_of_rows(0, len(x), t, threads)[::-1]) for t in range(threads)]
        codes = [n.sweep_code(work, x, shares=shares) for work in works]
        out = np.full((len(x), 2), np.nan, dtype)
        n.run_sweep(codes[0], x, out=out, operations=np.stack([code.operations for code in codes]))
        results.append(out)
    for out in results[1:]:
        np.testing.assert_array_equal(out, results[0])


def lines(matrix):
    """The numbers of the cache lines that hold a matrix."""
    m = matrix if matrix.row_stride > matrix.col_stride else matrix.T
    row = np.arange(m.address // LINE_BYTES, (m.address + (m.cols - 1) * m.col_stride) // LINE_BYTES + 1)
    starts = np.unique(m.address + np.arange(m.rows) * m.row_stride)
    return set(np.add.outer((starts - m.address) // LINE_BYTES, row).ravel().tolist())


def between_barriers(programs):
    """[(lines read, lines written), ..] of what a worker does between the barriers."""
    result = [(set(), set())]
    for program in programs:
        for name, arguments, _ in program.operations:
            if name == "barrier":
                result.append((set(), set()))
                continue
            for key, operand in functions(program.target)[name].signature.operands.items():
                if isinstance(arguments[key].address, int):
                    for lines_of, access in zip(result[-1], "rw", strict=True):
                        if access in operand.access:
                            lines_of |= lines(arguments[key])
    return result


@pytest.mark.pairs
@pytest.mark.parametrize("target", [AVX512, AVX2, SSE, NEON], ids=lambda target: target.cpu)
@pytest.mark.parametrize("batch_size", [20, 300, 1100])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("how", ["feature-major", "row-major"])
def test_no_two_workers_use_a_line_that_one_of_them_writes(how, threads, optimizer, batch_size, target):
    """Between two barriers; all pass as many of them, before, in and after the last block of a batch."""
    for frozen in ((), (1,)):
        programs = written(target, "float32", batch_size, optimizer, threads, how, frozen)[1]
        for block in range(BLOCKS, len(programs[0])):
            workers = [between_barriers([own[i] for i in (BEFORE, block, AFTER)]) for own in programs]
            assert len({len(parts) for parts in workers}) == 1
            assert len(workers[0]) > 1
            for parts in zip(*workers, strict=True):
                for (_, wrote), (other_read, other_wrote) in itertools.permutations(parts, 2):
                    assert not wrote & (other_read | other_wrote)


def written(target, dtype, batch_size, optimizer, threads, how, frozen=()):
    """(a layout for one thread, the programs of training of each worker, (parameters, a workspace, sources)), not run.

    Of a network with layers that threads share, and others that are too narrow.
    """
    names, places = ["relu", "tanh", "sigmoid"], {"target": target, "orientation": how}
    one = Layout([9, 100, 40, 3], names, "quadratic", dtype, frozen, **places)
    layout = strategy.sharded(one, batch_size, threads)
    x, y = np.zeros((700, 9), dtype), np.zeros(700, np.int32)
    sources = Sources.of(x, y)
    vectors = len(OPTIMIZERS[optimizer].vectors)
    arrays = [
        [*(aligned_zeros(n * each.n_bytes, dtype) for n in (1, vectors)), aligned_zeros(STATE.itemsize, STATE)]
        for each in (layout, one)
    ]
    live, kept = (trainable(each, *places) for each, places in zip((layout, one), arrays, strict=True))
    gradient = aligned_zeros(
        layout.n_bytes if training_programs.needs_gradient(one, batch_size, optimizer) else 0, dtype
    )
    kind = training_programs.Kind(batch_size, optimizer, sources, (700 + batch_size) % batch_size)
    work = Workspace(layout, min(batch_size, layout.block_rows), threads)
    training = training_programs.Training(kind, 1.0, work, live, kept, gradient)
    return one, training.programs(threads), (kept.parameters, Workspace(one, one.block_rows), sources)


@pytest.mark.pairs
@pytest.mark.parametrize("target", [AVX512, AVX2, SSE, NEON], ids=lambda target: target.cpu)
@pytest.mark.parametrize("batch_size", [1, 10, 300, 1500])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("threads", [1, 3])
def test_programs_can_be_written_for_any_cpu(threads, optimizer, batch_size, target):
    """Training, gradients and predictions, by either strategy; nothing is compiled."""
    for how, dtype in itertools.product(("feature-major", "row-major", ""), DTYPES):
        layout, programs, (parameters, work, sources) = written(target, dtype, batch_size, optimizer, threads, how)
        assert len(programs) == threads
        assert len({len(own) for own in programs}) == 1
        assert {program.target for own in programs for program in own} == {target}
        assert {program.dtype for own in programs for program in own} == {dtype}
        rows = training_programs.block_sizes(layout, [batch_size, 700 % batch_size])
        assert all([program.rows for program in own[BLOCKS:]] == rows for own in programs)
        for n in training_programs.block_sizes(layout, [700]):
            names = [name for name, *_ in block_programs.gradient_program(parameters, work, sources, n, 1.0).operations]
            assert {"quadratic", "tanh_backward", "relu_backward"} <= set(names)
            for in_place in (False, True):
                program = prediction_programs.predict_program(parameters, work, sources.x, n, 1.0, in_place)
                names = [name for name, *_ in program.operations]
                assert names[-1] == "unpad"
                by_columns = strategy.predicts_feature_major(layout, n)
                assert ("gather" in names) == (not in_place and not by_columns)
                assert ("gather_columns" in names) == by_columns


def test_block_sizes():
    layout = Layout([4, 3], ["sigmoid"], "quadratic", "float32")
    full = layout.block_rows
    assert training_programs.block_sizes(layout, [10]) == [10]
    assert training_programs.block_sizes(layout, [10, 3]) == [3, 10]
    assert training_programs.block_sizes(layout, [full, 0]) == [full]
    assert training_programs.block_sizes(layout, [2 * full + 1]) == [1, full]


def test_a_gradient_is_kept_only_where_it_is_needed():
    layout = Layout([4, 3], ["sigmoid"], "quadratic", "float32")
    assert not training_programs.needs_gradient(layout, layout.block_rows, "sgd")
    assert training_programs.needs_gradient(layout, layout.block_rows + 1, "sgd")
    assert training_programs.needs_gradient(layout, 1, "momentum")


def test_a_single_sample_takes_fused_operations():
    """An activation of its own only where z is kept, or where all outputs of a sample are needed."""
    names = ["sigmoid", "gelu", "softmax"]
    layout = Layout([4, 24, 9, 3], names, "softmax_cross_entropy", "float32", target=AVX512)
    x, y = np.zeros((50, 4), np.float32), np.zeros(50, np.int32)
    parameters, work, sources = Vector(layout, 6400), Workspace(layout, 1), Sources.of(x, y)
    training = block_programs.gradient_program(parameters, work, sources, 1, 1.0)
    assert [name for name, *_ in training.operations] == [
        *("gather", "one_hot", "sigmoid_gemv", "identity_gemv", "gelu", "identity_gemv", "softmax_cross_entropy"),
        *("gelu_gemv_backward", "sigmoid_gemv_backward", "ger", "ger", "ger"),
    ]
    prediction = prediction_programs.predict_program(parameters, work, sources.x, 1, 1.0)
    assert [name for name, *_ in prediction.operations] == [
        *("gather", "sigmoid_gemv", "identity_gemv", "gelu", "identity_gemv", "softmax", "unpad"),
    ]


@pytest.mark.parametrize("rows", [1, 24, 40])
def test_a_least_derivative_changes_the_backward_of_what_saturates_alone(rows):
    """No other operation, and none where the rule is off, in any strategy."""
    layout = Layout([4, 24, 9, 24, 3], ["sigmoid", "relu", "tanh", "sigmoid"], "quadratic", "float32", target=AVX512)
    x, y = np.zeros((50, 4), np.float32), np.zeros(50, np.int32)
    parameters, work, sources = Vector(layout, 6400), Workspace(layout, rows), Sources.of(x, y)
    names = []
    for rules in (Rules(), Rules(min_derivative=True)):
        task = block_programs.Task(parameters, work, sources, 1.0, Destination(parameters), rules)
        program = block_programs.block_program(task, strategy.choose(layout, rows), rows, Worker())
        names.append([name for name, *_ in program.operations])
    assert [name.removesuffix("_at_least") for name in names[1]] == names[0]
    changed = {name for name, off in zip(names[1], names[0], strict=True) if name != off}
    gemv = "gemv_" if rows == 1 else ""
    assert changed == {f"tanh_{gemv}backward_at_least", "sigmoid_backward_at_least", f"sigmoid_{gemv}backward_at_least"}


# ---- penalties and rules ----

RULE_SETTINGS = [1, 40, 600], ["feature-major", "row-major"], ["sgd", "nesterov"], DTYPES
RULES = {
    "l2 of the mean": {"l2": (0.1, 0)},
    "l2 of the sum, by batch means": {"l2": (0, 0.5), "batch_means": True},
    "l1": {"l1": (0.03, 0)},
    "l1 of the sum, and l2": {"l1": (0, 0.3), "l2": (0.02, 0), "batch_means": True},
    "dropout": {"rules": RuleValues(dropout=(0.4, 0.2, 0))},
    "dropout of one layer": {"rules": RuleValues(dropout=(0, 0.7, 0))},
    "noise": {"rules": RuleValues(input_noise=0.5)},
    "label smoothing": {"rules": RuleValues(label_smoothing=0.2)},
    "max_norm": {"rules": RuleValues(max_norm=0.9)},
    "clip_value": {"rules": RuleValues(clip_value=0.01)},
    "clip_norm": {"rules": RuleValues(clip_norm=0.05), "l2": (0.1, 0)},
    "min_derivative": {"rules": RuleValues(min_derivative=0.7)},
    "min_derivative, dropout": {"rules": RuleValues((0.4, 0, 0), min_derivative=0.7)},
    "all": {
        "rules": RuleValues((0.1, 0.2, 0), input_noise=0.1, label_smoothing=0.1, max_norm=1.5, clip_norm=0.5),
        **{"l1": (0.001, 0), "l2": (0.002, 0)},
    },
}


# Half of all combinations: each pair of settings is among them.
COMBINED = [
    (given, *(values[i] for values, i in zip(RULE_SETTINGS, at, strict=True)))
    for given in RULES
    for at in itertools.product(*(range(len(values)) for values in RULE_SETTINGS))
    if sum(at) % 2 == 0
]


@pytest.mark.pairs
@pytest.mark.parametrize(("target", "case"), on_targets(COMBINED, COMBINED[::5]))
def test_rules_are_as_in_the_reference(case, target, monkeypatch):
    """On any number of threads, with the same bits; a batch of 600 has several blocks."""
    given, batch_size, how, optimizer, dtype = case
    monkeypatch.setattr(strategy, "THREAD_MULTIPLY_ADDS", 1)
    settings, options = SETTINGS[optimizer], RULES[given]
    if optimizer == "sgd" and given.startswith(("clip", "all")):
        optimizer = "sgd_with_gradient"
    rows, output = 630 if batch_size == 600 else 61, "softmax" if given == "label smoothing" else "sigmoid"
    x, labels = rng.standard_normal((rows, 6)).astype(dtype), rng.integers(0, 3, rows)
    weights = rng.uniform(0.5, 2, rows).astype(dtype) if options.get("batch_means") else None
    order = np.array([rng.permutation(rows) for _ in range(2)], np.int32)
    results, loss = [], f"{output}_cross_entropy"
    for threads in (1, 2) if batch_size > 1 else (1, 1):
        n = Net([6, 40, 17, 3], ["tanh", "gelu", output], dtype, 4, loss, target=target, orientation=how)
        twin, more = n.twin, {"optimizer": optimizer, "weights": weights, "noise_seed": 77, "threads": threads}
        y = labels.astype(np.int32)
        done = n.train(x, y, batch_size, settings, 2, records.GIVEN, order, **more, **options)
        results.append((n.parameters.tobytes(), done.losses.tobytes()))
    assert results[0] == results[1]
    exact = {"weights": None if weights is None else weights.astype(float), "optimizer": optimizer, "seed": 77}
    want_losses, want = reference.train(
        *(twin, x.astype(float), reference.one_hot(labels, 3), order, batch_size, *settings),
        **{"loss_name": loss, **exact, **options},
    )
    more = NOISE_ERROR if given in ("noise", "all") else 0
    np.testing.assert_allclose(done.losses, want_losses, rtol=2000 * EPS[dtype] + more)
    for got, pair in zip(n.layout.views(n.parameters), want, strict=True):
        for g, w in zip(got, pair[:2], strict=True):
            # Where a weight comes near zero, the sign that L1 takes of it may go either way in float32.
            doubtful = "l1" in options and dtype == "float32" and w.ndim == 2
            steady = np.abs(w) > 0.01 if doubtful else np.full(w.shape, True)
            error = 4000 * EPS[dtype] + NOISE_ERROR * ("noise" in given or given == "all")
            np.testing.assert_allclose(g[steady], w[steady], atol=error)
    assert not n.padding(n.parameters).any()


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", ["softmax", "sigmoid", "identity"])
@pytest.mark.parametrize("sizes", [[1, 1], [4, 24, 24, 3], [13, 100, 3], [31, 17, 20]])
@pytest.mark.parametrize(("target", "n"), on_targets([2, 15, 33, 128, 300, 1100], [33, 300]))
def test_predictions_feature_major_and_row_major(n, sizes, last, dtype, target):
    loss = "softmax_cross_entropy" if last == "softmax" else "quadratic"
    names = [*["tanh"] * (len(sizes) - 2), last]
    nets = [Net(sizes, names, dtype, 0, loss, target=target, orientation=how) for how in ("row-major", "feature-major")]
    x = rng.standard_normal((n, sizes[0])).astype(dtype)
    for given, scale in ((x, 1.0), (rng.integers(0, 256, x.shape).astype(np.uint8), 1 / 255)):
        want = reference.forward(nets[0].twin, np.dtype(dtype).type(scale) * given.astype("f8"))[-1]
        for net in nets:
            out = np.full((n, sizes[-1]), np.nan, dtype)
            net.sweep(given, out=out, scale=scale)
            np.testing.assert_allclose(out, want, atol=200 * EPS[dtype] * max(1, np.abs(want).max()))


def test_which_predictions_are_feature_major():
    """By counting vector operations, but for wide samples and less than two lines of samples."""
    count = [(4, 24, 24, 3), (64, 32, 10), (784, 100, 10), (4, 32, 16, 4)]
    layouts = [Layout(s, ["relu"] * (len(s) - 1), "quadratic", "float32", target=AVX512) for s in count]
    assert [strategy.predicts_feature_major(layout, 64) for layout in layouts] == [True, False, False, True]
    assert [strategy.predicts_feature_major(layouts[0], rows) for rows in (1, 16, 31, 32)] == [False] * 3 + [True]
