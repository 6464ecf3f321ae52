"""SMDM's `diff_sample` as published: its time grid, its counts, and a choice of positions after the draw.

A step from time t to s draws a token for every masked position. `greedy` keeps floor(masked (1 - s/t)) of them, the
most probable under the prediction without temperature; `origin` keeps each with probability 1 - s/t. t runs from 1 to
1e-5, and the last step keeps all. The published code counts over the whole batch, so that a text depends on the others;
here that is the option `pooled`, for comparison only. Source: Nie et al. 2025, eval/gen_model_answer.py of
ML-GSAI/SMDM.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from remask.errors import unknown
from remask.families.base import Family
from remask.sampling.sampler import Query, Sampler, largest, spread
from remask.sampling.state import State

Algorithm = Literal["greedy", "origin"]


@dataclass(frozen=True, kw_only=True)
class SMDM(Sampler):
    """The sampler of *Scaling up Masked Diffusion Models on Text*. A step that keeps nothing makes no network call."""

    algorithm: Algorithm = "greedy"
    """greedy: keep the most probable draws of a step. origin: keep random ones."""
    pooled: bool = False
    """Whether `greedy` counts and chooses over the whole batch, as published; a text then depends on its batch."""

    default_steps: ClassVar[int | None] = 256

    def __post_init__(self) -> None:
        if self.algorithm not in get_args(Algorithm):
            raise unknown("algorithm", self.algorithm, get_args(Algorithm))

    @property
    def chooses_first(self) -> bool:
        return self.algorithm == "origin"

    def query(self, state: State, family: Family) -> Query:
        active, share = state.active, self.share(state)
        if self.algorithm == "origin":
            return Query(active & (state.uniforms(active) < share[:, None]))
        left = active.sum(1)
        count = (left * share).long()
        if self.pooled:
            count = (left.sum() * share).long()
        return Query(active & (count > 0)[:, None], keep={"count": count})

    def share(self, state: State) -> Tensor:
        """(B,) float32, 1 - s/t of the current step; 1 at the last."""
        steps = state.steps
        times = torch.linspace(1, 1e-5, steps + 1)  # in float32 as published; otherwise counts may differ by one
        shares = (1 - times[1:] / times[:-1]).to(state.step.device)
        shares[-1] = 1.0
        return shares[state.step.clamp(max=steps - 1)]

    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
        tokens, log_prob = state.draw(query.ask, logits)
        if self.algorithm == "origin":
            state.write(query.ask, tokens, log_prob)
            return query.ask
        scores, count = probability(logits, tokens), query.keep["count"]
        if self.pooled:
            kept = largest(scores[None], torch.ones_like(scores[None], dtype=torch.bool), count[:1])[0]
            chosen = torch.zeros_like(query.ask).masked_scatter(query.ask, kept)
        else:
            chosen = largest(spread(scores, query.ask), query.ask, count)
            kept = chosen[query.ask]
        state.write(chosen, tokens[kept], log_prob[kept])
        return chosen


def probability(logits: Tensor, tokens: Tensor) -> Tensor:
    """(N, V) float32 logits, (N,) tokens -> (N,) float64 probabilities of the tokens.

    In float64, as published, probabilities near 1 remain different. Only the sum needs float64: its terms are at most
    1, and float32 keeps the small ones precise.
    """
    terms = (logits - logits.amax(-1, keepdim=True)).exp()
    return terms.gather(-1, tokens[:, None])[:, 0].double() / terms.sum(-1, dtype=torch.float64)
