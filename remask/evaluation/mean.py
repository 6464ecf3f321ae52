"""Means over questions or texts, with their errors."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mean:
    """A mean."""

    value: float
    error: float
    """Its standard error; nan of a single observation."""


@dataclass(frozen=True)
class MeanWithInterval(Mean):
    """A mean with its interval of 95 %."""

    low: float
    high: float
