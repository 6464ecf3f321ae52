"""Unsupervised classifier-free guidance: more of what the prompt adds.

p(x | c, z)^(1+w) / p(x | m..m, z)^w, the condition-free branch reading the prompt as masks; interpolating models
leave it out instead, since masks behind what is known are not seen (`EsoLM`). Needs no special training
(Nie et al. 2025, *Scaling up Masked Diffusion Models on Text*, section 4).
"""

import math
from typing import Any

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Denoiser, Family
from remask.model.attention import FULL, Attention


def guided(denoiser: Denoiser, family: Family, weight: float, prompt: Tensor) -> Denoiser:
    """A denoiser with guidance of `weight`; the same denoiser, at the same cost, where it is 0.

    `prompt` is (B, L) bool, the positions that make up the condition.
    """
    if weight == 0:
        return denoiser
    if not math.isfinite(weight):
        raise RemaskError(f"guidance is {weight}; it must be finite")
    if family.vocabulary.mask is None or not family.reads_masks:
        raise RemaskError(f"guidance needs a model that reads masks, and this one is {type(family).__name__}")
    return Guided(denoiser, weight, prompt, family.vocabulary.mask)


class Guided:
    """logits = (1 + w) conditional - w unconditional, both from one call on twice the rows."""

    passes = 2

    def __init__(self, denoiser: Denoiser, weight: float, prompt: Tensor, mask: int) -> None:
        self.denoiser, self.weight, self.prompt, self.mask = denoiser, weight, prompt, mask

    def rows(self, index: Tensor) -> "Guided":
        """The same guidance for some of the rows."""
        return Guided(self.denoiser, self.weight, self.prompt[index], self.mask)

    def __call__(
        self,
        tokens: Tensor,
        *,
        index: Tensor | None = None,
        ask: Tensor | None = None,
        target: Tensor | None = None,
        time: Tensor | None = None,
        attention: Attention = FULL,
        positions: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """As the denoiser it wraps."""
        hidden = tokens.masked_fill(self.prompt[:, : tokens.shape[1]], self.mask)
        twice = {
            "ask": None if ask is None else torch.cat([ask, ask]),
            "time": None if time is None else torch.cat([time, time]),
            "positions": positions if positions is None or positions.ndim == 1 else torch.cat([positions, positions]),
            "attention": attention.rows(torch.arange(len(tokens), device=tokens.device).repeat(2)),
        }
        conditional, unconditional = self.denoiser(torch.cat([tokens, hidden]), **twice).chunk(2)
        logits = self.mixed(conditional, unconditional)
        return logits if target is None else torch.nn.functional.cross_entropy(logits, target, reduction="none")

    def mixed(self, conditional: Tensor, unconditional: Tensor) -> Tensor:
        """(N, V) logits from those of the two branches."""
        return conditional + self.weight * (conditional - unconditional)
