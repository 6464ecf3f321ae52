"""Attention rollout: how much each position is looked at through all layers of a network (Abnar and Zuidema 2020).

With A the attention weights of a layer, averaged over its heads, and M = (A + 1)/2, which counts the residual stream as
a look at oneself, the rollout of a call is R = M_n ... M_1. Position j counts the sum over i of R_ij. A position that
the call does not read looks at itself only, so its row of M is that of the identity (Jiang et al. 2025, *d2Cache*).
"""

import math

import torch
from torch import Tensor


class Rollout:
    """Notes the attention weights of one network call, which is given it by its cache."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        """(R,) int64, the rows of the call whose weights are wanted."""
        self.index = torch.empty(0, 0, dtype=torch.int64)
        """(R, Q) int64, the canvas positions that these rows read; -1 for a hole."""
        self.layers: list[Tensor] = []
        """For each layer (R, Q, K) float32, how much each of Q positions looks at each of K."""

    def begin(self, index: Tensor) -> None:
        """Notes the canvas positions that the call reads, (B, Q)."""
        self.index, self.layers = index[self.rows], []

    def note(self, q: Tensor, k: Tensor, mask: Tensor | None) -> None:
        """Notes a layer: (B, H, Q, d) queries, (B, G, K, d) keys, and the (B or 1, 1, Q, K) mask of what is seen."""
        q, k = q[self.rows], k[self.rows]
        if mask is not None and len(mask) > 1:
            mask = mask[self.rows]
        self.layers.append(mean_attention(q, k, mask))

    def importance(self, length: int) -> Tensor:
        """(R, length) float64, the column sums of the rollout; they sum to `length` in each row.

        The product is taken from the last layer on, as one of a row vector with a matrix for each layer.
        """
        there = (self.index >= 0).double()
        place = self.index.clamp(min=0)
        read = there.new_zeros(len(place), length).scatter_add_(1, place, there)
        found = torch.ones_like(read)
        for weights in reversed(self.layers):
            looks = (found.gather(1, place) * there)[:, None]  # (R, 1, Q)
            seen = (looks @ weights.double())[:, 0]
            found = found * (1 - read / 2)
            found[:, : seen.shape[1]] += seen / 2
        return found


def mean_attention(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """(R, H, Q, d) queries and (R, G, K, d) keys, H a multiple of G -> (R, Q, K) float32, the softmax of the scores,
    averaged over the heads."""
    if q.shape[1] != k.shape[1]:
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.float().softmax(-1).mean(1)
