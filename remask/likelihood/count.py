"""The bound of any-order models, with exactly k tokens masked: the estimator of least variance."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.likelihood.masks import GROUPS, MaskEstimator, equal_groups

GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, modulo 1, are evenly spread, however many are taken."""
SHARING = 8
"""Copies of a group that share an order of the tokens."""


@dataclass(frozen=True, kw_only=True)
class Count(MaskEstimator):
    """E_{k ~ 1..T} (T/k) sum_{i masked} -log p(x_i | z), every k equally likely and spread evenly over the draws.

    It belongs to the order of writing that is uniformly random, whatever the schedule of training was. Copies come in
    pairs with complementary masks: k tokens, and T + 1 - k of which one is among the k. The masks of eight copies of a
    group are windows on the tokens in one random order, closed to a circle, and begin at places that are evenly spread:
    so all tokens are masked about equally often. Each copy alone has the distribution of a single draw; on text, a
    group has less variance than as many of these.
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
    `offsets` (g,) in [0, 1). Every eight copies have an order of the tokens, that of `uniform` (n, T) in [0, 1) in the
    first of them; more would have too few orders. The window of the second copy of a pair ends where that of the first
    begins.
    """
    length, levels, pairs, heads, first = uniform.shape[1], [], [], [], 0
    for size, offset in zip(groups, offsets.double(), strict=True):
        copy = torch.arange(size)
        levels.append((copy // 2 / ((size + 1) // 2)).double() + offset)
        pairs.append(copy % SHARING // 2)
        heads.append(first + copy - copy % SHARING)
        first += size
    k = 1 + (torch.cat(levels) % 1 * length).long().clamp(max=length - 1)
    second = torch.cat([torch.arange(size) % 2 for size in groups]).bool()
    start = (torch.cat(pairs).double() * GOLDEN % 1 * length).long()
    k = torch.where(second, length + 1 - k, k)
    rank = uniform.argsort(1).argsort(1)[torch.cat(heads)]
    return (rank - torch.where(second, start - k, start)[:, None]) % length < k[:, None], k
