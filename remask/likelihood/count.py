"""The bound of any-order models, with exactly k tokens masked: the estimator of least variance."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.likelihood.masks import GROUPS, MaskEstimator, equal_groups

GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, modulo 1, are evenly spread, however many are taken."""


@dataclass(frozen=True, kw_only=True)
class Count(MaskEstimator):
    """E_{k ~ 1..T} (T/k) sum_{i masked} -log p(x_i | z), every k equally likely and spread evenly over the draws.

    It belongs to the order of writing that is uniformly random, whatever the schedule of training was. Copies come in
    pairs with complementary masks: k tokens, and T + 1 - k of which one is among the k. The masks of a group are
    windows on its tokens in one random order, closed to a circle, and begin at places that are evenly spread: so all
    tokens are masked about equally often. Each copy alone has the distribution of a single draw, and together they have
    less variance than as many of these.
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
        hidden, k = windows(groups, self.offsets(len(groups), seed), self.uniforms(length, seed))
        return hidden, self.weights(hidden, length / k, groups)


def windows(groups: list[int], offsets: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Masks (n, T) bool of the copies of all groups, and (n,) how many tokens each masks.

    The first copies of the pairs of a group mask numbers that are evenly spaced from 1 to T, with a random shift:
    `offsets` (g,) in [0, 1). The order of its tokens is that of `uniform` (n, T) in [0, 1) in its first copy. The
    window of the second copy of a pair ends where that of the first begins.
    """
    length, levels, starts, heads, first = uniform.shape[1], [], [], [], 0
    for size, offset in zip(groups, offsets, strict=True):
        pair = torch.arange(size) // 2
        level = (pair / ((size + 1) // 2) + offset) % 1
        levels.append(torch.where(torch.arange(size) % 2 == 0, level, 1 - level))
        starts.append((pair.double() * GOLDEN % 1 * length).long())
        heads.append(torch.full((size,), first))
        first += size
    k = 1 + (torch.cat(levels).clamp(max=1 - 2**-24).double() * length).long().clamp(max=length - 1)
    second = torch.cat([torch.arange(size) % 2 for size in groups])
    rank = uniform.argsort(1).argsort(1)[torch.cat(heads)]
    return (rank - (torch.cat(starts) - second * k)[:, None]) % length < k[:, None], k
