"""Masked diffusion: tokens turn into the mask one by one, and the network predicts what they were.

With alpha(t) = 1 - t every token is masked with probability t, and (Sahoo et al. 2024; Shi et al. 2024; Ou et al. 2024)

    -log p(x) <= E_{t ~ U(0,1)} (1/t) sum_{i masked} -log p(x_i | z_t)
              =  E_{k ~ U{1..L}} (L/k) sum_{i masked} -log p(x_i | z_k),  exactly k masked.

The two right-hand sides are equal (Zheng et al. 2024, section 3; Nie et al. 2025, eq. 6); the second has less variance.
Both are the mean over all orders of the chain rule, so the bound is that of a text revealed in random order, one token
at a time. The network need not be given the time: the number of masks shows it.

The corruption, the inputs and the bound are those of `Family`; here is the choice of objectives.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from remask.batch import Batch, Noise
from remask.errors import RemaskError, unknown
from remask.families.base import Family, Loss, exact_counts
from remask.families.denoiser import Denoiser, Noisy
from remask.families.rates import CEILING, MaskRates
from remask.model.attention import LookAhead
from remask.model.sizes import Architecture

Objective = Literal["bound", "low_variance", "count"]


@dataclass(frozen=True, kw_only=True)
class Masked(MaskRates, Family):
    """Absorbing-state diffusion on a bidirectional network."""

    objective: Objective = "low_variance"
    """What training minimises. low_variance: independent masks, weight 1 (Scaling Beyond Masked Diffusion; not a
    bound). bound: the same masks, weight 1/p (SMDM, LLaDA). count: exactly k masks, weight L/k."""
    eps: float = 1e-3
    """Least masking probability of independent masks: p = (1 - eps) t + eps."""

    pairs: bool = False
    """Read every text twice, with complementary masks, so that each token is predicted exactly once."""
    fixed_counts: bool = False
    """Mask exactly a rate's share of the tokens of a row, instead of each with that probability."""

    forcing: float = 0.0
    """Adds this many times the entropy of the predictions whose most probable token is right, so that a rule that
    writes what is certain writes more in a step (certainty forcing; 2 in dParallel). For a trained checkpoint."""

    opening: float = 0.0
    """Share of the training, from its beginning, over which attention opens from causal to full: for networks that
    were autoregressive before. 0 opens it at once."""

    def __post_init__(self) -> None:
        if not 0 <= self.opening <= 1:
            raise RemaskError(f"opening is {self.opening}; it must lie between 0 and 1")
        if not 0 <= self.forcing < math.inf:
            raise RemaskError(f"forcing is {self.forcing}; it must be 0 or more, and finite")
        if self.objective not in get_args(Objective):
            raise unknown("objective", self.objective, get_args(Objective))
        if not 0 <= self.eps < 1:
            raise RemaskError(f"eps is {self.eps}; it must be at least 0 and below 1")
        self.check_rates(self.objective)
        if self.pairs and self.first_ceiling < 1:
            raise RemaskError(
                f"ceiling is {self.ceiling} with pairs: of two complementary masks one always has a rate above "
                "one half; leave out one of the two options"
            )
        for name in ("pairs", "fixed_counts"):
            if getattr(self, name) and self.objective != "low_variance":
                raise RemaskError(f"{name} is for the objective low_variance, and objective is {self.objective}")

    def masks(self, scored: Tensor, levels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L) bool, True where masked, and each row's weight, (B,) float32, by the objective."""
        if self.objective == "count":
            return exact_counts(scored, levels, uniform)
        p = (1 - self.eps) * levels + self.eps
        if self.fixed_counts:
            return share_of(scored, p, uniform), torch.ones_like(p)
        weight = torch.ones_like(p) if self.objective == "low_variance" else 1 / p
        return (uniform < p[:, None]) & scored, weight

    def corrupt(self, batch: Batch, rng: Noise, levels: Tensor | None = None) -> Noisy:
        """Masked rows at `levels`, or at levels as training draws them; with `pairs` each row twice."""
        levels = self.training_levels(batch.levels(rng), batch.progress) if levels is None else levels
        if batch.progress < self.opening:
            ahead = round(batch.progress / self.opening * batch.tokens.shape[1])
            batch = replace(batch, attention=batch.attention & LookAhead(ahead))
        hidden, weight = self.masks(batch.scored, levels, batch.draw((batch.tokens.shape[1],), rng))
        if not self.pairs:
            return self.inputs_for(batch, hidden, weight)
        twice = torch.arange(len(levels), device=levels.device).repeat(2)
        return self.inputs_for(batch.at(twice), torch.cat([hidden, batch.scored & ~hidden]), weight[twice])

    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        """As `Family.loss`; with `forcing`, plus that many times sum_i weight_i H(p_i) over the masked i whose most
        probable token is right (Chen et al. 2025, *dParallel*, which has the mean of H in place of a sum)."""
        if not self.forcing:
            return super().loss(denoiser, batch, rng)
        noisy = self.corrupt(batch, rng)
        log_p = denoiser(noisy.inputs, ask=noisy.ask, **noisy.conditions).log_softmax(-1)  # (N, V)
        nats = -log_p.gather(-1, noisy.target[:, None])[:, 0]
        right = log_p.argmax(-1) == noisy.target
        entropy = -(log_p.exp() * log_p).sum(-1)
        return Loss((noisy.weight * (nats + self.forcing * right * entropy)).sum(), int(batch.scored.sum()))

    @property
    def default_ceiling(self) -> float:
        return CEILING if self.objective == "low_variance" and not self.pairs else 1.0

    @property
    def has_curriculum(self) -> bool:
        return self.changes_rates or self.opening > 0

    @property
    def asked(self) -> float:  # type: ignore[override]
        return self.mean_rate

    @property
    def reads(self) -> float:  # type: ignore[override]
        return 2.0 if self.pairs else 1.0

    def flops(self, architecture: Architecture, length: int) -> float:
        return self.reads * super().flops(architecture, length)


def share_of(scored: Tensor, rate: Tensor, uniform: Tensor) -> Tensor:
    """(B, L) bool: of the scored tokens of each row the nearest whole number to its `rate`, (B,), at least one."""
    k = (rate * scored.sum(1)).round().clamp(min=1)
    rank = uniform.masked_fill(~scored, 2.0).argsort(1).argsort(1)
    return (rank < k[:, None]) & scored
