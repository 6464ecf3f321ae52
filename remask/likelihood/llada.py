"""LLaDA's estimator of the bound (Nie et al. 2025, *Large Language Diffusion Models*; get_log_likelihood.py)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.likelihood.strata import Stratified


@dataclass(frozen=True, kw_only=True)
class LLaDA(Stratified):
    """Exactly k tokens masked, weight T/k; slightly biased, since some k are drawn more often than others."""

    name: ClassVar[str] = "llada"

    def label(self, length: int) -> str:
        return "" if self.exact(length) else "LLaDA's estimator, slightly biased"

    def masks(self, length: int, seed: int) -> tuple[Tensor, Tensor]:
        groups = self.groups(length)
        first = (1 + (self.offsets(len(groups), seed) * length).long().clamp(max=length - 1)).tolist()
        k = torch.cat([llada_counts(k, length, size) for k, size in zip(first, groups, strict=True)])
        hidden = self.uniforms(length, seed).argsort(1).argsort(1) < k[:, None]
        return hidden, self.weights(hidden, length / k, groups)


def llada_counts(k: int, length: int, n: int) -> Tensor:
    """(n,) numbers of masked tokens from 1 to `length` as LLaDA spreads them, beginning with `k`.

    Rounding half to even makes some numbers up to three times as frequent as others.
    """
    spread = torch.linspace(float(k), k + (n - 1) * (length / n), n).round().long()
    return (spread - 1) % length + 1
