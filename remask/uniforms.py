"""Uniform random numbers as a function of (seed, number of the draw, position), without a generator.

So a row draws the same numbers whatever else is in its batch, and whenever it joins it. The function is the finaliser
of SplitMix64 (Steele, Lea and Flood 2014), applied first to the seed and the draw and then again with the position.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64
"""The step of SplitMix64, as a signed number of 64 bits."""
FIRST = 0xBF58476D1CE4E5B9 - 2**64
SECOND = 0x94D049BB133111EB - 2**64


def uniforms(seed: Tensor, draw: Tensor, positions: int) -> Tensor:
    """(B,) int64 seeds and (B,) numbers of the draw -> (B, L) float64 in [0, 1), one for each position."""
    return uniforms_at(seed[:, None], draw[:, None], torch.arange(positions, device=seed.device))


def uniforms_at(seed: Tensor, draw: Tensor, position: Tensor) -> Tensor:
    """int64 seeds, numbers of the draw and positions, whose shapes broadcast -> float64 in [0, 1)."""
    if seed.device.type == "cpu":  # the same numbers, with a third of the operations, each of a third of the time
        return torch.from_numpy(_in_numpy(*(x.numpy().view(np.uint64) for x in (seed, draw, position))))
    bits = scramble(scramble(seed + draw * GOLDEN) + (position + 1) * GOLDEN)
    return shift_right(bits, 11).double() * 2.0**-53


def _in_numpy(seed: Any, draw: Any, position: Any) -> Any:
    """`uniforms_at` of arrays of uint64, whose sums and products wrap around."""
    golden, first, second = (np.array([x & (2**64 - 1)], np.uint64) for x in (GOLDEN, FIRST, SECOND))

    def scrambled(x: Any) -> Any:
        x = (x ^ (x >> np.uint64(30))) * first
        x = (x ^ (x >> np.uint64(27))) * second
        return x ^ (x >> np.uint64(31))

    bits = scrambled(scrambled(seed + draw * golden) + (position + np.uint64(1)) * golden)
    return (bits >> np.uint64(11)) * 2.0**-53


def scramble(x: Tensor) -> Tensor:
    """Mixes the bits of int64 numbers; different numbers stay different."""
    x = (x ^ shift_right(x, 30)) * FIRST
    x = (x ^ shift_right(x, 27)) * SECOND
    return x ^ shift_right(x, 31)


def shift_right(x: Tensor, bits: int) -> Tensor:
    """A logical shift, which fills with zeros; torch's own shift repeats the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
