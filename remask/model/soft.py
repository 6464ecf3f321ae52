"""Soft tokens: a mixture of tokens at each position, which the network reads as the mixture of their embeddings."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


@dataclass(frozen=True)
class Soft:
    """Mixtures of k tokens at (B, S) positions. A denoiser may read them in place of (B, S) ids."""

    weights: Tensor
    """(B, S, k) float, the weight of each token in its mixture; the weights need not sum to 1."""
    ids: Tensor | None = None
    """(B, S, k) int64, the tokens of each mixture; None: they are ids 0 to k - 1 everywhere."""
    shift: Tensor | None = None
    """(B, S, D) what is added to the embeddings of the mixtures."""

    @property
    def shape(self) -> torch.Size:
        """(B, S)."""
        return self.weights.shape[:2]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.weights.device

    def where(self, chosen: Tensor, tokens: Tensor) -> "Soft":
        """Keeps the mixtures at the `chosen` positions, (B, S) bool, and puts single `tokens`, (B, S), elsewhere."""
        one_hot = torch.zeros_like(self.weights)
        if self.ids is None:
            one_hot.scatter_(-1, tokens[..., None], 1.0)
            return Soft(torch.where(chosen[..., None], self.weights, one_hot))
        one_hot[..., 0] = 1.0
        ids = torch.where(chosen[..., None], self.ids, tokens[..., None])
        return Soft(torch.where(chosen[..., None], self.weights, one_hot), ids)

    def embed(self, table: Tensor) -> Tensor:
        """(V, D) embeddings -> (B, S, D) mixtures of them, in the table's dtype."""
        mixed = self._mixed(table)
        return mixed if self.shift is None else mixed + self.shift.to(table.dtype)

    def _mixed(self, table: Tensor) -> Tensor:
        weights = self.weights.to(table.dtype)
        if self.ids is None:
            return weights @ table[: weights.shape[-1]]
        bags = embedding_bag(self.ids.flatten(0, 1), table, per_sample_weights=weights.flatten(0, 1), mode="sum")
        return bags.unflatten(0, self.shape)


def embed(tokens: Tensor | Soft, table: Tensor) -> Tensor:
    """(B, S) ids or soft tokens, (V, D) embeddings -> (B, S, D)."""
    return tokens.embed(table) if isinstance(tokens, Soft) else torch.nn.functional.embedding(tokens, table)
