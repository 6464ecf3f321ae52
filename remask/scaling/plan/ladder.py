"""Shapes of networks of any size, which is what a study of scaling varies."""

import math
from functools import cache

from remask.errors import RemaskError
from remask.model.sizes import Architecture

ASPECT = 64
"""Width divided by layers, as in the sizes of SMDM up to a billion parameters."""

LEAST = 3
"""Layers of the smallest networks; with two in some and three in others, IsoFLOP curves would be jagged."""


@cache
def ladder() -> tuple[Architecture, ...]:
    """Shapes from some 10,000 to 65 billion parameters without embeddings, rising; above 100,000 a few % apart."""
    widths = [
        *range(16, 64, 8),
        *range(64, 256, 16),
        *range(256, 512, 32),
        *range(512, 1024, 64),
        *range(1024, 6145, 128),
    ]
    shapes = []
    for width in widths:
        usual = width / ASPECT
        for layers in range(max(LEAST, math.floor(0.75 * usual)), max(LEAST, math.ceil(1.5 * usual)) + 1):
            shapes.append(shape_of_width(width, layers))
    shapes.sort(key=lambda a: a.non_embedding)
    return tuple(shapes)


def shape_of_width(width: int, layers: int) -> Architecture:
    """A shape with heads about 16 wide below width 256, then 32, 64 and 128; its SwiGLU is about 8/3 of the width.

    Where heads are few, the loss jumps with their number, so it rises steadily with the width.
    """
    usual = next(head for head, wide in ((128, 1024), (64, 512), (32, 256), (16, 0)) if width >= wide)
    possible = [n for n in range(width // 2, 0, -1) if width % n == 0 and width // n % 2 == 0]
    heads = min(possible, key=lambda n: abs(n - width / usual))
    head = width // heads
    return Architecture(
        layers=layers, width=width, heads=heads, kv_heads=heads, head_width=head, ffn=16 * round(width / 6)
    )


def nearest_shape(n: float) -> Architecture:
    """The shape with about `n` parameters without embeddings; of those within 3 % the one of most usual proportions."""
    rungs = ladder()
    if not rungs[0].non_embedding / 2 < n < 2 * rungs[-1].non_embedding:
        raise RemaskError(
            f"a network of {n:.3g} parameters is not on the ladder, which goes from {rungs[0].non_embedding:,} to "
            f"{rungs[-1].non_embedding:,}"
        )
    away = [abs(math.log(a.non_embedding / n)) for a in rungs]
    near = [a for a, d in zip(rungs, away, strict=True) if d < min(away) + 0.03]
    return min(near, key=lambda a: abs(math.log(a.width / a.layers / ASPECT)))
