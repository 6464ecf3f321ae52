"""The first-hitting sampler: the reverse process in continuous time, without a time grid."""

from dataclasses import dataclass

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Family
from remask.sampling.sampler import Query, Sampler, largest
from remask.sampling.state import State


@dataclass(frozen=True, kw_only=True)
class FirstHitting(Sampler):
    """Reveals masked positions in uniformly random order (Zheng et al. 2024, section 4).

    The times at which positions are revealed are order statistics of uniforms. A network that is not given the time
    does not see them, so that only the order of the exact reverse process matters. Revealing one position at a time is
    exact; with fewer steps than tokens, several are revealed from one prediction, which is no longer exact.
    """

    at_once: int = 1
    """Positions revealed from one prediction, where no number of steps is given."""

    def __post_init__(self) -> None:
        if self.at_once < 1:
            raise RemaskError(f"at_once is {self.at_once}; it must be at least 1")

    def query(self, state: State, family: Family) -> Query:
        active = state.active
        if state.steps:
            count = -(-state.block_size // state.steps)
        else:
            count = torch.full_like(state.step, self.at_once)
        return Query(largest(state.uniforms(active), active, count))

    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
        state.write(query.ask, *state.draw(query.ask, logits))
        return query.ask
