"""Batches of prompts with their replies. Batch i is a pure function of (seed, i), as for a corpus.

Rows have different lengths. Those of a step are padded to the longest of the whole step, whatever share of it a process
or a micro-batch takes, so that neither the noise nor the number of scored tokens depends on how it is divided.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from remask.batch import Batch
from remask.data.batches import shuffled
from remask.data.bins import fill_bins
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
    pack: bool = False
    """Whether a row holds as many examples as fit, which do not see each other."""

    def size(self, tokens: int, length: int) -> int:
        """The tokens that an example takes of a row of `length`, with the padding that a packed one has of its own."""
        return min(length, -(-tokens // PACKED) * PACKED) if self.pack and self.pad_with_end else tokens


class ExampleBatches:
    """Global batches of examples, shuffled anew in each epoch."""

    one_length = False

    def __init__(self, examples: Examples, length: int, batch: int, seed: int, layout: Layout) -> None:
        """RemaskError where an option is out of range, or there are no examples. `length` is that of a packed row."""
        if batch < 1:
            raise RemaskError(f"a batch of {batch} rows must have at least 1")
        if not examples.conversations:
            raise RemaskError("there are no conversations to train on")
        self.examples, self.length, self.batch, self.seed, self.layout = examples, length, batch, seed, layout
        longest = np.maximum.reduceat(examples.lengths, examples.firsts[:-1])  # of the rows of each conversation
        sizes = [layout.size(one, length) for one in longest.tolist()]
        self.rows = fill_bins(sizes, length, seed) if layout.pack else [[i] for i in range(len(sizes))]
        """The conversations of each row."""
        self.sizes = np.array([sum(sizes[i] for i in row) for row in self.rows])
        """Tokens of each row, without what it is padded with."""

    def __len__(self) -> int:
        """Rows of an epoch."""
        return len(self.rows)

    @cached_property
    def order(self) -> Any:
        """An endless map from a place in training to a row: each epoch is a new permutation of the rows."""
        return shuffled(len(self), self.seed)

    @property
    def mean_length(self) -> float:
        """Mean tokens of a row with its padding: the mean of the largest of `batch` sizes that are drawn at random."""
        below = (np.arange(len(self.rows) + 1) / len(self.rows)) ** self.batch
        return float((np.sort(self.sizes) * np.diff(below)).sum())

    @property
    def unique_tokens(self) -> int:
        """Tokens of all examples."""
        return len(self.examples.ids)

    def chosen(self, place: int) -> list[int]:
        """The examples of the row at a place in training: of a conversation of several one that is drawn."""
        found = []
        for number, conversation in enumerate(self.rows[self.order[place]]):
            first, last = self.examples.firsts[conversation : conversation + 2].tolist()
            found.append(first + mix_seeds(self.seed, 3, place, number) % (last - first))
        return found

    def share(self, index: int, offset: int = 0, count: int | None = None) -> Batch:
        """`count` rows of global batch `index`, from row `offset` on; all of its rows by default."""
        count = self.batch - offset if count is None else count
        if not 0 <= offset < offset + count <= self.batch:
            raise ValueError(f"rows {offset} to {offset + count} of a batch of {self.batch}")
        places = range(index * self.batch, (index + 1) * self.batch)
        rows = [self.chosen(place) for place in places]
        dropped = np.random.default_rng([self.seed, index, 4]).random(sum(map(len, rows))) < self.layout.drop
        return lay_out(self.examples, rows, self.layout, self.length, dropped.tolist(), offset, count)


def lay_out(
    examples: Examples,
    rows: Sequence[Sequence[int]],
    layout: Layout,
    length: int,
    dropped: Sequence[bool] | None = None,
    offset: int = 0,
    count: int | None = None,
) -> Batch:
    """Rows `offset` to `offset + count` of the global batch whose rows consist of the examples `rows`.

    `dropped` says of each example, row by row, whether its prompt is dropped.
    """
    count = len(rows) - offset if count is None else count
    flat = [i for row in rows for i in row]
    sizes = {i: layout.size(int(examples.lengths[i]), length) for i in flat}  # a row's tokens with padding of its own
    longest = max(sum(sizes[i] for i in row) for row in rows)
    if layout.pad_with_end and not layout.pack:
        sizes = dict.fromkeys(flat, longest)
    own = {i: int(examples.replies[i]) + layout.pad_with_end * (sizes[i] - int(examples.lengths[i])) for i in sizes}
    total = sum(own[i] for i in flat)  # scored tokens of the global batch
    tokens = np.full((count, longest), layout.end or 0, np.int64)
    scored, valid, hidden = (np.zeros((count, longest), bool) for _ in range(3))
    segments = np.full((count, longest), max(map(len, rows)), np.int64)  # that of what is behind the last example
    weights = np.zeros((count, longest), np.float32)
    number = sum(len(row) for row in rows[:offset])
    for place, row in enumerate(rows[offset : offset + count]):
        at = 0
        for segment, i in enumerate(row):
            all_of_it, text = slice(at, at + sizes[i]), slice(at, at + int(examples.lengths[i]))
            scored[place, all_of_it] = layout.pad_with_end
            tokens[place, text], scored[place, text] = examples[i]
            valid[place, all_of_it], segments[place, all_of_it] = True, segment
            hidden[place, all_of_it] = dropped is not None and dropped[number]
            weights[place, all_of_it] = total / len(flat) / own[i]
            at, number = at + sizes[i], number + 1
    hidden &= valid & ~scored
    if layout.mask is not None:
        tokens[hidden] = layout.mask
    else:
        valid &= ~hidden
    is_hidden = bool(hidden.any()) if layout.pack else not valid.all()  # segments hide padding already
    return Batch(
        torch.from_numpy(tokens),
        torch.from_numpy(scored),
        segments=torch.from_numpy(segments) if layout.pack else None,
        attention=Padded(torch.from_numpy(valid)) if layout.hide and is_hidden else FULL,
        weights=torch.from_numpy(weights) if layout.per_example else None,
        offset=offset,
        global_rows=len(rows),
        global_tokens=total,
    )


@dataclass(frozen=True)
class ExampleRows:
    """Examples for validation, one a row, whose tokens weigh the same: what is wanted is -log p."""

    examples: Examples
    layout: Layout

    def __len__(self) -> int:
        return len(self.examples)

    def batch_of(self, chosen: Sequence[int]) -> tuple[Batch, list[int]]:
        """Some rows as a batch, and the bytes of the text of the replies of each."""
        batch = lay_out(self.examples, [[i] for i in chosen], replace(self.layout, pack=False, per_example=False), 0)
        return batch, self.examples.bytes[list(chosen)].tolist()

    def text(self, i: int) -> tuple[list[int], list[int], int] | None:
        """What is given of row i, what is scored behind it, and the bytes of text of that; None where something that is
        not scored lies between two replies."""
        ids, scored = self.examples[i]
        begin = int(scored.argmax())
        return (
            (ids[:begin].tolist(), ids[begin:].tolist(), int(self.examples.bytes[i])) if scored[begin:].all() else None
        )
