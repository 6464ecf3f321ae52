"""Psi sampling (Sahoo et al. 2026, *The Diffusion Duality, chapter II*): predictor and corrector in one step.

    q = kappa q(z_s | z_t, x) + (1 - kappa) [q(z_0 | z_t, x), noised again to s]

Given the clean text each token has the marginals of the ancestral process (kappa = 1) for any kappa. Below 1, tokens
that seemed settled are drawn again, which mends early mistakes. Those drawn again in one step are drawn apart from
each other, so the joint law is exact only as kappa goes to 1 with the number of steps. For uniform-state families.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from remask.errors import RemaskError, unknown
from remask.families import Family
from remask.sampling.base import Sampler, Step, Writing

Tail = Literal["ancestral", "greedy"]


@dataclass(frozen=True, kw_only=True)
class Psi(Sampler):
    """The reverse process with correction between the times `low` and `high`, and none outside."""

    steps: int = 64
    """Points of the time grid, from t = 1 to 0."""
    kappa: float = 0.95
    """Share of the predictor while correcting."""
    high: float = 1.0
    low: float = 0.0
    tail: Tail = "ancestral"
    """The last step: draw from the prediction, or write its most probable token (the greedy tail)."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RemaskError(f"steps is {self.steps}; it must be at least 1")
        if not 0 <= self.kappa <= 1:
            raise RemaskError(f"kappa is {self.kappa}; it must be from 0 to 1")
        if not 0 <= self.low <= self.high <= 1:
            raise RemaskError(f"low and high are {self.low} and {self.high}; they must be times, 0 <= low <= high <= 1")
        if self.tail not in get_args(Tail):
            raise unknown("tail", self.tail, get_args(Tail))

    def fits(self, family: Family) -> bool:
        return family.revises

    def fill(self, writing: Writing) -> Iterator[Step]:
        writing.start()
        times = torch.linspace(1, 0, self.steps + 1, dtype=torch.float64).tolist()
        for t, s in itertools.pairwise(times):
            if not bool(writing.todo.any()):
                return
            kappa = self.kappa if self.low < t <= self.high else 1.0
            if s == 0 and self.tail == "greedy":
                logits = writing.predict(writing.todo, t)
                yield writing.put(writing.todo, logits.argmax(-1), (logits.amax(-1) - logits.logsumexp(-1)).double())
            else:
                yield writing.revise(self.pen, t, s, lambda p, t=t, s=s, k=kappa: mixture(writing.family, p, s, t, k))


def mixture(family: Family, p_own: Tensor, s: float, t: float, kappa: float) -> tuple[Tensor, Tensor, Tensor]:
    """`Family.reverse` with correction: probabilities (N,) of keeping, of the prior, and of the prediction."""
    alpha_s = family.alpha(s)
    predictor, clean = family.reverse(p_own, s, t), family.reverse(p_own, 0.0, t)
    corrector = (alpha_s * clean[0], alpha_s * clean[1] + 1 - alpha_s, alpha_s * clean[2])
    keep, fresh, predicted = (kappa * a + (1 - kappa) * b for a, b in zip(predictor, corrector, strict=True))
    return keep, fresh, predicted
