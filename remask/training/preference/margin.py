"""How much a network has gained on the reference: estimates of bounds whose noise the two share.

B is estimated with the reductions of variance of VRPO (Zhu et al. 2025, *LLaDA 1.5*, arXiv 2505.19223): all draws at
times of their own, one mask at each; and the same times and masks for both networks, so that of their difference only
what they disagree about is left to chance. Here the times of a reply are also spread evenly over the unit interval.

Symbols: B rows, n draws of each.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from remask.batch import Batch, RowNoise
from remask.families import Family


@dataclass(frozen=True)
class SharedNoise:
    """The noise of all draws of some rows, for every network that reads them."""

    seeds: Tensor
    """(B, n) int64, of the masks."""
    levels: Tensor
    """(B, n) float64 in [0, 1), the times."""

    @staticmethod
    def draw(batch: Batch, n: int, rng: torch.Generator) -> "SharedNoise":
        """The noise of a batch, which does not depend on how the global batch is divided."""
        seeds = (batch.draw((n,), rng, torch.float64) * 2**53).long()
        offset = batch.draw((1,), rng, torch.float64)
        levels = (torch.arange(n, device=offset.device) + offset) / n
        return SharedNoise(seeds, levels.clamp(max=1 - 2**-24))

    def at(self, rows: Tensor) -> "SharedNoise":
        """The noise of the rows `rows`."""
        return SharedNoise(self.seeds[rows], self.levels[rows])


def bounds(denoiser: Any, family: Family, batch: Batch, noise: SharedNoise) -> Tensor:
    """(B,) float64 nats, estimates of a lower bound on log p of what is scored in each row; log p itself where the
    family is exact. The n draws of all rows are read in one call, one draw of every row behind the other."""
    rows, n = noise.levels.shape
    every = torch.arange(rows, device=batch.tokens.device).repeat(n)
    levels = noise.levels.T.flatten().float()
    nats = family.bound(denoiser, batch.at(every), RowNoise(noise.seeds.T.flatten().cpu()), levels)
    return -nats.view(n, rows).mean(0)
