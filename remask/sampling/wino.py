"""Writes boldly and takes back what does not hold once its surroundings are written.

Source: Hong et al. 2025, *Wide-In, Narrow-Out: revokable decoding for efficient and effective diffusion language
models*.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Family
from remask.sampling.adaptive import Adaptive, check_probability
from remask.sampling.caching import is_partial
from remask.sampling.predictions import Predictions
from remask.sampling.sampler import Query, largest
from remask.sampling.state import State


@dataclass(frozen=True, kw_only=True)
class WINO(Adaptive):
    """Writes all positions of at least `threshold`, and masks those again that have less than `keep` in hindsight.

    In hindsight: the block is read a second time as masks, each of which looks at everything but the token at its
    place. That is no leave-one-out prediction, as the other tokens have looked at it in the layers before. Fewer are
    masked again than were written in the step, so that every step gets on. Reading the block twice costs its share of
    the row.
    """

    threshold: float = 0.6
    """The least probability of the most probable token of a position that is written."""
    keep: float = 0.9
    """The least probability in hindsight of a token that stays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("threshold", self.threshold)
        check_probability("keep", self.keep)
        if self.finish:
            raise RemaskError("WINO takes back what it has written, so it does not finish early; leave finish out")

    @property
    def rewrites(self) -> bool:
        return True

    @property
    def takes_expansion(self) -> bool:
        return False

    def begin(self, state: State, family: Family) -> None:
        super().begin(state, family)
        if any(p.cache is not None or is_partial(p) or p.guidance for p in state.params):
            raise RemaskError(
                "WINO reads the whole row, and its block twice; leave cache, window, grow and guidance out"
            )

    def query(self, state: State, family: Family) -> Query:
        block = state.open & (state.blocks == state.block[:, None])
        written = block & ~state.masked
        return Query(state.active, shadow=block & written.any(1, keepdim=True))

    def choose(self, seen: Predictions) -> Tensor:
        left = seen.asked.sum(1)
        most = (left * 7 // 10).clamp(5, 20)
        passing = (seen.probability >= self.threshold) & seen.asked
        return self.at_least_one(largest(seen.probability, passing, most), seen)

    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
        before = state.masked
        super().commit(state, family, query, logits)
        new = (before & ~state.masked).sum(1)
        shadow, hindsight = query.shadow, query.keep.get("shadow")
        if shadow is not None and hindsight is not None:
            log_p = hindsight.double().log_softmax(-1)
            tokens = state.tokens[shadow].clamp(max=log_p.shape[-1] - 1)  # the mask may have no logit
            found = torch.ones(shadow.shape, dtype=torch.float64, device=log_p.device)
            found = found.masked_scatter(shadow, log_p.gather(-1, tokens[:, None])[:, 0].exp())
            doubtful = shadow & ~before & (found < self.keep)
            state.hide(largest(-found, doubtful, new - 1), family.mask)
        return before ^ state.masked
