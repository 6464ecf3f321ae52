"""IsoFLOP parabolas and the power laws through their minima (Hoffmann et al. 2022, approach 2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remask.errors import RemaskError
from remask.scaling.fit.intervals import percentiles
from remask.scaling.fit.points import Points, budgets

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Parabola:
    """loss = least + curve (ln N - ln n)^2 at one budget."""

    c: float
    n: float
    """Its lowest point; the best of the sizes tried where it has none."""
    loss: float
    bracketed: bool
    """Whether the minimum lies inside the sizes tried."""
    index: NDArray[np.integer]
    """Numbers of its runs."""
    coefficients: Array
    """Of (ln N - middle) squared, to the first, and to the zeroth power."""
    middle: float

    def __call__(self, n: Array) -> Array:
        """Loss at sizes N."""
        return np.asarray(np.polyval(self.coefficients, np.log(n) - self.middle), float)


@dataclass(frozen=True)
class Power:
    """y = k C^p, with its resamples."""

    k: float
    p: float
    draws: Array
    """(draws, 2) of ln k and p."""

    def __call__(self, c: Array | float) -> Array:
        """Its value at C."""
        return self.k * np.asarray(c, float) ** self.p

    def interval(self) -> tuple[float, float] | None:
        """Interval of the exponent; None where there are no resamples."""
        if not len(self.draws):
            return None
        low, high = percentiles(self.draws[:, 1])
        return float(low), float(high)


@dataclass(frozen=True)
class IsoFLOP:
    """Parabolas of all budgets, and the power laws through those that are bracketed."""

    parabolas: tuple[Parabola, ...]
    size: Power | None
    """Best N against C; None with fewer than two bracketed minima."""
    loss: Power | None
    """Least loss against C."""


def isoflop(points: Points, draws: int = 200, seed: int | Sequence[int] = 0) -> IsoFLOP:
    """Parabolas in log N for each budget (Hoffmann et al. 2022, approach 2), power laws through their minima.

    Runs weigh as one over the variance of their losses: the Monte Carlo error, and what all of them scatter by. For
    the errors of the laws, losses are drawn anew around the parabolas with that variance. Where nothing scatters,
    since no budget has more than three sizes and all losses are exact, there are no draws.
    """
    groups = [g for g in budgets(points) if len(np.unique(points.n[g])) >= 3]
    if not groups:
        raise RemaskError("no budget has three sizes, which a parabola needs")
    variance = points.stderr**2 + scatter(points, groups)
    bases = [parabola(points, g, points.loss[g], variance[g]) for g in groups]
    kept = [p for p in bases if p.bracketed]
    if len(kept) < 2:
        return IsoFLOP(tuple(bases), None, None)
    rng, n, loss = np.random.default_rng(seed), [], []
    for base in kept if variance.any() else ():
        own = variance[base.index]
        noise = rng.normal(size=(len(own), draws)) * np.sqrt(own)[:, None]
        lowest = minima(points, base.index, base(points.n[base.index])[:, None] + noise, own)
        n.append(lowest[0])
        loss.append(lowest[1])
    c = np.array([p.c for p in kept])
    laws = []
    for best, drawn in ((np.array([p.n for p in kept]), n), (np.array([p.loss for p in kept]), loss)):
        k, p = fit_power_law(c, best)
        laws.append(Power(math.exp(k), p, refit_minima(c, np.array(drawn) if drawn else np.empty((len(c), 0)))))
    return IsoFLOP(tuple(bases), *laws)


def refit_minima(c: Array, y: Array) -> Array:
    """(budgets, draws) minima -> (draws, 2) of ln k and p, each through the budgets that have one; two are needed."""
    known = np.isfinite(y)
    found = [fit_power_law(c[has], one[has]) for one, has in zip(y.T, known.T, strict=True) if has.sum() >= 2]
    return np.array(found).reshape(-1, 2)


def minima(points: Points, group: NDArray[np.integer], loss: Array, variance: Array) -> Array:
    """(2, draws) sizes and losses at the minimum of the parabola of each column of `loss`; nan where there is none."""
    u = np.log(points.n[group])
    two, one, zero = np.polyfit(u - u.mean(), loss, 2, w=weights(variance))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found = np.stack([np.exp(u.mean() - one / (2 * two)), zero - one**2 / (4 * two)])
    return np.where((two > 0) & (found[1] > 0) & np.isfinite(found[0]), found, np.nan)


def scatter(points: Points, groups: Sequence[NDArray[np.integer]]) -> float:
    """Variance of losses around their parabolas beyond their Monte Carlo errors, the same for all runs."""
    left = [points.loss[g] - parabola(points, g, points.loss[g], np.ones(len(g)))(points.n[g]) for g in groups]
    spare = sum(max(0, len(g) - 3) for g in groups)
    errors = np.concatenate([points.stderr[g] for g in groups])
    return max(0.0, (np.concatenate(left) ** 2).sum() / spare - (errors**2).mean()) if spare else 0.0


def power(c: Array, y: Array, draws: int = 200, seed: int = 0) -> Power:
    """The power law through points that are known but for scatter; errors by resampling its residuals."""
    if len(c) < 2:
        raise RemaskError(f"{len(c)} points are too few for a power law; it needs 2")
    k, p = fit_power_law(c, y)
    left = np.log(y) - k - p * np.log(c)
    scale = math.sqrt(len(c) / (len(c) - 2)) if len(c) > 2 else 1.0
    rng = np.random.default_rng(seed)
    many = [fit_power_law(c, np.exp(k + p * np.log(c) + scale * rng.choice(left, len(c)))) for _ in range(draws)]
    return Power(math.exp(k), p, np.array(many).reshape(-1, 2))


def parabola(points: Points, group: NDArray[np.integer], loss: Array, variance: Array) -> Parabola:
    """The least-squares parabola of one budget; runs weigh by the variance of their losses where that is known."""
    u = np.log(points.n[group])
    middle, c = float(u.mean()), float(math.exp(np.log(points.c[group]).mean()))
    two, one, zero = coefficients = np.polyfit(u - middle, loss, 2, w=weights(variance))
    if two <= 0:
        best = int(loss.argmin())
        return Parabola(c, float(points.n[group][best]), float(loss[best]), False, group, coefficients, middle)
    at = float(-one / (2 * two)) + middle
    inside, least = bool(u.min() < at < u.max()), float(zero - one**2 / (4 * two))
    return Parabola(c, math.exp(min(at, 700.0)), least, inside, group, coefficients, middle)


def weights(variance: Array) -> Array | None:
    """One over the error of each loss, where all have one."""
    return 1 / np.sqrt(variance) if variance.all() else None


def fit_power_law(c: Array, y: Array) -> tuple[float, float]:
    """(ln k, p) of y = k C^p by least squares of logarithms."""
    p, k = np.polyfit(np.log(c), np.log(y), 1)
    return float(k), float(p)


def gap(slow: Power, fast: Power, c: float) -> tuple[float, tuple[float, float] | None]:
    """How many times the compute `slow` needs for the loss `fast` has at `c`, and its interval.

    The resamples of both must have been drawn apart, from other seeds. One in which more compute does not help `slow`
    counts as infinite.
    """

    def times(k_s: float, p_s: float, k_f: float, p_f: float) -> float:
        log = (k_f + p_f * math.log(c) - k_s) / p_s - math.log(c) if p_s < 0 else math.inf
        return math.exp(log) if log < 700 else math.inf

    many = [times(*a, *b) for a, b in zip(slow.draws.tolist(), fast.draws.tolist(), strict=False)]
    value = times(math.log(slow.k), slow.p, math.log(fast.k), fast.p)
    if not many:
        return value, None
    low, high = percentiles(many, method="nearest")
    return value, (float(low), float(high))
