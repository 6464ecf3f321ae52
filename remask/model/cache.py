"""Keys and values that a network keeps from one call to the next, by the canvas position they belong to.

The cache of a row may hold any subset of the canvas positions, so that rows of different lengths and at different
stages share one cache; a position that is read again replaces what was kept for it. Index -1 is a hole, which pads a
row that reads fewer positions than others in the same call; it is stored in a place of its own and never seen.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from remask.model.rollout import Rollout


class Cache(Protocol):
    """What a network needs of a cache."""

    exact: bool
    """Whether a call with the cache gives the same result, but for rounding, as a call without it."""

    @property
    def rollout(self) -> Rollout | None:
        """What notes the attention weights of the next call, where they are wanted."""
        ...

    def extent(self, index: Tensor) -> int:
        """The number of canvas positions, counted from 0, whose keys a call that reads `index`, (B, Q), attends to."""
        ...

    def update(self, layer: int, index: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Stores (B, G, Q, d) keys and values at `index`, (B, Q); returns those of all positions, (B, G, K, d)."""
        ...

    def update_hidden(self, slot: int, index: Tensor, hidden: Tensor) -> Tensor:
        """Stores (B, Q, D) hidden states of one kind, `slot`, at `index`; returns those of all positions, (B, K, D)."""
        ...


class KeyValueCache:
    """Keys and values of every position read so far, as they were when the position was last read.

    It is exact where attention is causal in the order of reading, since keys and values then never change; whoever
    keeps those of a network that sees both sides says that it is not (`exact`). Each layer
    holds a pair of (R, G, length + 1, d) tensors, whose first place is that of the hole. With guidance each row has
    two `branches`: memory rows 0 to B - 1 are the conditional one, B to 2 B - 1 the unconditional one.
    """

    def __init__(self, layers: int, rows: int, length: int, branches: int = 1, *, exact: bool = True) -> None:
        self.count, self.length, self.branches, self.exact = rows, length, branches, exact
        self._layers: list[tuple[Tensor, Tensor] | None] = [None] * layers
        self._hidden: dict[int, Tensor] = {}
        self.rollout: Rollout | None = None
        self._used = 0
        """One more than the largest canvas position stored so far."""

    def choose(self, rows: Tensor) -> "ChosenRows":
        """A view of the same memory, for a call that reads only some of the rows."""
        return ChosenRows(self, rows)

    def with_second_branch(self, rows: Tensor) -> "KeyValueCache | ChosenRows":
        """A view for a call that reads all rows and then the unconditional branch of `rows`, (G,)."""
        if self.branches == 2 and len(rows) == self.count:
            return self
        return ChosenRows(self, torch.arange(self.count, device=rows.device)).with_second_branch(rows)

    def extent(self, index: Tensor) -> int:
        """On a CPU the positions used so far; on a GPU all of them, since counting would make the host wait for it."""
        if index.device.type != "cpu":
            return self.length
        self._used = max(self._used, int(index.max()) + 1)
        return self._used

    def update(
        self, layer: int, index: Tensor, k: Tensor, v: Tensor, rows: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Stores (B, G, Q, d) keys and values at `index`, (B, Q); returns those of all positions, (B, G, K, d).

        `rows` (B,) are the memory rows to which they belong; None: the first B.
        """
        pair = self._layers[layer]
        if pair is None:
            shape = (self.count * self.branches, k.shape[1], self.length + 1, k.shape[3])
            pair = self._layers[layer] = (k.new_zeros(shape), v.new_zeros(shape))
        keys = slice(1, 1 + (self._used if index.device.type == "cpu" else self.length))
        return _store(pair[0], rows, index, k)[:, :, keys], _store(pair[1], rows, index, v)[:, :, keys]

    def update_hidden(self, slot: int, index: Tensor, hidden: Tensor, rows: Tensor | None = None) -> Tensor:
        """Stores (B, Q, D) hidden states of one kind, `slot`, at `index`; returns those of all positions, (B, K, D)."""
        if slot not in self._hidden:
            shape = (self.count * self.branches, 1, self.length + 1, hidden.shape[2])
            self._hidden[slot] = hidden.new_zeros(shape)
        return _store(self._hidden[slot], rows, index, hidden[:, None])[:, 0, 1:]

    def rows(self, index: Tensor) -> "KeyValueCache":
        """The cache of some rows, in that order."""
        both = torch.cat([index + branch * self.count for branch in range(self.branches)])
        return self._with(len(index), self.length, lambda memory: memory[both])

    def join(self, other: "KeyValueCache") -> "KeyValueCache":
        """The rows of this cache, then those of another of the same model, all as long as the longer canvas."""
        length, branches = max(self.length, other.length), max(self.branches, other.branches)
        mine, theirs = self._widen(length, branches), other._widen(length, branches)
        exact = self.exact and other.exact
        joined = KeyValueCache(len(self._layers), self.count + other.count, length, branches, exact=exact)
        joined._used = max(self._used, other._used)

        def both(one: Tensor | None, two: Tensor | None) -> Tensor | None:
            if one is None and two is None:
                return None
            one = _blank(two, mine.count * branches) if one is None else one
            two = _blank(one, theirs.count * branches) if two is None else two
            parts = zip(one.chunk(branches), two.chunk(branches), strict=True)
            return torch.cat([rows for pair in parts for rows in pair])

        for layer, (one, two) in enumerate(zip(mine._layers, theirs._layers, strict=True)):
            k = both(one and one[0], two and two[0])
            v = both(one and one[1], two and two[1])
            joined._layers[layer] = None if k is None or v is None else (k, v)
        for slot in mine._hidden | theirs._hidden:
            hidden = both(mine._hidden.get(slot), theirs._hidden.get(slot))
            assert hidden is not None
            joined._hidden[slot] = hidden
        return joined

    def _widen(self, length: int, branches: int) -> "KeyValueCache":
        """The same rows with room for a longer canvas and for another branch."""
        if (length, branches) == (self.length, self.branches):
            return self

        def widen(memory: Tensor) -> Tensor:
            memory = torch.nn.functional.pad(memory, (0, 0, 0, length - self.length))
            return torch.cat([memory, _blank(memory, (branches - self.branches) * self.count)])

        wide = self._with(self.count, length, widen)
        wide.branches = branches
        return wide

    def _with(self, rows: int, length: int, change: Callable[[Tensor], Tensor]) -> "KeyValueCache":
        """A cache whose tensors are `change` of those of this one."""
        changed = KeyValueCache(len(self._layers), rows, length, self.branches, exact=self.exact)
        changed._layers = [None if pair is None else (change(pair[0]), change(pair[1])) for pair in self._layers]
        changed._hidden = {slot: change(hidden) for slot, hidden in self._hidden.items()}
        changed._used = self._used
        return changed


class ChosenRows:
    """A view of some rows of a cache, which the network is given for one call."""

    def __init__(self, cache: KeyValueCache, rows: Tensor) -> None:
        self.cache, self.chosen, self.exact = cache, rows, cache.exact

    @property
    def rollout(self) -> Rollout | None:
        return self.cache.rollout

    def with_second_branch(self, rows: Tensor) -> "ChosenRows":
        """A view for a call that reads these rows and then the unconditional branch of some of them, (G,)."""
        return ChosenRows(self.cache, torch.cat([self.chosen, self.cache.count + self.chosen[rows]]))

    def extent(self, index: Tensor) -> int:
        return self.cache.extent(index)

    def update(self, layer: int, index: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.cache.update(layer, index, k, v, self.chosen)

    def update_hidden(self, slot: int, index: Tensor, hidden: Tensor) -> Tensor:
        return self.cache.update_hidden(slot, index, hidden, self.chosen)


def _store(memory: Tensor, rows: Tensor | None, index: Tensor, values: Tensor) -> Tensor:
    """Writes (B, G, Q, d) values at canvas positions `index`, (B, Q), of (R, G, length + 1, d) memory.

    Returns the memory of these rows, (B, G, length + 1, d).
    """
    place = index + 1
    if rows is None:
        memory = memory[: len(values)]
        every = torch.arange(len(values), device=index.device)
        memory[every[:, None], :, place] = values.transpose(1, 2)  # scatter_ has an index for every single number
        return memory
    memory[rows[:, None], :, place] = values.transpose(1, 2)
    return memory[rows]


def _blank(like: Tensor | None, rows: int) -> Tensor:
    """Memory of `rows` rows in which nothing is stored, of the shape and type of other memory."""
    assert like is not None
    return like.new_zeros(rows, *like.shape[1:])
