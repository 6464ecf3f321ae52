"""SMDM's `diff_sample`, by its own rules: its time grid, its counts, and the choice that follows the draw.

`greedy` keeps floor(masked (1 - s/t)) of a step's draws, the most probable under the prediction without
temperature; `origin` keeps each with probability 1 - s/t. t runs from 1 to 1e-5, and the last step keeps
all. The published code counts over the whole batch, so that a text depends on its neighbours; here that is `pooled`,
for comparison only. Source: Nie et al. 2025, eval/gen_model_answer.py of ML-GSAI/SMDM.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from remask.errors import RemaskError, unknown
from remask.sampling.base import Sampler, Step, Writing, largest

Algorithm = Literal["greedy", "origin"]


@dataclass(frozen=True, kw_only=True)
class SMDM(Sampler):
    """The sampler of *Scaling up Masked Diffusion Models on Text*."""

    steps: int = 256
    """Points of the time grid; steps in which nothing is to be kept cost nothing."""
    algorithm: Algorithm = "greedy"
    pooled: bool = False
    """greedy: count and choose over the whole batch, as published; its results depend on the batch."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RemaskError(f"steps is {self.steps}; it must be at least 1")
        if self.algorithm not in get_args(Algorithm):
            raise unknown("algorithm", self.algorithm, get_args(Algorithm))

    @property
    def chooses_first(self) -> bool:
        return self.algorithm == "origin"

    def fill(self, writing: Writing) -> Iterator[Step]:
        times = torch.linspace(1, 1e-5, self.steps + 1)  # float32, as published: counts may differ by one otherwise
        for i in range(self.steps):
            todo = writing.todo
            if not bool(todo.any()):
                return
            share = 1 - times[i + 1] / times[i] if i < self.steps - 1 else torch.tensor(1.0)
            if self.algorithm == "origin":
                chosen = todo & (writing.uniforms(todo) < share.to(todo.device))
                if bool(chosen.any()):
                    yield writing.write(self.pen, chosen, writing.predict(chosen))
                continue
            count = (todo.sum(1) * share.to(todo.device)).long()
            if self.pooled:
                count = (todo.sum() * share.to(todo.device)).long().expand(len(todo))
            asked = todo & (count > 0)[:, None]
            if bool(asked.any()):
                yield self._keep(writing, asked, count)

    def _keep(self, writing: Writing, asked: Tensor, count: Tensor) -> Step:
        """Draws at every asked position and writes the `count` (B,) most probable of each row, or of all."""
        logits = writing.predict(asked)
        tokens, log_prob = writing.draft(self.pen, asked, logits)
        scores = probability(logits, tokens)
        if not self.pooled:
            return writing.keep(asked, count, scores, (tokens, log_prob))
        kept = largest(scores[None], torch.ones_like(scores[None], dtype=torch.bool), count[:1])[0]
        return writing.put(asked.masked_scatter(asked, kept), tokens[kept], log_prob[kept])


def probability(logits: Tensor, tokens: Tensor) -> Tensor:
    """(N, V) float32, (N,) -> (N,) float64 probabilities, which tell apart what is nearly sure, as published.

    The sum alone is in float64: beside the largest term, 1, the others keep their own precision.
    """
    terms = (logits - logits.amax(-1, keepdim=True)).exp()
    return terms.gather(-1, tokens[:, None])[:, 0].double() / terms.sum(-1, dtype=torch.float64)
