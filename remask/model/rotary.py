"""Rotary positions (Su et al. 2021): queries and keys are turned by angles that grow with their position."""

import math

import torch
from torch import Tensor

from remask.model.eager import Rotation, by_blocks
from remask.model.sizes import Architecture


def rotary(a: Architecture, positions: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of the angles position * base^(-2i/d), each (Q, d/2) or (B, 1, Q, d/2), float32."""
    exponent = torch.arange(0, a.head_width, 2, device=positions.device).float() / a.head_width
    frequency = a.rope_base**-exponent
    if a.rope_scaling is not None:
        frequency = scale_frequencies(frequency, *a.rope_scaling)
    angle = positions[..., None].float() * frequency
    if positions.ndim == 2:
        angle = angle[:, None]
    cos, sin = angle.cos(), angle.sin()
    return (cos.bfloat16().float(), sin.bfloat16().float()) if a.rope_bf16 else (cos, sin)


def scale_frequencies(frequency: Tensor, factor: float, low: float, high: float, context: float) -> Tensor:
    """Rotary frequencies for a longer context (Llama 3.1).

    Frequencies of fewer than `low` turns in the original context are divided by `factor`, those of more than `high`
    turns are kept, and between them there is a linear ramp.
    """
    turns = context * frequency / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return frequency * (kept + (1 - kept) / factor)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates (B, H, Q, d) queries or keys, the first half of d paired with the second (Su et al. 2021, as NeoX)."""
    if by_blocks(x):
        return Rotation.apply(x, cos, sin)
    first, second = x.float().chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)
