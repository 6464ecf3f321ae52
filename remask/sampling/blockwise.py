"""Block-wise decoding, by composition: one block after another, each filled by another sampler."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from remask.errors import RemaskError
from remask.families.base import Family
from remask.sampling.base import Pen, Sampler, Step, Writing
from remask.sampling.confidence import Confidence


@dataclass(frozen=True, kw_only=True)
class Blockwise(Sampler):
    """Fills the open positions of each row from left to right in blocks of `size`.

    The inner sampler's own pen writes, and its steps are those of one block. The whole canvas is read
    all along, later blocks as masks ("semi-autoregressive with padding" in LLaDA).
    """

    inner: Sampler = field(default_factory=Confidence)
    size: int = 32
    """Open positions in a block."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise RemaskError(f"the block size is {self.size}; it must be at least 1")
        if self.pen != Pen():
            raise RemaskError("give the pen to the inner sampler: it is the one that writes")

    def writing_with(self, pen: Pen) -> "Blockwise":
        return replace(self, inner=self.inner.writing_with(pen))

    @property
    def written_with(self) -> Pen:
        return self.inner.written_with

    def fits(self, family: Family) -> bool:
        return family.any_order and self.inner.fits(family)  # what is revised is not final when a block is

    @property
    def chooses_first(self) -> bool:
        return self.inner.chooses_first

    @property
    def rewrites(self) -> bool:
        return self.inner.rewrites

    @property
    def deterministic(self) -> bool:
        return self.inner.deterministic

    def fill(self, writing: Writing) -> Iterator[Step]:
        outer, open_ = writing.focus, writing.todo
        block = (open_.cumsum(1) - 1) // self.size
        for number in range(int(block.max()) + 1):
            writing.focus = open_ & (block == number)
            if bool(writing.todo.any()):
                yield from self.inner.fill(writing)
        writing.focus = outer
