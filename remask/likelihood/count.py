"""The bound of any-order models, with exactly k tokens masked: the estimator of least variance."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.families.base import exact_counts
from remask.likelihood.masks import MaskEstimator, equal_groups, stratified


@dataclass(frozen=True, kw_only=True)
class Count(MaskEstimator):
    """E_{k ~ 1..T} (T/k) sum_{i masked} -log p(x_i | z), every k equally likely and stratified over the draws.

    It belongs to the order of writing that is uniformly random, whatever the schedule of training was.
    """

    name: ClassVar[str] = "count"

    def groups(self, length: int) -> list[int]:
        return equal_groups(self.draws)

    def masks(self, length: int, seed: int) -> tuple[Tensor, Tensor]:
        groups = self.groups(length)
        levels = stratified(groups, self.offsets(len(groups), seed))
        every = torch.ones(self.draws, length, dtype=torch.bool)
        hidden, weight = exact_counts(every, levels, self.uniforms(length, seed))
        return hidden, self.weights(hidden, weight, groups)
