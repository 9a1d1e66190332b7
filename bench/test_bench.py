"""`pytest bench`: pytest-benchmark's table of both sides for every case, one thread, some 20 ms a call.

A quick look at a change; `python -m bench` isolates the sides and is what to quote.
"""

import functools

import pytest
from threadpoolctl import threadpool_limits

from .cases import CASES
from .sides import SIDES, difference, trained

BOTH = ("fastnn", "numpy")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with threadpool_limits(limits=1), pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@functools.cache
def _assert_agreement(case):
    difference({side: trained(side, case) for side in BOTH})


def _short(case):
    """The case with as many samples as NumPy trains in about 20 ms: 30 GFLOP/s, and 15 us for a batch's calls."""
    seconds = case.flops / 30e9 + 15e-6 / case.batch_size
    return case.cut(max(2 * case.batch_size, int(0.02 / seconds)))


@pytest.mark.parametrize("side", BOTH)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_epoch(benchmark, case, side):
    case = _short(case)
    _assert_agreement(case)
    benchmark.group = f"{case.name}, an epoch of {case.n_samples:,}"
    trainer = SIDES[side](case)
    benchmark.pedantic(trainer.train, args=(1,), rounds=7, warmup_rounds=1)
