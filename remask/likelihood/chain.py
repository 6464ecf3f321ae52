"""The chain rule from left to right, exactly, by a model that predicts any tokens from any others."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.likelihood.masks import MaskEstimator


@dataclass(frozen=True, kw_only=True)
class Chain(MaskEstimator):
    """sum_i -log p(x_i | x_<i, all from i on masked): one copy for each token."""

    name: ClassVar[str] = "chain"

    def groups(self, length: int) -> list[int]:
        return []

    def number(self, length: int) -> int:
        return length

    def exact(self, length: int) -> bool:
        return True

    def label(self, length: int) -> str:
        return "left to right"

    def masks(self, length: int, seed: int) -> tuple[Tensor, Tensor]:
        hidden = torch.ones(length, length, dtype=torch.bool).triu()  # copy i sees the tokens before i
        return hidden, torch.eye(length, dtype=torch.float64)
