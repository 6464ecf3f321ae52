"""What passes between a family and a network: noisy text with questions, and the answers.

Symbols: B rows of a batch, L positions of a row, S positions the network reads (more than L where it reads a row
twice), N asked positions, V ids that can be predicted.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from remask.model.attention import FULL, Attention
from remask.model.soft import Soft


@dataclass(frozen=True)
class Noisy:
    """What the network reads, and the positions at which it is asked for the clean token."""

    tokens: Tensor
    """(B, S) int64."""
    ask: Tensor
    """(B, S) bool, True where the prediction is needed."""
    target: Tensor
    """(N,) int64, the clean token at each asked position, row by row."""
    weight: Tensor
    """(N,) weight of each asked position in the loss or the bound."""
    time: Tensor | None = None
    """(B,) or (B, S) noise level, for networks that are conditioned on it."""
    attention: Attention = FULL
    """Which positions may see which."""
    positions: Tensor | None = None
    """(B, S) rotary positions; None: 0 to S - 1."""
    soft: Soft | None = None
    """(B, S) mixtures of tokens that the network reads instead of `tokens`."""

    @property
    def inputs(self) -> Tensor | Soft:
        """What the network reads."""
        return self.tokens if self.soft is None else self.soft

    @property
    def conditions(self) -> dict[str, Any]:
        """The keyword arguments of the denoiser that say how the tokens are read."""
        return {"time": self.time, "attention": self.attention, "positions": self.positions}


class Denoiser(Protocol):
    """Predicts clean tokens: `remask.model.transformer.Transformer`, or in a test a table of probabilities."""

    def __call__(
        self,
        tokens: Any,
        *,
        index: Tensor | None = None,
        ask: Tensor | None = None,
        target: Tensor | None = None,
        time: Tensor | None = None,
        attention: Attention = FULL,
        positions: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """(B, S) ids -> (N, V) float32 logits at the asked positions; (B, S, V) where `ask` is None.

        With `target`, (N,) ids: (N,) float32 nats, -log p(target) at the asked positions. `index` (B, S) says which
        canvas positions are read, where these are not all of them. For the curriculum of `Uniform` the denoiser must
        read `Soft` tokens too.
        """
        ...


def cross_entropy(denoiser: Denoiser, noisy: Noisy) -> Tensor:
    """(N,) float32 nats, -log p(target) at the asked positions."""
    return denoiser(noisy.inputs, ask=noisy.ask, target=noisy.target, **noisy.conditions)


def per_row(values: Tensor, ask: Tensor) -> Tensor:
    """(N,) values at the asked positions of (B, S) rows -> (B,) float64, their sum in each row."""
    rows = ask.nonzero()[:, 0]
    return torch.zeros(ask.shape[0], dtype=torch.float64, device=ask.device).index_add_(0, rows, values.double())
