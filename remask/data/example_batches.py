"""Batches of prompts with their replies. Batch i is a pure function of (seed, i), as for a corpus.

Rows have different lengths. Those of a step are padded to the longest of the whole step, whatever share of it a process
or a micro-batch takes, so that neither the noise nor the number of scored tokens depends on how it is divided.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from remask.batch import Batch
from remask.data.batches import shuffled
from remask.data.examples import Examples
from remask.errors import RemaskError
from remask.model.attention import FULL, Padded
from remask.seeds import mix_seeds

PACKED = 32
"""With end-of-text padding, packed rows are filled up to a multiple of so many tokens."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How examples are laid out in rows."""

    end: int | None
    """The end-of-text id, with which rows are padded."""
    pad_with_end: bool = False
    """Whether the padding is part of the last reply: scored, and seen."""
    hide: bool = True
    """Whether padding is hidden from attention; a network that reads from left to right need not be told."""
    per_example: bool = False
    """Whether each example weighs the same, however long its replies are."""
    mask: int | None = None
    """What a dropped prompt is replaced by; None: it is hidden from attention."""
    drop: float = 0.0
    """Chance that a prompt is dropped, for guidance."""


class ExampleBatches:
    """Global batches of examples, shuffled anew in each epoch."""

    def __init__(self, examples: Examples, length: int, batch: int, seed: int, layout: Layout) -> None:
        """RemaskError where an option is out of range, or there are no examples."""
        if batch < 1:
            raise RemaskError(f"a batch of {batch} rows must have at least 1")
        if not examples.conversations:
            raise RemaskError("there are no conversations to train on")
        self.examples, self.length, self.batch, self.seed, self.layout = examples, length, batch, seed, layout

    def __len__(self) -> int:
        """Rows of an epoch."""
        return self.examples.conversations

    @cached_property
    def order(self) -> Any:
        """An endless map from a place in training to a conversation: each epoch is a new permutation."""
        return shuffled(len(self), self.seed)

    @cached_property
    def mean_length(self) -> float:
        """Mean tokens of a row with its padding, where the rows of a step are drawn at random: the mean of the largest
        of `batch` lengths. The rows of a conversation count as its longest."""
        lengths = np.sort(np.maximum.reduceat(self.examples.lengths, self.examples.firsts[:-1]))
        below = (np.arange(len(lengths) + 1) / len(lengths)) ** self.batch
        return float((lengths * np.diff(below)).sum())

    @property
    def unique_tokens(self) -> int:
        """Tokens of all examples."""
        return len(self.examples.ids)

    def chosen(self, place: int) -> int:
        """The example at a place in training: of a conversation of several rows one drawn at random."""
        conversation = self.order[place]
        first, last = self.examples.firsts[conversation : conversation + 2].tolist()
        return first + mix_seeds(self.seed, 3, place) % (last - first)

    def share(self, index: int, offset: int = 0, count: int | None = None) -> Batch:
        """`count` rows of global batch `index`, from row `offset` on; all of its rows by default."""
        count = self.batch - offset if count is None else count
        if not 0 <= offset < offset + count <= self.batch:
            raise ValueError(f"rows {offset} to {offset + count} of a batch of {self.batch}")
        places = range(index * self.batch, (index + 1) * self.batch)
        rows = [self.chosen(place) for place in places]
        dropped = np.random.default_rng([self.seed, index, 4]).random(self.batch) < self.layout.drop
        return lay_out(self.examples, rows, dropped, self.layout, offset, count)


def lay_out(
    examples: Examples, rows: Sequence[int], dropped: NDArray[np.bool_], layout: Layout, offset: int, count: int
) -> Batch:
    """Rows `offset` to `offset + count` of the global batch that consists of the examples `rows`, one in each row.

    `dropped` says of each row of the global batch whether its prompt is.
    """
    lengths, scored_tokens = examples.lengths[rows], examples.replies[rows]
    longest = int(lengths.max())
    if layout.pad_with_end:
        scored_tokens = scored_tokens + longest - lengths
    total = int(scored_tokens.sum())
    tokens = np.full((count, longest), layout.end or 0, np.int64)
    scored = np.full((count, longest), layout.pad_with_end)
    valid = np.full((count, longest), layout.pad_with_end)
    mine = rows[offset : offset + count]
    for row, i in enumerate(mine):
        size = lengths[offset + row]
        tokens[row, :size], scored[row, :size] = examples[i]
        valid[row, :size] = True
    hidden = ~scored & valid & dropped[offset : offset + count, None]
    if layout.mask is not None:
        tokens[hidden] = layout.mask
    else:
        valid &= ~hidden
    attention = Padded(torch.from_numpy(valid)) if layout.hide and not valid.all() else FULL
    weights = None
    if layout.per_example:
        each = total / len(rows) / scored_tokens[offset : offset + count]
        weights = torch.from_numpy(np.where(scored, each[:, None], 0.0)).float()
    return Batch(
        torch.from_numpy(tokens),
        torch.from_numpy(scored),
        attention=attention,
        weights=weights,
        offset=offset,
        global_rows=len(rows),
        global_tokens=total,
    )


@dataclass(frozen=True)
class ExampleRows:
    """Examples for validation, one a row."""

    examples: Examples
    layout: Layout

    def __len__(self) -> int:
        return len(self.examples)

    def batch_of(self, chosen: Sequence[int]) -> tuple[Batch, list[int]]:
        """Some rows as a batch, and the bytes of the text of the replies of each."""
        batch = lay_out(self.examples, chosen, np.zeros(len(chosen), bool), self.layout, 0, len(chosen))
        return batch, self.examples.bytes[list(chosen)].tolist()

    def text(self, i: int) -> tuple[list[int], list[int], int]:
        """What is given of row i, what is scored behind it, and the bytes of text of that."""
        ids, scored = self.examples[i]
        begin = int(scored.argmax())
        return ids[:begin].tolist(), ids[begin:].tolist(), int(self.examples.bytes[i])
