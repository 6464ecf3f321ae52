"""An attention rule in the form that a kernel takes, and attention by it.

A rule (`model/attention.py`) is rendered to no mask (full attention), to `is_causal`, to a boolean mask for SDPA, or to
a FlexAttention block mask on CUDA.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from remask.model.attention import Attention, Causal, Full
from remask.model.eager import DenseAttention, by_blocks, for_products
from remask.model.rollout import Rollout


@dataclass(frozen=True)
class Rendered:
    """An attention rule in the form that a kernel takes; made once per forward pass and used in every layer."""

    causal: bool = False
    mask: Tensor | None = None
    """(B or 1, 1, Q, K) bool, True where a query sees a key."""
    blocks: Any = None
    """A FlexAttention BlockMask (CUDA only)."""
    rollout: Rollout | None = None
    """What notes the attention weights, which are then computed beside; by default they are never made."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, Q, d) queries on (B, G, K, d) keys and values, H a multiple of G -> (B, H, Q, d)."""
        if self.rollout is not None:
            self.rollout.note(q, k, self.mask)
        if self.blocks is not None:
            from torch.nn.attention.flex_attention import flex_attention

            return _compile(flex_attention)(q, k, v, block_mask=self.blocks, enable_gqa=q.shape[1] != k.shape[1])
        if is_dense_faster(q, k):
            return attend_densely(q, k, v, self.mask, self.causal)
        return scaled_dot_product_attention(
            q, k, v, attn_mask=self.mask, is_causal=self.causal, enable_gqa=q.shape[1] != k.shape[1]
        )


DENSE = 512
"""Longest row for which attention on a CPU is computed as separate matrix products during training."""


def is_dense_faster(q: Tensor, k: Tensor) -> bool:
    """Whether separate matrix products are faster than the fused kernel.

    They are in training on a CPU: the fused backward pass takes several times as long as its arithmetic needs, and the
    scores of short rows fit the processor's cache. Without gradients the fused forward pass is faster.
    """
    return torch.is_grad_enabled() and q.requires_grad and q.device.type == "cpu" and k.shape[2] <= DENSE


def attend_densely(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Softmax attention as separate matrix products: (B, H, Q, d), (B, G, K, d), (B, G, K, d) -> (B, H, Q, d)."""
    if q.shape[1] != k.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    if causal:
        mask = torch.ones(1, 1, q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    if by_blocks(q):
        return DenseAttention.apply(*(x.to(for_products(q)) for x in (q, k, v)), mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.float().softmax(-1).to(v.dtype) @ v


def render(rule: Attention, rows: int, queries: Tensor, keys: Tensor | None = None, in_order: bool = False) -> Rendered:
    """Chooses the cheapest form of a rule.

    Arguments:
        rule: which position may see which.
        rows: B.
        queries: positions of the tokens that are read, (Q,) or (B, Q).
        keys: positions of the keys, (K,); None: the keys are those of `queries`.
        in_order: whether `queries` are 0 to Q - 1 and there are no other keys.
    """
    if isinstance(rule, Full) and queries.ndim == 1:
        return Rendered()
    if in_order and isinstance(rule, Causal):
        return Rendered(causal=True)
    if in_order and queries.is_cuda and len(queries) >= 1024:
        return Rendered(blocks=block_mask(rule, rows, len(queries), queries.device))
    return Rendered(mask=rule.mask(rows, queries, keys))


def block_mask(rule: Attention, rows: int, length: int, device: torch.device) -> Any:
    """The rule as a FlexAttention block mask, (rows, 1, length, length)."""
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return rule.may_see(b, q, k)

    return create_block_mask(visible, rows, None, length, length, device=device)


@cache
def _compile(function: Any) -> Any:
    """Compiles a function once. FlexAttention is fast, and keeps no (Q, K) scores in memory, only when compiled."""
    return torch.compile(function)
