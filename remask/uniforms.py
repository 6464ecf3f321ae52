"""Uniform random numbers as a function of (seed, draw, position): no generator, no state but a counter.

So a row draws the same numbers whatever shares its batch and whenever it joins. The function is the finaliser of
SplitMix64 (Steele, Lea and Flood 2014), applied once to seed and draw and once more with the position.
"""

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64
"""The step of SplitMix64, as a signed number of 64 bits."""
FIRST = 0xBF58476D1CE4E5B9 - 2**64
SECOND = 0x94D049BB133111EB - 2**64


def uniforms(seed: Tensor, draw: Tensor, positions: int) -> Tensor:
    """(B,) int64 seeds and numbers of the draw -> (B, L) float64 in [0, 1), one for each position."""
    return uniforms_at(seed[:, None], draw[:, None], torch.arange(positions, device=seed.device))


def uniforms_at(seed: Tensor, draw: Tensor, position: Tensor) -> Tensor:
    """int64 seeds, numbers of the draw and positions, of shapes that broadcast -> float64 in [0, 1)."""
    bits = scramble(scramble(seed + draw * GOLDEN) + (position + 1) * GOLDEN)
    return shift_right(bits, 11).double() * 2.0**-53


def scramble(x: Tensor) -> Tensor:
    """Mixes the bits of int64 numbers; one to one."""
    x = (x ^ shift_right(x, 30)) * FIRST
    x = (x ^ shift_right(x, 27)) * SECOND
    return x ^ shift_right(x, 31)


def shift_right(x: Tensor, bits: int) -> Tensor:
    """A shift that brings in zeros, where torch's own repeats the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
