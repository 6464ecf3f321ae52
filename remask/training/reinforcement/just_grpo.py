"""JustGRPO: a masked model is trained as the autoregressive policy that it is when it writes from left to right."""

from dataclasses import dataclass

import torch
from torch import Tensor

from remask.batch import Batch, Noise
from remask.families import Family
from remask.sampling import SamplingParams
from remask.sampling.confidence import Confidence
from remask.sampling.left_to_right import LeftToRight
from remask.training.reinforcement.objective import (
    Copies,
    PolicyObjective,
    forward_passes,
    group_advantages,
    left_to_right,
)

SMALLEST = 1e-4
"""Added to the standard deviation of the rewards of a group, as published."""


@dataclass(frozen=True, kw_only=True)
class JustGRPO(PolicyObjective):
    """Group advantages (r - mean) / (std + 1e-4), and the exact likelihood of the writing order (arXiv 2601.15165).

    Texts are written from left to right at temperature 1, and -log p(y) = sum_t -log p(y_t | x, y_<t, masks behind),
    with masks to the end of the room: as many readings of a text as it has tokens, each of which is asked for one. So
    the gradient is that of the policy that wrote the texts. On an autoregressive model it is plain GRPO.
    """

    def sampling(self, family: Family) -> SamplingParams:
        return SamplingParams(sampler=LeftToRight() if family.order == "left" else Confidence(rule="left"))

    def weights(self, rewards: Tensor) -> Tensor:
        return group_advantages(rewards) / (rewards.std(1, keepdim=True) + SMALLEST)

    def copies(self, family: Family, batch: Batch, written: Tensor, rng: Noise) -> Copies:
        if family.order == "left":
            return left_to_right(batch, written)
        row, column = written.nonzero(as_tuple=True)
        along = torch.arange(written.shape[1], device=written.device)
        hidden = batch.scored[row] & (along >= column[:, None])
        return Copies(row, batch.tokens[row], hidden, along == column[:, None])

    def passes(self, family: Family, length: int) -> float:
        if family.order == "left":  # with a cache writing reads every token once
            return forward_passes(1) + 1
        return forward_passes(length) + length
