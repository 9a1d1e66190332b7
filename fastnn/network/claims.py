"""Who trains or changes a model: one caller at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .threads import forks

BUSY = (
    "fit, partial_fit, step, forward with dropout, blend, freeze, replace_head or a new vector came to a model while "
    "it is being trained. Only a callback of the fit may call freeze or blend, or set vector, in the thread that fits"
)


class Claims:
    """Who trains or changes a model: one at a time.

    A claim is a lock that the claimant holds in a `with` statement. The first one in a list that is held counts. So
    nothing has to be undone when an exception comes, wherever it comes.
    """

    def __init__(self, busy: str = BUSY) -> None:
        """`busy` is what the error says."""
        self.busy = busy
        self.made: list[Any] = []
        self._forks = forks()
        self._calling: tuple[Any, int] | None = None  # the claim and the thread of a fit that is calling a callback

    def take(self, claim: Any) -> None:
        """Enter a claim, a lock that is held; raises RuntimeError where another claim is held."""
        self.made.append(claim)
        if self.made[0] is not claim:
            self.check(claim)

    def give_back(self, claim: Any) -> None:
        """Forget a claim: only to save time, because a lock that is no longer held does not count."""
        with suppress(ValueError):
            self.made.remove(claim)

    def call_back(self, claim: Any, callback: Callable[..., object], *arguments: Any) -> object:
        """Call a callback of the fit that has this claim: meanwhile the callback may change the model."""
        self._calling = claim, threading.get_ident()
        try:
            return callback(*arguments)
        finally:
            self._calling = None

    def take_for_change(self, claim: Any) -> None:
        """Enter a claim for a change of the model's structure, unless a callback of a fit makes the change."""
        if not self.in_callback():
            self.take(claim)

    def in_callback(self) -> bool:
        """Whether the caller is a callback of a fit, in the fit's thread."""
        calling = self._calling
        return calling is not None and calling[0].locked() and calling[1] == threading.get_ident()

    def check(self, claim: Any) -> None:
        """Raise where a claim before this one is held; forget claims that are not."""
        if self._forks != forks():  # the parent process's claims are not ours
            self.made, self._forks = [claim], forks()
            return
        for earlier in list(self.made):
            if earlier is claim:
                return
            if earlier.locked():
                raise RuntimeError(self.busy)
            self.give_back(earlier)
