"""The programs that train a group of networks, each in a lane of the vector.

They are those of `training_programs`, written for a `grouped` dtype: an element holds a number of each network of the
group. Each network has samples, an order, a position and hyperparameters of its own. The networks end their epochs at
different times, so a table (`memory.GROUP`) says for which of them an operation is due.
"""

from __future__ import annotations

from ..vector.barriers import Worker
from ..vector.matrix import ITEMSIZE
from .program import Program
from .training_programs import Training


class GroupTraining(Training):
    """What writes the programs of a kind of fit for a group of networks."""

    def _begin_epoch(self, program: Program) -> None:
        tables = {"order": "orders", "n": "rows", "due": "due"}
        state = self._state("random").address
        places = {key: self.work.table(name) for key, name in tables.items()}
        program.add("group_draw_orders", state=state, **places)

    def _count(self, program: Program) -> None:
        """Add what finds the rows of a batch, then what counts them by their weights."""
        order, last = (self.work.table(name) for name in ("order", "last"))
        program.add("group_rows", rows=self.kind.batch_size, order=order, last=last, numbers=self.work.row_numbers)
        if self.kind.sources.w is not None:
            out = self.work.weights(self.kind.batch_size, Worker())
            count, rows = self.work.field("count"), self.work.rows_of("weights")
            row_stride = ITEMSIZE[self.layout.number_dtype]
            program.add("group_weights", out=out, count=count, row_stride=row_stride, last=last, **rows)

    def _take_rate(self, advance: Program, keep: Program) -> None:
        """Add nothing: `running.groups` writes the rate of each network."""

    def _keep(self, keep: Program, restore: Program) -> None:
        """Add what keeps the vectors of the networks that are due; `running.groups` keeps their states."""
        due = self.work.table("due")
        for live, kept in zip(self.live.vectors, self.kept.vectors, strict=True):
            keep.add("group_copy", out=kept.flat(), x=live.flat(), due=due)
