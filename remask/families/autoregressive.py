"""The autoregressive baseline: one token after another, left to right, with an exact likelihood.

The shift is data: the network reads the row moved right by one behind the end-of-text token, which
stands for "a text begins", and position i is asked for token i. So all L tokens of a row are
predicted from L positions, as in the diffusion families, and the comparison in bits per byte is one
of like with like.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.batch import Batch
from remask.errors import RemaskError
from remask.families.base import Denoiser, Family, Loss, Noisy, Order, per_row
from remask.model.attention import CAUSAL


@dataclass(frozen=True, kw_only=True)
class Autoregressive(Family):
    """-log p(x) = sum_i -log p(x_i | x_<i), exactly."""

    order: ClassVar[Order] = "left"

    @property
    def exact(self) -> bool:
        return True

    @property
    def causal(self) -> bool:
        return True

    @property
    def sampler(self) -> str:
        return "LeftToRight"

    @property
    def start(self) -> int:
        """The id that stands before a text."""
        found = self.vocabulary.end if self.vocabulary.start is None else self.vocabulary.start
        if found is None:
            raise RemaskError("the autoregressive family needs a start or an end-of-text id to begin a text with")
        return found

    @property
    def bos(self) -> list[int]:
        """Nothing: `inputs_for` puts the start before every row."""
        return []

    def inputs_for(self, batch: Batch, ask: Tensor, weight: Tensor) -> Noisy:
        """The row moved right by one, so that each position reads the token before the one it is asked for."""
        return Noisy(
            tokens=batch.tokens.roll(1, 1).masked_fill(batch.starts(), self.start),
            ask=ask,
            target=batch.tokens[ask],
            weight=weight[:, None].expand_as(ask)[ask],
            attention=batch.visible(CAUSAL),
            positions=batch.positions(),
        )

    def corrupt(self, batch: Batch, rng: torch.Generator | None = None, levels: Tensor | None = None) -> Noisy:
        """Nothing is destroyed: every scored token is asked, each with weight 1."""
        return self.inputs_for(batch, batch.scored, torch.ones(len(batch.tokens), device=batch.tokens.device))

    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        noisy = self.corrupt(batch)
        return Loss(self.token_loss(denoiser, noisy).sum(), noisy.target.numel())

    def bound(
        self,
        denoiser: Denoiser,
        batch: Batch,
        rng: torch.Generator | None = None,
        levels: Tensor | None = None,
    ) -> Tensor:
        """(B,) float64: -log p of each row, exact."""
        noisy = self.corrupt(batch)
        return per_row(self.token_loss(denoiser, noisy), noisy.ask)
