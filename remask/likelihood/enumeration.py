"""The bound of any-order models without error, for texts so short that all their masks can be read."""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor

from remask.likelihood.count import Count
from remask.likelihood.estimator import Estimator
from remask.likelihood.request import Request


@dataclass(frozen=True, kw_only=True)
class Enumeration(Count):
    """All 2^T - 1 masks where those are no more than the draws; `Count` for longer texts."""

    name: ClassVar[str] = "enumeration"

    def enumerable(self, length: int) -> bool:
        """Whether a text of `length` tokens has no more masks than there are draws."""
        return length < 20 and 2**length - 1 <= self.draws

    def groups(self, length: int) -> list[int]:
        return [] if self.enumerable(length) else super().groups(length)

    def number(self, length: int) -> int:
        return 2**length - 1 if self.enumerable(length) else super().number(length)

    def preview(self, request: Request) -> Estimator | None:
        if not self.enumerable(len(request.target)):
            return None
        return Count(draws=self.draws, seed=self.seed, guidance=self.guidance, group=self.group)

    def masks(self, length: int, seed: int) -> tuple[Tensor, Tensor]:
        """Each mask of k tokens has the weight (1/T) (1/C(T, k)) (T/k)."""
        if not self.enumerable(length):
            return super().masks(length, seed)
        subsets = [s for k in range(1, length + 1) for s in combinations(range(length), k)]
        hidden = torch.zeros(len(subsets), length, dtype=torch.bool)
        for row, subset in enumerate(subsets):
            hidden[row, list(subset)] = True
        weight = torch.tensor([1 / (math.comb(length, len(s)) * len(s)) for s in subsets], dtype=torch.float64)
        return hidden, weight[:, None] * hidden
