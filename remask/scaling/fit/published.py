"""Published scaling laws and points, to lay over one's own.

Losses are nats per token of the authors' tokenizers and texts, so only slopes and ratios carry over to others.
"""

from dataclasses import dataclass

from remask.scaling.fit.repeated import FORMS, Repeated
from remask.scaling.fit.surface import Surface

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


def crossover(unique: float) -> float:
    """FLOPs above which masked diffusion beats the autoregressive model on `unique` tokens (2507.15857)."""
    return 191.6 * unique**2.174


QUOKKA_REPEATED = Repeated(Surface(0.0, 1535.23, 54.21, 0.42, 0.13), FORMS["turning"], (1.49, 0.40, 254.35, 0.39, 0.55))
"""Masked diffusion on repeated data (Ni et al. 2025), 10M to 139M tokens: nats above an irreducible loss not given."""


LLADA = (
    ("LLaDA 1B", 2.20e20, 25.52), ("LLaDA 1B", 5.13e20, 27.11), ("LLaDA 1B", 8.06e20, 29.32),
    ("LLaDA 1B", 1.39e21, 31.48), ("LLaDA 1B", 2.05e21, 35.86), ("LLaDA 1B", 2.69e21, 31.86),
    ("LLaDA 8B", 2.63e21, 32.22),
    ("LLaDA 8B", 5.27e21, 33.39), ("LLaDA 8B", 1.05e22, 42.84), ("LLaDA 8B", 1.58e22, 45.11),
    ("LLaDA 8B", 2.63e22, 48.80), ("LLaDA 8B", 5.69e22, 54.61), ("LLaDA 8B", 8.27e22, 58.52),
    ("ARM 7B", 6.02e20, 26.92), ("ARM 7B", 3.01e21, 24.41), ("ARM 7B", 9.03e21, 34.11), ("ARM 7B", 1.57e22, 39.51),
    ("ARM 7B", 2.71e22, 43.33), ("ARM 7B", 4.82e22, 47.63), ("ARM 7B", 7.71e22, 49.26),
)  # fmt: skip
"""(model, FLOPs, MMLU) of Nie et al. 2025 (LLaDA), tables 18 and 19. No losses were published, and no fit."""
