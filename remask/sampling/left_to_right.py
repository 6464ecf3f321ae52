"""Left to right with a key-value cache: the sampler of the autoregressive baseline."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.families.base import Family
from remask.sampling.sampler import Query, Sampler
from remask.sampling.state import State


@dataclass(frozen=True, kw_only=True)
class LeftToRight(Sampler):
    """Each step writes the leftmost open position. Given text after it stays, but the prediction does not see it.

    Each row writes at its own position, so that prompts of different lengths share a batch and no row waits for
    another.
    """

    orders: ClassVar[frozenset[str]] = frozenset({"left"})
    takes_steps: ClassVar[bool] = False
    takes_blocks: ClassVar[bool] = False
    cached: ClassVar[bool] = True

    @property
    def deterministic(self) -> bool:
        return True

    def query(self, state: State, family: Family) -> Query:
        along = torch.arange(state.tokens.shape[1], device=state.tokens.device)
        active = state.active
        place = active.int().argmax(1, keepdim=True)  # the leftmost open position
        first = active & (along == place)
        read = state.valid & ~state.cached & (along <= place)
        return Query(first, read=read, tokens=family.shift(state.tokens), causal=True, final=read)

    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
        state.write(query.ask, *state.draw(query.ask, logits))
        return query.ask
