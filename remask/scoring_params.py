"""How a likelihood is found: the options that `remask score` and `remask perplexity` share."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ScoringParams:
    """The estimator with its options; each is an argument of `remask.score` and `remask.perplexity` too."""

    draws: int = 128
    """Noisy copies of a text, or of a window of one, where the estimator is random."""
    estimator: str = "auto"
    """auto, or one that fits the family: enumeration, count, chain, rule, or as published smdm, llada for masked
    models; draws, orders for interpolating ones; draws for uniform-state ones; exact for autoregressive ones."""
    strata: int | None = None
    """Draws of smdm and llada that are spread evenly together (their batch size); by default at most 16."""
    sampler: str | None = None
    """The sampler whose likelihood the estimator "rule" gives; by default Confidence."""
    steps: int | None = None
    """Steps of that sampler for a text, or for a window of one."""
    block: int | None = None
    """Block size of that sampler."""
    temperature: float = 1.0
    """Temperature of that sampler."""
    guidance: float = 0.0
    """Weight of classifier-free guidance."""
    seed: int = 0
    """Seed of the noise, which also depends on what is scored."""
