"""Rows of tokens in a random order. Batch i is a pure function of (seed, i).

Therefore a resumed run continues at any step without a saved state of the data, and every process of a distributed
run takes its own rows of the same global batch without asking the others.
"""

import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from remask.batch import Batch
from remask.data.tokens import Tokens
from remask.errors import RemaskError


class Rows(Sequence[NDArray[np.int64]]):
    """A split cut into rows of `length` tokens; the last tokens are left out where they do not fill a row."""

    def __init__(self, tokens: Tokens, length: int) -> None:
        """RemaskError when `length` is below 1 or above the number of tokens."""
        if length < 1:
            raise RemaskError(f"a row length of {length} must be at least 1")
        if length > len(tokens):
            raise RemaskError(f"a row length of {length} is longer than the {len(tokens)} tokens of the corpus")
        self.tokens = tokens
        self.length = length

    def __len__(self) -> int:
        return len(self.tokens) // self.length

    def __getitem__(self, i: int) -> NDArray[np.int64]:  # type: ignore[override]
        """(L,) int64 ids of row i."""
        return self.tokens.ids[self._where(i)].astype(np.int64)

    def bytes_of(self, i: int) -> int:
        """Bytes of text that row i stands for."""
        return int(self.tokens.byte_lengths[self._where(i)].sum(dtype=np.int64))

    def batch_of(self, chosen: Sequence[int]) -> tuple[Batch, list[int]]:
        """Some rows as a batch in which all tokens are scored, and the bytes of text of each."""
        tokens = self.stack(chosen)
        return Batch(tokens, torch.ones_like(tokens, dtype=torch.bool)), [self.bytes_of(i) for i in chosen]

    def text(self, i: int) -> tuple[list[int], list[int], int]:
        """What is given of row i, which is nothing, what is scored, and the bytes of text of that."""
        return [], self[i].tolist(), self.bytes_of(i)

    def stack(self, chosen: Sequence[int]) -> torch.Tensor:
        """(B, L) int64 ids of some rows."""
        return torch.from_numpy(np.stack([self[i] for i in chosen]))

    def _where(self, i: int) -> slice:
        if not 0 <= i < len(self):
            raise IndexError(f"row {i} of {len(self)}")
        return slice(i * self.length, (i + 1) * self.length)


class Batches:
    """Global batches of rows, shuffled anew in each epoch."""

    one_length = True

    def __init__(self, rows: Rows, batch: int, seed: int, random_length: float = 0.0) -> None:
        """RemaskError where an option is out of range.

        Arguments:
            rows: the rows to draw from.
            batch: number of rows of a global batch.
            seed: seed of the order and of the cuts, not negative.
            random_length: share of the rows that are cut, at a uniformly random place, into two segments that do not
                see each other. The network then learns texts of every length, and no token is thrown away (the
                published models shorten whole batches instead: Nie et al. 2025).
        """
        if batch < 1:
            raise RemaskError(f"a batch of {batch} rows must have at least 1")
        if seed < 0:
            raise RemaskError(f"seed={seed} must not be negative")
        if not 0 <= random_length <= 1:
            raise RemaskError(f"random_length={random_length} must lie between 0 and 1")
        self.rows = rows
        self.batch = batch
        self.seed = seed
        self.random_length = random_length

    def __len__(self) -> int:
        """Rows of an epoch."""
        return len(self.rows)

    @property
    def mean_length(self) -> float:
        """Tokens of a row."""
        return self.rows.length

    @property
    def unique_tokens(self) -> int:
        """Tokens of all rows."""
        return len(self.rows) * self.rows.length

    @cached_property
    def order(self) -> Any:
        """An endless map from a place in training to a row: each epoch is a new permutation of the rows."""
        return shuffled(len(self.rows), self.seed)

    def share(self, index: int, offset: int = 0, count: int | None = None) -> Batch:
        """`count` rows of global batch `index`, from row `offset` on; all of its rows by default.

        Every token of a row is scored, so that each process knows the scored tokens of the global batch.
        """
        count = self.batch - offset if count is None else count
        if not 0 <= offset < offset + count <= self.batch:
            raise ValueError(f"rows {offset} to {offset + count} of a batch of {self.batch}")
        start = index * self.batch + offset
        tokens = self.rows.stack([self.order[place] for place in range(start, start + count)])
        cuts = self._cuts(index)
        segments = None
        if cuts is not None:
            own = torch.from_numpy(cuts[offset : offset + count])[:, None]
            segments = (torch.arange(self.rows.length) >= own).long()  # (B, L)
        scored = torch.ones_like(tokens, dtype=torch.bool)
        total = self.batch * self.rows.length
        return Batch(tokens, scored, segments, offset=offset, global_rows=self.batch, global_tokens=total)

    def _cuts(self, index: int) -> NDArray[np.int64] | None:
        """(batch,) the position at which each row of a global batch is cut, L where it is not; None where none is."""
        length = self.rows.length
        if not self.random_length or length < 2:
            return None
        rng = np.random.default_rng([self.seed, index])
        cut = rng.random(self.batch) < self.random_length
        places = rng.integers(1, length, self.batch)
        return np.where(cut, places, length) if cut.any() else None


class GlobalBatches(Protocol):
    """What training reads: batch `index` is a function of the seed and `index`, and each process takes its share."""

    batch: int
    """Rows of a global batch."""
    one_length: bool
    """Whether the rows of all batches are equally long, so that a compiled network is compiled once."""

    def __len__(self) -> int:
        """Rows of an epoch."""
        ...

    @property
    def mean_length(self) -> float:
        """Tokens of a row, its padding included, on average."""
        ...

    @property
    def unique_tokens(self) -> int:
        """Tokens of all rows; 0 where there is no corpus to repeat."""
        ...

    def share(self, index: int, offset: int = 0, count: int | None = None) -> Batch:
        """`count` rows of global batch `index`, from row `offset` on; all of its rows by default."""
        ...


class RowsToScore(Protocol):
    """Rows whose bound is wanted."""

    def __len__(self) -> int: ...

    def batch_of(self, chosen: Sequence[int]) -> tuple[Batch, list[int]]:
        """Some rows as a batch, and the bytes of the scored text of each."""
        ...

    def text(self, i: int) -> tuple[list[int], list[int], int] | None:
        """What is given of row i, what is scored behind it, and the bytes of text of that; None where it has no such
        form."""
        ...


def in_order(rows: RowsToScore, count: int | None, batch: int) -> Iterator[tuple[Batch, list[int]]]:
    """Batches of `count` evenly spaced rows in their order, and the bytes of text of each row.

    All rows are taken where `count` is None or larger than their number.
    """
    count = len(rows) if count is None else min(count, len(rows))
    if count < 1 or batch < 1:
        raise RemaskError(f"{count} rows in batches of {batch}: both must be at least 1")
    chosen = [i * len(rows) // count for i in range(count)]
    for start in range(0, count, batch):
        yield rows.batch_of(chosen[start : start + batch])


def shuffled(count: int, seed: int) -> Any:
    """An endless map from a place in training to one of `count` numbers: each epoch is a new permutation of them.

    Grain computes place i without the permutation before it and without keeping it in memory.
    """
    # Grain shuffles epoch e with seed + e: epoch 1 of seed 0 would be epoch 0 of seed 1.
    mixed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return _grain().MapDataset.source(range(count)).shuffle(seed=mixed).repeat()


def _grain() -> Any:
    """The module `grain`, imported without its warning that JAX is not installed."""
    log = logging.getLogger("absl")
    before = log.disabled
    log.disabled = True
    try:
        import grain
    finally:
        log.disabled = before
    return grain
