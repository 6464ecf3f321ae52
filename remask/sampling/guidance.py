"""Unsupervised classifier-free guidance: more of what the prompt adds to the prediction.

The guided prediction is proportional to p(x | c, z)^(1+w) / p(x | m..m, z)^w. The unconditional branch reads masks in
place of the prompt c; that of interpolating models leaves the prompt out, since in them known tokens see no masks. The
model needs no special training (Nie et al. 2025, *Scaling up Masked Diffusion Models on Text*, section 4). With a
negative prompt the second branch reads that instead, so that the text moves away from what it would lead to.
"""

import math
from typing import Any

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Denoiser, Family
from remask.model.attention import FULL, Attention, Padded

NEGATIVE = "negative_prompt"
"""(B, L) int64 in `State.extras`: 1 + the ids of the negative prompt at the last positions of the prompt; 0 elsewhere,
as in rows that join without one."""


def add_guidance(
    denoiser: Denoiser, family: Family, weight: float | Tensor, prompt: Tensor, negative: Tensor | None = None
) -> Denoiser:
    """A denoiser with guidance; the same denoiser, at the same cost, where the weight is 0.

    `weight` is one number, or (B,) a number for each row. `prompt` (B, L) bool marks the positions of the prompt, which
    is the condition. `negative` (B, L) int64 are the ids that the second branch reads there; -1: none.
    """
    if isinstance(weight, int | float):
        if weight == 0:
            return denoiser
        if not math.isfinite(weight):
            raise RemaskError(f"guidance is {weight}; it must be finite")
    if family.vocabulary.mask is None or family.order not in ("any", "drawn"):
        raise RemaskError(f"guidance needs a model that reads masks, and this one is {type(family).__name__}")
    return Guided(denoiser, weight, prompt, family.vocabulary.mask if family.order == "any" else None, negative)


class Guided:
    """A denoiser whose logits are (1 + w) conditional - w unconditional.

    Both branches are computed in one call, and rows of weight 0 have no unconditional branch.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        weight: float | Tensor,
        prompt: Tensor,
        mask: int | None,
        negative: Tensor | None = None,
    ) -> None:
        self.denoiser, self.prompt, self.mask, self.negative = denoiser, prompt, mask, negative
        every = torch.arange(len(prompt), device=prompt.device)
        self.weight = torch.as_tensor(weight, dtype=torch.float32, device=prompt.device).expand(len(prompt))
        self.guided_rows = every if isinstance(weight, int | float) else self.weight.nonzero()[:, 0]
        """(G,) rows with an unconditional branch."""

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
        """As the denoiser that it wraps. A cache must have two branches."""
        rows, guided_rows = len(tokens), self.guided_rows
        both = torch.cat([torch.arange(rows, device=tokens.device), guided_rows])
        tokens, attention = tokens[both], attention.rows(both)
        index = None if index is None else index[both]
        prompt = self.prompt[both]
        prompt[:rows] = False  # only the unconditional branch goes without the prompt
        hidden = at_index(prompt, index, tokens.shape[1], False)
        if self.negative is not None:
            negative = at_index(self.negative[both], index, tokens.shape[1], -1)
            replaced = hidden & (negative >= 0)
            tokens, hidden = torch.where(replaced, negative, tokens), hidden & ~replaced
            prompt = prompt & (self.negative[both] < 0)
        if self.mask is not None:
            tokens = tokens.masked_fill(hidden, self.mask)
        else:
            along = torch.arange(tokens.shape[1], device=tokens.device)
            index = (along.expand(tokens.shape) if index is None else index).masked_fill(hidden, -1)
            attention = attention & Padded(~prompt)
        everywhere = ask is None
        ask = torch.ones_like(hidden[:rows]) if ask is None else ask
        logits = self.denoiser(
            tokens,
            index=index,
            ask=ask[both],
            time=None if time is None else time[both],
            attention=attention,
            positions=positions if positions is None or positions.ndim == 1 else positions[both],
            cache=None if cache is None else cache.with_second_branch(guided_rows),
        )
        mixed = self.mix(logits, ask)
        if target is not None:
            return torch.nn.functional.cross_entropy(mixed, target, reduction="none")
        return mixed.view(*ask.shape, -1) if everywhere else mixed

    def mix(self, logits: Tensor, ask: Tensor) -> Tensor:
        """(N + N', V) logits, of the conditional branch and then of the unconditional one -> (N, V) guided logits.

        `ask` (B, Q) bool marks the asked positions of the conditional branch.
        """
        if len(self.guided_rows) == len(ask):
            conditional, unconditional = logits.chunk(2)
            weight = self.weight[ask.nonzero()[:, 0], None]
            return conditional + weight * (conditional - unconditional)
        row = ask.nonzero()[:, 0]
        chosen = torch.isin(row, self.guided_rows).nonzero()[:, 0]
        mixed, unconditional = logits[: len(row)].clone(), logits[len(row) :]
        conditional = mixed[chosen]
        mixed[chosen] = conditional + self.weight[row[chosen], None] * (conditional - unconditional)
        return mixed


def at_index(canvas: Tensor, index: Tensor | None, size: int, hole: float) -> Tensor:
    """(R, L) values on the canvas -> (R, Q) at the positions that are read; `hole` where the index is -1."""
    if index is None:
        return canvas[:, :size]
    return canvas.gather(1, index.clamp(min=0)).masked_fill(index < 0, hole)
