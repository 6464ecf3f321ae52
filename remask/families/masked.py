"""Masked diffusion: tokens turn into the mask one by one; the network guesses what they were.

With alpha(t) = 1 - t every token is masked with probability t, and (Sahoo et al. 2024; Shi et al.
2024; Ou et al. 2024)

    -log p(x) <= E_{t ~ U(0,1)} (1/t) sum_{i masked} -log p(x_i | z_t)
              =  E_{k ~ U{1..L}} (L/k) sum_{i masked} -log p(x_i | z_k),  exactly k masked.

The two right-hand sides are equal (Zheng et al. 2024, section 3; Nie et al. 2025, eq. 6); the second
varies less. Both are the mean over all orders of the any-order chain rule, so the bound is that of a
text revealed in random order, one token at a time. The network needs no time: how much is masked is
plain to see.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from remask.batch import Batch
from remask.errors import RemaskError, unknown
from remask.families.base import Denoiser, Family, Loss, Noisy, per_row
from remask.model.attention import FULL

Objective = Literal["bound", "low_variance", "count"]


@dataclass(frozen=True, kw_only=True)
class Masked(Family):
    """Absorbing-state diffusion on a bidirectional network."""

    objective: Objective = "bound"
    """What training minimises. bound: i.i.d. masks, weight 1/p (SMDM, LLaDA). low_variance: the same masks,
    weight 1 (Scaling Beyond Masked Diffusion; not a bound). count: exactly k masks, weight L/k."""
    eps: float = 1e-3
    """Least masking probability of i.i.d. masks: p = (1 - eps) t + eps."""

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            raise unknown("objective", self.objective, get_args(Objective))
        if not 0 <= self.eps < 1:
            raise RemaskError(f"eps is {self.eps}; it must be at least 0 and below 1")

    @property
    def any_order(self) -> bool:
        return True

    @property
    def tells_time(self) -> bool:
        return True

    @property
    def estimators(self) -> tuple[str, ...]:
        return ("auto", "count", "chain", "rule", "smdm", "llada")

    @property
    def asked(self) -> float:
        return 0.5

    def corrupt(self, batch: Batch, rng: torch.Generator, levels: Tensor | None = None) -> Noisy:
        """Masks scored tokens; the weights are those of the objective."""
        levels = batch.levels(rng) if levels is None else levels
        uniform = batch.draw((batch.tokens.shape[1],), rng)
        hidden, weight = self.masks(batch.scored, levels, uniform)
        return self.inputs_for(batch, hidden, weight)

    @property
    def mask(self) -> int:
        """The mask id."""
        if self.vocabulary.mask is None:
            raise RemaskError("the masked family needs a vocabulary with a mask id")
        return self.vocabulary.mask

    def alpha(self, t: float) -> float:
        """The linear schedule, 1 - t."""
        return 1.0 - t

    def masks(self, scored: Tensor, levels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """What to mask, (B, L) bool, and each row's weight, (B,) float32.

        `levels` (B,) in [0, 1) say how much, `uniform` (B, L) which.
        """
        if self.objective == "count":
            length = scored.sum(1).clamp(min=1)
            k = 1 + (levels.double() * length).long().clamp(max=length - 1)
            rank = uniform.masked_fill(~scored, 2.0).argsort(1).argsort(1)
            return (rank < k[:, None]) & scored, length / k
        p = (1 - self.eps) * levels + self.eps
        weight = torch.ones_like(p) if self.objective == "low_variance" else 1 / p
        return (uniform < p[:, None]) & scored, weight

    def inputs_for(self, batch: Batch, ask: Tensor, weight: Tensor) -> Noisy:
        """The row with the asked positions masked."""
        return Noisy(
            tokens=batch.tokens.masked_fill(ask, self.mask),
            ask=ask,
            target=batch.tokens[ask],
            weight=weight[:, None].expand_as(ask)[ask],
            time=ask.sum(1) / batch.scored.sum(1).clamp(min=1),
            attention=batch.visible(FULL),
            positions=batch.positions(),
        )

    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        """The sum over masked tokens divided by all scored ones, not by the masked (SMDM, LLaDA)."""
        noisy = self.corrupt(batch, rng)
        return Loss(self.token_loss(denoiser, noisy).sum(), int(batch.scored.sum()))

    def bound(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator, levels: Tensor | None = None) -> Tensor:
        """(B,) float64: one draw of the exact-count form, whatever the objective of training."""
        return self.counted().draw(denoiser, batch, rng, levels)

    def draw(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator, levels: Tensor | None = None) -> Tensor:
        """(B,) float64 nats: one draw of this objective, summed over each row."""
        noisy = self.corrupt(batch, rng, levels)
        return per_row(self.token_loss(denoiser, noisy), noisy.ask)

    def counted(self) -> "Masked":
        """The exact-count form: equal to the bound in the mean, and of less variance."""
        return replace(self, objective="count").over(self.vocabulary)
