"""Which number of threads trains faster now."""

from __future__ import annotations

TRIAL, WARM_UP = 0.1, 0.02  # fractions of a call that try another number of threads, and before that fill the caches
FIRST_PATIENCE, MAX_PATIENCE = 0.1, 2.0  # seconds until the slower number is tried again (exponential back-off)


class ThreadTuner:
    """Finds out which number of threads is faster now: all of them, unless other processes take cores away.

    A step waits for its slowest thread. A thread that shares its core with another process may wait for milliseconds.
    The result has the same bits for any number, so the clock may decide. The number that seems slower is tried again
    after longer and longer times.
    """

    def __init__(self, threads: int, call_seconds: float):
        self.threads, self.call_seconds = threads, call_seconds
        self.clock = 0.0  # seconds of training
        self.last = 0  # threads of the last call
        self.measured = [0.0, 0]  # seconds and steps not yet counted
        self.step_seconds: dict[int, float] = {}
        self.measured_at = {1: 0.0, threads: 0.0}
        self.patience = FIRST_PATIENCE
        self.switch_seconds = 0.0  # how long a change of the number takes

    def choose(self) -> tuple[int, float]:
        """(threads, the fraction of a usual call to run with them)."""
        if self.threads == 1:
            return 1, 1.0
        unknown = [threads for threads in (self.threads, 1) if threads not in self.step_seconds]
        best, other = sorted((self.threads, 1), key=lambda threads: self.step_seconds.get(threads, 0.0))
        due = self.clock - self.measured_at[other] > max(self.patience, 30 * self.switch_seconds)
        threads, fraction = (unknown[0], TRIAL) if unknown else (other, TRIAL) if due else (best, 1.0)
        return threads, fraction if threads == self.last else WARM_UP

    def note(self, threads: int, seconds: float, steps: int) -> None:
        """Note how long a call took. The first call after a change does not count, because the caches are cold."""
        self.clock += seconds
        if threads != self.last:
            self.last, self.measured = threads, [0.0, 0]
            return
        self.measured[0] += seconds
        self.measured[1] += steps
        if self.measured[0] < TRIAL * self.call_seconds / 2 or not self.measured[1]:
            return
        best = min(self.step_seconds, key=self.step_seconds.__getitem__, default=threads)
        self.step_seconds[threads], self.measured_at[threads] = self.measured[0] / self.measured[1], self.clock
        self.measured = [0.0, 0]
        if best != min(self.step_seconds, key=self.step_seconds.__getitem__):
            self.patience = FIRST_PATIENCE
        elif threads != best:
            self.patience = min(2 * self.patience, MAX_PATIENCE)
