"""LLaDA's `generate.py` as published: draw a token everywhere in a block, keep those with the highest confidence.

Here positions are chosen by the confidence of the tokens that were drawn; `Confidence` chooses before it draws. At
temperature 0 the two agree. Two faults of the published code are not reproduced: guidance works without an attention
mask, and `confidence_eos_eot_inf` holds for both tokens at every temperature. Source: Nie et al. 2025 and generate.py
of ML-GSAI/LLaDA (October 2025).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from remask.errors import RemaskError, unknown
from remask.families.base import Family
from remask.sampling.confidence import even_share
from remask.sampling.sampler import Query, Sampler, largest, spread
from remask.sampling.state import State

Remasking = Literal["low_confidence", "random"]


@dataclass(frozen=True, kw_only=True)
class LLaDA(Sampler):
    """Fills blocks from left to right.

    Each block has an equal share of the steps, and each step an equal share of the masks of the block, with the
    remainder in the first steps. Without a number of steps, each step writes one token.
    """

    remasking: Remasking = "low_confidence"
    """Which draws of a step are kept. low_confidence: the most probable. random: random ones."""
    never_end: bool = False
    """Never write the end-of-text token (`logits_eos_inf`)."""
    late_end: bool = False
    """Write end-of-text and end-of-turn tokens last (`confidence_eos_eot_inf`)."""

    def __post_init__(self) -> None:
        if self.remasking not in get_args(Remasking):
            raise unknown("remasking", self.remasking, get_args(Remasking))

    @property
    def chooses_first(self) -> bool:
        return self.remasking == "random"

    def steps_of_block(self, steps: int | None, block: int, length: int) -> int | None:
        blocks = -(-length // block)
        return -(-(length if steps is None else steps) // blocks)

    def begin(self, state: State, family: Family) -> None:
        if (self.never_end or self.late_end) and family.vocabulary.end is None:
            raise RemaskError("never_end and late_end need a vocabulary with an end-of-text id")
        if self.never_end and any(p.matching is not None for p in state.params):
            raise RemaskError("never_end lets no text end, and with matching it has to; leave one of them out")

    def query(self, state: State, family: Family) -> Query:
        active = state.active
        count = torch.minimum(even_share(state.step, state.steps, state.block_size), active.sum(1))
        asked = active & (count > 0)[:, None]
        if self.remasking == "random":  # this needs no prediction to choose, so only chosen positions are asked
            asked = largest(state.uniforms(asked), asked, count)
        return Query(asked, keep={"count": count})

    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
        vocabulary = family.vocabulary
        ends = [i for i in (vocabulary.end, vocabulary.end_of_turn) if i is not None]
        if self.never_end:
            logits = forbid(logits, ends[:1])
        tokens, log_prob = state.draw(query.ask, logits)
        if self.remasking == "random":
            state.write(query.ask, tokens, log_prob)
            return query.ask
        judged = forbid(logits, ends) if self.late_end else logits
        scores = (judged.gather(-1, tokens[:, None])[:, 0] - judged.logsumexp(-1)).exp()
        scores = scores.nan_to_num(0.0)  # where a constraint allows nothing but an end
        chosen = largest(spread(scores, query.ask), query.ask, query.keep["count"])
        kept = chosen[query.ask]
        state.write(chosen, tokens[kept], log_prob[kept])
        return chosen


def forbid(logits: Tensor, ids: list[int]) -> Tensor:
    """(N, V) logits in which some ids have probability 0."""
    return logits.index_fill(-1, torch.tensor(ids, dtype=torch.int64, device=logits.device), -torch.inf)
