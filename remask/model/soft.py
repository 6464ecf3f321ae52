"""Soft tokens: at each position a mixture of tokens, read as the mixture of their embeddings."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


@dataclass(frozen=True)
class Soft:
    """What a denoiser may read in place of (B, S) ids."""

    weights: Tensor
    """(B, S, k) float, of the k ids at each position; they need not sum to 1."""
    ids: Tensor | None = None
    """(B, S, k) int64; None: ids 0 to k - 1."""

    @property
    def shape(self) -> torch.Size:
        """(B, S)."""
        return self.weights.shape[:2]

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.weights.device

    def where(self, chosen: Tensor, tokens: Tensor) -> "Soft":
        """These, where `chosen`, (B, S) bool; elsewhere the (B, S) `tokens` themselves."""
        sure = torch.zeros_like(self.weights)
        if self.ids is None:
            sure.scatter_(-1, tokens[..., None], 1.0)
            return Soft(torch.where(chosen[..., None], self.weights, sure))
        sure[..., 0] = 1.0
        ids = torch.where(chosen[..., None], self.ids, tokens[..., None])
        return Soft(torch.where(chosen[..., None], self.weights, sure), ids)

    def embedded(self, table: Tensor) -> Tensor:
        """(V, D) embeddings -> (B, S, D), in the table's dtype."""
        weights = self.weights.to(table.dtype)
        if self.ids is None:
            return weights @ table[: weights.shape[-1]]
        bags = embedding_bag(self.ids.flatten(0, 1), table, per_sample_weights=weights.flatten(0, 1), mode="sum")
        return bags.unflatten(0, self.shape)


def embedded(tokens: Tensor | Soft, table: Tensor) -> Tensor:
    """(B, S) ids or soft tokens, (V, D) embeddings -> (B, S, D)."""
    return tokens.embedded(table) if isinstance(tokens, Soft) else torch.nn.functional.embedding(tokens, table)
