"""Masked diffusion: tokens turn into the mask one by one, and the network predicts what they were.

With alpha(t) = 1 - t every token is masked with probability t, and (Sahoo et al. 2024; Shi et al. 2024; Ou et al. 2024)

    -log p(x) <= E_{t ~ U(0,1)} (1/t) sum_{i masked} -log p(x_i | z_t)
              =  E_{k ~ U{1..L}} (L/k) sum_{i masked} -log p(x_i | z_k),  exactly k masked.

The two right-hand sides are equal (Zheng et al. 2024, section 3; Nie et al. 2025, eq. 6); the second has less variance.
Both are the mean over all orders of the chain rule, so the bound is that of a text revealed in random order, one token
at a time. The network need not be given the time: the number of masks shows it.

The corruption, the inputs and the bound are those of `Family`; here is the choice of objectives.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from remask.errors import RemaskError, unknown
from remask.families.base import Family, exact_counts

Objective = Literal["bound", "low_variance", "count"]


@dataclass(frozen=True, kw_only=True)
class Masked(Family):
    """Absorbing-state diffusion on a bidirectional network."""

    objective: Objective = "bound"
    """What training minimises. bound: independent masks, weight 1/p (SMDM, LLaDA). low_variance: the same masks,
    weight 1 (Scaling Beyond Masked Diffusion; not a bound). count: exactly k masks, weight L/k."""
    eps: float = 1e-3
    """Least masking probability of independent masks: p = (1 - eps) t + eps."""

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            raise unknown("objective", self.objective, get_args(Objective))
        if not 0 <= self.eps < 1:
            raise RemaskError(f"eps is {self.eps}; it must be at least 0 and below 1")

    def masks(self, scored: Tensor, levels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L) bool, True where masked, and each row's weight, (B,) float32, by the objective."""
        if self.objective == "count":
            return exact_counts(scored, levels, uniform)
        p = (1 - self.eps) * levels + self.eps
        weight = torch.ones_like(p) if self.objective == "low_variance" else 1 / p
        return (uniform < p[:, None]) & scored, weight
