"""Attention rules: which position may see which, as one predicate.

`Attention.may_see(row, query, key)` is the whole definition of a rule; `model/rendering.py` makes of it what kernels
take. Rules combine with `&`. Indices count positions of the sequence that the network reads.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


class Attention(ABC):
    """A rule that says which keys a query may see."""

    @abstractmethod
    def may_see(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """bool, broadcast over integer index tensors: may `query` of batch row `row` see `key`?"""

    def rows(self, index: Tensor) -> "Attention":
        """The rule for some of the batch rows only."""
        return self

    def at(self, order: Tensor) -> "Attention":
        """The rule for a network that reads the positions in this order, (B, S) int64; a position may occur twice."""
        return Permuted(self, order)

    def to(self, device: Any) -> "Attention":
        """The rule with its tensors on another device."""
        return self

    def __and__(self, other: "Attention") -> "Attention":
        if isinstance(other, Full):
            return self
        return other if isinstance(self, Full) else Both(self, other)

    def mask(self, rows: int, queries: Tensor, keys: Tensor | None = None) -> Tensor | None:
        """(rows or 1, 1, Q, K) bool, True where a query sees a key; None where every query sees every key.

        `queries` and `keys` are positions, (Q,) or (B, Q) and (K,) or (B, K); keys of None are the queries. Position
        -1 is a hole: no other query sees it, and what it sees itself does not matter.
        """
        keys = queries if keys is None else keys
        row = torch.arange(rows, device=queries.device)[:, None, None]
        query, key = queries[..., :, None], keys[..., None, :]
        seen = self.may_see(row, query, key)
        if queries.ndim == 2:
            seen = (seen & (key >= 0)) | (query < 0)
        return seen.expand(-1, queries.shape[-1], keys.shape[-1])[:, None]


@dataclass(frozen=True)
class Full(Attention):
    """Every position sees every position."""

    def may_see(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return torch.ones_like(row + query + key, dtype=torch.bool)

    def at(self, order: Tensor) -> "Full":
        return self

    def mask(self, rows: int, queries: Tensor, keys: Tensor | None = None) -> Tensor | None:
        return super().mask(rows, queries, keys) if queries.ndim == 2 else None


@dataclass(frozen=True)
class Causal(Attention):
    """A position sees itself and those before it."""

    def may_see(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (row >= 0)


@dataclass(frozen=True)
class LookAhead(Attention):
    """A position sees itself, those before it, and the next `ahead`: between causal and full attention."""

    ahead: int

    def may_see(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query + self.ahead >= key) & (row >= 0)


@dataclass(frozen=True)
class Ranked(Attention):
    """A position sees those of its own rank and of lower ranks.

    With different ranks this is causal attention in any order; with equal ranks in groups, block-causal attention.
    """

    rank: Tensor
    """(B, S) int64."""

    def may_see(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return self.rank[row, query] >= self.rank[row, key]

    def rows(self, index: Tensor) -> "Ranked":
        return Ranked(self.rank[index])

    def to(self, device: Any) -> "Ranked":
        return Ranked(self.rank.to(device))


@dataclass(frozen=True)
class Padded(Attention):
    """No position sees padding, except that a padding position sees itself, so that its softmax has a term."""

    valid: Tensor
    """(B, S) bool, False on padding."""

    def may_see(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return self.valid[row, key] | (query == key)

    def rows(self, index: Tensor) -> "Padded":
        return Padded(self.valid[index])

    def to(self, device: Any) -> "Padded":
        return Padded(self.valid.to(device))


@dataclass(frozen=True)
class Segments(Attention):
    """A position sees those of its own segment only."""

    number: Tensor
    """(B, S) int64."""

    def may_see(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return self.number[row, query] == self.number[row, key]

    def rows(self, index: Tensor) -> "Segments":
        return Segments(self.number[index])

    def to(self, device: Any) -> "Segments":
        return Segments(self.number.to(device))


@dataclass(frozen=True)
class Front(Attention):
    """Causal, except that the first `size` positions of a row all see each other (a prefix language model)."""

    size: Tensor
    """(B,) int64."""

    def may_see(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        front = self.size[row]
        return (query >= key) | ((query < front) & (key < front))

    def rows(self, index: Tensor) -> "Front":
        return Front(self.size[index])

    def to(self, device: Any) -> "Front":
        return Front(self.size.to(device))


@dataclass(frozen=True)
class TwoStreams(Attention):
    """[z ; x], a noisy half and a clean one: a block of z sees itself and the blocks of x before it.

    A block of x sees itself and the blocks of x before it, never z. With blocks of one position, a single pass
    predicts every token of x from those before it. Source: Arriola et al. 2025 (block diffusion), Sahoo et al. 2025
    (Eso-LM).
    """

    length: int
    """Number of positions in each half."""
    block: int = 1
    front: Tensor | None = None
    """(B,) number of positions at the beginning of x that all see each other."""

    def may_see(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        q, k = query % self.length, key % self.length
        asks, noisy = query < self.length, key < self.length
        mine, its = q // self.block, k // self.block
        seen = (asks & noisy & (its == mine)) | (asks & ~noisy & (its < mine)) | (~asks & ~noisy & (its <= mine))
        if self.front is not None:
            front = self.front[row]
            seen = seen | (~asks & ~noisy & (q < front) & (k < front))
        return seen & (row >= 0)

    def rows(self, index: Tensor) -> "TwoStreams":
        return self if self.front is None else replace(self, front=self.front[index])

    def to(self, device: Any) -> "TwoStreams":
        return self if self.front is None else replace(self, front=self.front.to(device))


@dataclass(frozen=True)
class Permuted(Attention):
    """A rule about the positions of a text, for a network that reads them in another order."""

    rule: Attention
    order: Tensor
    """(B, S) int64, the position of the text that the network reads at each of its own positions."""

    def may_see(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return self.rule.may_see(row, self.order[row, query], self.order[row, key])

    def rows(self, index: Tensor) -> "Permuted":
        return Permuted(self.rule.rows(index), self.order[index])

    def to(self, device: Any) -> "Permuted":
        return Permuted(self.rule.to(device), self.order.to(device))


@dataclass(frozen=True)
class Both(Attention):
    """A position sees what both rules allow."""

    one: Attention
    two: Attention

    def may_see(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return self.one.may_see(row, query, key) & self.two.may_see(row, query, key)

    def rows(self, index: Tensor) -> "Both":
        return Both(self.one.rows(index), self.two.rows(index))

    def to(self, device: Any) -> "Both":
        return Both(self.one.to(device), self.two.to(device))


FULL = Full()
CAUSAL = Causal()
