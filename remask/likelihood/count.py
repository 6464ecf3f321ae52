"""The bound of any-order models, with exactly k tokens masked: the estimator of least variance."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import exact_counts
from remask.likelihood.masks import GROUPS, MaskEstimator, equal_groups


@dataclass(frozen=True, kw_only=True)
class Count(MaskEstimator):
    """E_{k ~ 1..T} (T/k) sum_{i masked} -log p(x_i | z), every k equally likely and spread evenly over the draws.

    It belongs to the order of writing that is uniformly random, whatever the schedule of training was. Copies come in
    pairs with complementary masks: k tokens, and T + 1 - k of which one is among the k. Each copy of a pair has the
    distribution of a single draw, and together they have less variance than two.
    """

    name: ClassVar[str] = "count"

    group: int | None = None
    """Copies whose noise is drawn together, so that the error is measured between groups of so many. By default such
    that there are 8 groups, or as many as there are pairs. Small groups show the error of few draws better, large ones
    have less variance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group is not None and not 1 <= self.group <= self.draws:
            raise RemaskError(f"group is {self.group}; it must be at least 1, and at most the {self.draws} draws")

    def groups(self, length: int) -> list[int]:
        pairs = max(self.draws // 2, min(self.draws, 2))
        return equal_groups(self.draws, self.draws // self.group if self.group else min(GROUPS, pairs))

    def masks(self, length: int, seed: int) -> tuple[Tensor, Tensor]:
        groups = self.groups(length)
        levels, uniform = complementary(groups, self.offsets(len(groups), seed), self.uniforms(length, seed))
        hidden, weight = exact_counts(torch.ones_like(uniform, dtype=torch.bool), levels, uniform)
        return hidden, self.weights(hidden, weight, groups)


def complementary(groups: list[int], offsets: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Levels (n,) in [0, 1) and uniforms (n, T) of copies in pairs: after u and v come 1 - u and 1 - v.

    The first copies of the pairs of a group have evenly spaced levels, with a random shift: `offsets` (g,) in [0, 1).
    `uniform` (n, T) are independent; those of the second copies are not used.
    """
    parts = []
    for size, offset in zip(groups, offsets, strict=True):
        pairs = (size + 1) // 2
        first = (torch.arange(pairs) / pairs + offset) % 1
        parts.append(torch.stack([first, 1 - first], 1).flatten()[:size])
    second = torch.cat([torch.arange(size) % 2 for size in groups]).bool()
    mirrored = 1 - uniform.roll(1, 0)  # of the copy before
    return torch.cat(parts).clamp(max=1 - 2**-24), torch.where(second[:, None], mirrored, uniform)
