"""The autoregressive baseline: one token after another, left to right, with an exact likelihood.

The shift by one is data: the network reads the row moved right by one behind the end-of-text token, which stands for
"a text begins", and position i is asked for token i. So all L tokens of a row are predicted from L positions, as in
the diffusion families, and bits per byte are comparable between them.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from remask.batch import Batch, Noise
from remask.errors import RemaskError
from remask.families.base import Family, Order, Time
from remask.families.denoiser import Denoiser, Noisy, per_row
from remask.model.attention import CAUSAL


@dataclass(frozen=True, kw_only=True)
class Autoregressive(Family):
    """-log p(x) = sum_i -log p(x_i | x_<i), exactly."""

    order: ClassVar[Order] = "left"
    time: ClassVar[Time] = "none"
    sampler: ClassVar[str] = "LeftToRight"
    estimators: ClassVar[tuple[str, ...]] = ("exact",)
    asked: ClassVar[float] = 1.0

    @property
    def start(self) -> int:
        """The id that stands before a text."""
        start = self.vocabulary.end if self.vocabulary.start is None else self.vocabulary.start
        if start is None:
            raise RemaskError("the autoregressive family needs a start or an end-of-text id to begin a text with")
        return start

    @property
    def bos(self) -> list[int]:
        """Nothing: `inputs_for` puts the start before every row."""
        return []

    def alpha(self, t: Any) -> Any:
        raise RemaskError("the autoregressive family has no noise process")

    def shift(self, tokens: Tensor) -> Tensor:
        """(B, L) the text as it is read for the prediction of each position: moved right by one behind the start."""
        shifted = tokens.roll(1, 1)
        shifted[:, 0] = self.start
        return shifted

    def inputs_for(self, batch: Batch, ask: Tensor, weight: Tensor) -> Noisy:
        """The row moved right by one, so that each position reads the token before the one it is asked for."""
        return Noisy(
            tokens=batch.tokens.roll(1, 1).masked_fill(batch.starts(), self.start),
            ask=ask,
            target=batch.tokens[ask],
            weight=batch.weigh(weight)[ask],
            attention=batch.visible(CAUSAL),
            positions=batch.positions(),
        )

    def corrupt(self, batch: Batch, rng: Noise | None = None, levels: Tensor | None = None) -> Noisy:
        """Nothing is destroyed: every scored token is asked, with weight 1."""
        return self.inputs_for(batch, batch.scored, torch.ones(len(batch.tokens), device=batch.tokens.device))

    def bound(self, denoiser: Denoiser, batch: Batch, rng: Noise | None = None, levels: Tensor | None = None) -> Tensor:
        """(B,) float64 nats: -log p of each row, exact."""
        noisy = self.corrupt(batch)
        return per_row(self.token_loss(denoiser, noisy), noisy.ask)
