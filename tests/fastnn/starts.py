"""Ways in which a system fails to start threads: it refuses, or gives threads that never run, run late or die."""

from fastnn.kernels.running import pool

WAYS = ["refuses", "never_runs", "runs_after_the_call", "dies", "first_alone", "at_times"]


class Starts:
    """Functions that take the place of `pool.start_new_thread`; `asked` counts their calls."""

    def __init__(self):
        self.real, self.late, self.asked = pool.start_new_thread, [], 0

    def refuses(self, function, arguments):
        self.asked += 1
        raise RuntimeError("can't start new thread")

    def never_runs(self, function, arguments):
        self.asked += 1
        return 1

    def runs_after_the_call(self, function, arguments):
        """Each thread begins when the next one is started."""
        self.asked += 1
        for each in self.late:
            self.real(*each)
        self.late = [(function, arguments)]
        return 1

    def dies(self, function, arguments):
        """The function gets an exception before it arrives."""
        self.asked += 1
        return self.real(repr, (function,))

    def first_alone(self, function, arguments):
        """Of the helpers of a call the first comes, and no other."""
        self.asked += 1
        return self.real(function, arguments) if self.asked % 3 == 1 else 1

    def at_times(self, function, arguments):
        self.asked += 1
        return self.real(function, arguments) if self.asked % 4 else 1
