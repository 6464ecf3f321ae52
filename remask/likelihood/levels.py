"""The loss at each noise level, which separates two ways of learning too little.

The bound is a mean over noise levels. A network that is stuck at unigrams is bad at all of them; one that knows the
neighbours of a token but not the joint distribution of many is bad only where most are masked.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

BINS = 10


@dataclass
class LossByLevel:
    """Mean nats per token of rows, in ten bins of their noise level.

    For masked families the level is the share of the tokens that is masked, and the value of a bin the cross entropy of
    a masked token there; so it is for interpolating ones with alpha_0 = 1. For others it is the bound's integrand at
    that noise time, to which the sequential term of interpolating models is added.
    """

    total: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))
    """(10,) sum of nats over the rows of a bin."""
    tokens: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))
    """(10,) scored tokens of these rows."""

    def add(self, levels: Tensor, nats: Tensor, tokens: Tensor) -> None:
        """(B,) levels in [0, 1), (B,) nats that the bound has at them, and (B,) scored tokens of the rows."""
        bins = (levels.double().cpu() * BINS).long().clamp(max=BINS - 1)
        self.total.index_add_(0, bins, nats.double().cpu())
        self.tokens.index_add_(0, bins, tokens.double().cpu())

    def means(self) -> list[float]:
        """Nats per token in each bin, from low levels to high ones; nan where no row fell."""
        return [t / n if n else math.nan for t, n in zip(self.total.tolist(), self.tokens.tolist(), strict=True)]


def middles() -> list[float]:
    """The middle of each bin."""
    return [(i + 0.5) / BINS for i in range(BINS)]
