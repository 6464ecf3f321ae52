"""Intervals from resamples: percentiles of one constant, of several at once, and what the resamples are drawn from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from remask.scaling.fit.law import Surface

Array = NDArray[np.float64]
LEVEL = 0.9
"""Share of the resamples that an interval holds."""


def percentiles(values: Any, level: float = LEVEL, method: Literal["linear", "nearest"] = "linear") -> Array:
    """(draws, ...) -> (2, ...): the ends of the central interval that holds `level` of the draws."""
    return np.quantile(np.asarray(values, float), [(1 - level) / 2, (1 + level) / 2], axis=0, method=method)


@dataclass(frozen=True)
class Fit:
    """A fitted surface with its resamples, whose spread is its error."""

    law: Surface
    draws: tuple[Surface, ...]
    residuals: Array
    """(n,) loss - law in nats, run by run."""
    bounded: tuple[str, ...] = ()
    """Constants on the boundary of the search: these runs do not determine them."""

    def interval(self, what: str) -> tuple[float, float]:
        """Interval of one constant, or of `size_exponent`."""
        low, high = percentiles([getattr(one, what) for one in self.draws])
        return float(low), float(high)

    def joint(self, names: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Intervals that contain all the named constants at once in 90 % of the resamples: wider than one by one.

        All are cut at the same percentiles, as far out as that takes.
        """
        values = np.array([[getattr(one, name) for name in names] for one in self.draws])
        ranks = (values.argsort(0).argsort(0) + 0.5) / len(values)
        reach = min(1.0, float(np.quantile(np.abs(2 * ranks - 1).max(1), LEVEL, method="higher")))
        ends = percentiles(values, reach)
        return {name: (float(low), float(high)) for name, low, high in zip(names, *ends, strict=True)}

    def correlation(self, one: str, two: str) -> float:
        """Correlation of two constants over the resamples; nan where one does not vary."""
        values = np.array([[getattr(draw, name) for draw in self.draws] for name in (one, two)])
        return float(np.corrcoef(values)[0, 1]) if np.ptp(values, axis=1).all() else math.nan


def leave_one_out(residuals: Array, jacobian: Array) -> Array:
    """(n,) residuals e/(1-h) as they would be of runs that had no part in the fit.

    h is the leverage of each run, from the (n, k) derivatives of the weighted residuals by the constants; columns that
    are zero or linearly dependent do not count.
    """
    size = np.linalg.norm(jacobian, axis=0)
    kept = size > 1e-12 * size.max()
    u, spread, _ = np.linalg.svd(jacobian[:, kept] / size[kept], full_matrices=False)
    leverage = (u[:, spread > 1e-9 * spread[0]] ** 2).sum(1)
    return residuals / (1 - np.minimum(leverage, 0.95))


def random_signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """The signs of a wild bootstrap: each residual is given back to its own run, with a random sign."""
    return rng.choice((-1.0, 1.0), shape)
