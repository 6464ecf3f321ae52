"""A cache that refreshes the positions that matter now: those that may be written next, and those just written."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.sampling.caching import MASKED_BEFORE, ROLLOUT, CachePolicy, visible
from remask.sampling.certain import WIDEST, Certain, density
from remask.sampling.confidence import Confidence
from remask.sampling.params import SamplingParams
from remask.sampling.sampler import Query, largest
from remask.sampling.state import CERTAINTY, State


@dataclass(frozen=True, kw_only=True)
class Selective(CachePolicy):
    """Keeps the whole row; reads the masked positions that are likely to be written next, and what was just written.

    Likely are the `candidates` masked positions of the current block with the highest probability, as last predicted,
    times the share of written positions around (Jiang et al. 2025, *d2Cache*; its attention rollout is `rollout`).
    Only they are asked. Samplers that do not look at certainty, such as `Ancestral`, ask what they have chosen.
    """

    remembers: ClassVar[tuple[str, ...]] = (MASKED_BEFORE, CERTAINTY, ROLLOUT)
    asks_part: ClassVar[bool] = True
    candidates: int = 32
    """Masked positions to read; more are not written in a step, except in the last one of a block."""
    deviation: float = 10.0
    """Standard deviation, in positions, of the Gaussian weights of the written positions around; 0: not looked at."""
    gap: int = 4
    """Positions between two that are read are read too, where they are no more than this many."""
    rollout: float = 0.0
    """Read the other positions too that are looked at most, through all layers of the last call: as many as have no
    more than this share of what all others have together, and at least one (*d2Cache* has 0.1); 1: all of them. It
    takes the attention weights, which are computed besides; 0: they are not."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates < 1:
            raise RemaskError(f"candidates is {self.candidates}; it must be 1 or more")
        if not 0 <= self.deviation <= WIDEST:
            raise RemaskError(f"deviation is {self.deviation}; it must be from 0 to {WIDEST} positions")
        if self.gap < 0:
            raise RemaskError(f"gap is {self.gap}; it must be 0 or more")
        if not 0 <= self.rollout <= 1:
            raise RemaskError(f"rollout is {self.rollout}; it must be from 0 to 1")

    @property
    def wants_rollout(self) -> bool:
        return self.rollout > 0

    def ask(self, state: State, query: Query) -> Tensor:
        scores = state.extras[CERTAINTY]
        if self.deviation:
            scores = scores * density(~state.masked, state.valid, self.deviation)
        every = [asks_all(params, int(step)) for params, step in zip(state.params, state.step.tolist(), strict=True)]
        count = torch.where(torch.tensor(every, device=scores.device), query.ask.sum(1), self.candidates)
        return largest(scores, query.ask, count)

    def read(self, state: State, ask: Tensor) -> Tensor:
        changed = state.extras[MASKED_BEFORE] ^ state.masked  # what was written, and what was masked again
        chosen = ask | changed
        if self.rollout:
            others = visible(state) & ~chosen
            chosen = chosen | most_looked_at(state.extras[ROLLOUT], others, self.rollout)
        return close_gaps(chosen, self.gap)


def asks_all(params: SamplingParams, step: int) -> bool:
    """Whether a row asks all that its sampler asks: in the last step of a block, and where the sampler has chosen
    already."""
    sampler = params.sampler
    has_chosen = isinstance(sampler, Confidence) and sampler.rule in ("random", "left")
    is_last = sampler.takes_steps and params.steps is not None and step >= params.steps - 1
    return is_last or has_chosen or not isinstance(sampler, Certain)


def most_looked_at(rollout: Tensor, among: Tensor, share: float) -> Tensor:
    """(B, L) bool: of the positions `among`, (B, L) bool, as many of the largest `rollout`, (B, L) float64, as have
    together at most this share of it, and at least one; of equal ones the one further left comes first."""
    if share == 1:
        return among
    ordered = rollout.masked_fill(~among, 0).sort(dim=1, descending=True).values
    fits = ordered.cumsum(1) <= share * ordered.sum(1, keepdim=True)
    return largest(rollout, among, fits.sum(1).clamp(min=1))


def close_gaps(chosen: Tensor, gap: int) -> Tensor:
    """(B, L) bool: the chosen positions, and those between two of them where they are at most `gap`."""
    place = torch.arange(chosen.shape[1], device=chosen.device).expand(chosen.shape)
    before = place.masked_fill(~chosen, -(gap + 2) - chosen.shape[1]).cummax(1).values
    behind = place.masked_fill(~chosen, 2 * chosen.shape[1] + gap + 2).flip(1).cummin(1).values.flip(1)
    return chosen | (behind - before - 1 <= gap)
