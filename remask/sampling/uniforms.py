"""Uniform random numbers as a function of (seed, draw, position): no generator, no state but a counter.

So a row draws the same numbers whatever shares its batch and whenever it joins. The function is the finaliser of
SplitMix64 (Steele, Lea and Flood 2014), applied once for the seed and draw and once for the position.
"""

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64
"""The step of SplitMix64, as a signed number of 64 bits."""
FIRST = 0xBF58476D1CE4E5B9 - 2**64
SECOND = 0x94D049BB133111EB - 2**64


def uniforms(seed: Tensor, draw: Tensor, positions: int) -> Tensor:
    """(B,) int64 seeds and numbers of the draw -> (B, L) float64 in [0, 1), one for each position."""
    along = torch.arange(1, positions + 1, device=seed.device)
    row = scramble(scramble(seed) + draw * GOLDEN)
    bits = scramble(row[:, None] + along * GOLDEN)
    return shift_right(bits, 11).double() * 2.0**-53


def scramble(x: Tensor) -> Tensor:
    """Mixes the bits of int64 numbers; one to one."""
    x = (x ^ shift_right(x, 30)) * FIRST
    x = (x ^ shift_right(x, 27)) * SECOND
    return x ^ shift_right(x, 31)


def shift_right(x: Tensor, bits: int) -> Tensor:
    """A shift that brings in zeros, where torch's own repeats the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
