"""Published scaling laws and points, to lay over one's own.

Losses are nats per token of the authors' tokenizers and texts, so only slopes and ratios carry over to others.
"""

from dataclasses import dataclass

from remask.scaling.fit.law import Surface

CHINCHILLA = Surface(1.69, 406.4, 410.7, 0.34, 0.28)
"""Hoffmann et al. 2022, third approach, as printed. Autoregressive, MassiveText."""
CHINCHILLA_CORRECTED = Surface(1.8172, 482.01, 2085.43, 0.3478, 0.3658)
"""The same runs fitted again by Besiroglu et al. 2024, who found that the first fit had stopped early."""
QUOKKA = Surface(2.413, 798.6, 4604.9, 0.379, 0.378)
"""Ni et al. 2025 (arXiv 2510.03280): masked diffusion, one epoch, 3e18 to 1e21 FLOPs; the loss is a bound."""

SURFACES = {"chinchilla": CHINCHILLA, "chinchilla-corrected": CHINCHILLA_CORRECTED, "quokka": QUOKKA}
"""By the name that `remask scale plan --law` takes."""


@dataclass(frozen=True)
class Minimum:
    """The best run of one budget."""

    c: float
    """FLOPs, 6 N D."""
    n: float
    """Parameters without embeddings."""
    loss: float


SMDM_MASKED = (
    Minimum(6e18, 84e6, 3.375),
    Minimum(1e19, 111e6, 3.261),
    Minimum(3e19, 229e6, 3.041),
    Minimum(6e19, 362e6, 2.917),
    Minimum(1e20, 478e6, 2.830),
)
"""Nie et al. 2024 (SMDM), figure 2, digitised; SlimPajama."""
SMDM_AUTOREGRESSIVE = (
    Minimum(6e18, 153e6, 2.846),
    Minimum(1e19, 225e6, 2.749),
    Minimum(3e19, 445e6, 2.555),
    Minimum(6e19, 627e6, 2.447),
    Minimum(1e20, 1005e6, 2.378),
)
"""The autoregressive models of the same figure."""


REPEATS_AUTOREGRESSIVE, REPEATS_MASKED = 31.5, 500.0
"""R of the saturating form, for both families in Prabhudesai et al. 2025 (arXiv 2507.15857).

They give 31.2 to 31.9, and 493.9 to 512.9.
"""
