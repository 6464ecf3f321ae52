"""Networks of any size: what a study of scaling varies."""

import math
from functools import cache

from remask.errors import RemaskError
from remask.model.sizes import Architecture

ASPECT = 64
"""Width for each layer, as in the sizes of SMDM up to a billion parameters."""

LEAST = 3
"""Layers of the smallest ones: were it two in some and three in others, curves would be jagged."""


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
            shapes.append(architecture_of(width, layers))
    shapes.sort(key=lambda a: a.non_embedding)
    return tuple(shapes)


def architecture_of(width: int, layers: int) -> Architecture:
    """Heads about 16 wide below width 256, then 32, 64, 128 wide; a SwiGLU of about 8/3 of the width.

    What a network learns jumps with the number of heads where there are few, so their number rises with the width.
    """
    usual = next(head for head, wide in ((128, 1024), (64, 512), (32, 256), (16, 0)) if width >= wide)
    possible = [n for n in range(width // 2, 0, -1) if width % n == 0 and width // n % 2 == 0]
    heads = min(possible, key=lambda n: abs(n - width / usual))
    head = width // heads
    return Architecture(
        layers=layers, width=width, heads=heads, kv_heads=heads, head_width=head, ffn=16 * round(width / 6)
    )


def nearest_size(n: float) -> Architecture:
    """The shape whose parameters without embeddings are nearest to `n`; among near ones the most usual proportions."""
    rungs = ladder()
    if not rungs[0].non_embedding / 2 < n < 2 * rungs[-1].non_embedding:
        raise RemaskError(
            f"a network of {n:.3g} parameters is not on the ladder, which goes from {rungs[0].non_embedding:,} to "
            f"{rungs[-1].non_embedding:,}"
        )
    away = [abs(math.log(a.non_embedding / n)) for a in rungs]
    near = [a for a, d in zip(rungs, away, strict=True) if d < min(away) + 0.03]
    return min(near, key=lambda a: abs(math.log(a.width / a.layers / ASPECT)))
