"""What a fit tells while it runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .history import History


class Progress:
    """What a fit tells while it runs: a tqdm bar with the epochs and the losses, a line an epoch, or nothing."""

    def __init__(self, bar: bool, lines: bool, epochs: int, history: History):
        self.bar, self.lines, self.history, self.last = None, lines, history, len(history.loss) + epochs
        if bar:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=epochs, unit="epoch")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, epochs: int) -> None:
        """So many more epochs have ended."""
        if not self.lines and self.bar is None:
            return
        last = len(self.history.loss)
        for epoch in range(last - epochs + 1, last + 1) if self.lines else ():
            row = self.history._row(epoch)
            line = f"epoch {row.pop('epoch'):{len(str(self.last))}}/{self.last}  {row.pop('seconds'):.3g} s"
            line += "".join(f"  {name} {value:.4g}" for name, value in row.items() if name != "learning_rate")
            (print if self.bar is None else self.bar.write)(line)
        if self.bar is not None and epochs:
            row = self.history._row(last)
            shown = {name: value for name, value in row.items() if name not in ("epoch", "learning_rate", "seconds")}
            self.bar.set_postfix({name: f"{value:.4f}" for name, value in shown.items()}, refresh=False)
            self.bar.update(epochs)


class PopulationProgress:
    """What a fit of a population tells: a tqdm bar of the epochs of all members, a line a round, or nothing."""

    def __init__(self, bar: bool, lines: bool, epochs: int):
        self.bar, self.lines, self.done = None, lines, 0
        if bar:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=epochs, unit="epoch")

    def __enter__(self) -> PopulationProgress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def epochs(self, count: Callable[[], int]) -> None:
        """Some more epochs may have ended; count() says how many of all members."""
        if self.bar is not None:
            done = count()
            self.bar.update(done - self.done)
            self.done = done

    def chunk(self, ended: int, n: int, scores: NDArray[np.float64]) -> None:
        """A chunk of members has ended, with which so many of n have. `scores` are the losses of all, inf without."""
        if self.lines:
            least = float(scores.min())
            line = f"{ended} of {n} members have ended" + (f"  least loss {least:.4g}" if np.isfinite(least) else "")
            (print if self.bar is None else self.bar.write)(line)

    def round(self, epoch: int, live: int, values: dict[str, float]) -> None:
        """A round has ended: members that go on have done so many epochs. `values` are the best losses, by name."""
        if self.lines:
            line = f"epoch {epoch}  {live} members go on"
            line += "".join(f"  least {name} {value:.4g}" for name, value in values.items())
            (print if self.bar is None else self.bar.write)(line)
