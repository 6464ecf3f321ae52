"""The rows of one process, micro-batch after micro-batch."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from remask.batch import Batch
from remask.data.batches import GlobalBatches


@dataclass(frozen=True)
class MicroBatches:
    """Yields (number, rows) without end, from micro-batch `start` on; the next rows are assembled meanwhile.

    Rows are a function of their number, so there is no state to save. It has no length, since Lightning would take
    that for the end of an epoch and begin anew.
    """

    batches: GlobalBatches
    accumulate: int
    """Micro-batches in a step."""
    world: int
    """Processes that share a micro-batch."""
    rank: int
    """The number of this process among them."""
    start: int = 0

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        with ThreadPoolExecutor(1, "remask-batches") as pool:
            coming = pool.submit(self.rows, self.start)
            for number in itertools.count(self.start):
                rows = coming.result()
                coming = pool.submit(self.rows, number + 1)
                yield number, rows

    def rows(self, number: int) -> Batch:
        """This process's share of a micro-batch, which is numbered from the first step of the run."""
        step, micro = divmod(number, self.accumulate)
        count = self.batches.batch // (self.world * self.accumulate)
        return self.batches.share(step, (micro * self.world + self.rank) * count, count)
