"""IsoFLOP parabolas and the power laws through their minima (Hoffmann et al. 2022, approach 2)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remask.errors import RemaskError
from remask.scaling.points import Points, budgets

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Parabola:
    """loss = least + curve (ln N - ln n)^2 at one budget."""

    c: float
    n: float
    loss: float
    curve: float
    bracketed: bool
    """Whether the minimum lies inside the sizes tried."""
    runs: int


@dataclass(frozen=True)
class Power:
    """y = k C^p, and `draws` of (ln k, p)."""

    k: float
    p: float
    draws: Array

    def __call__(self, c: Array | float) -> Array:
        """Its value at C."""
        return self.k * np.asarray(c, float) ** self.p

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Percentiles of the exponent over the resamples."""
        low, high = np.quantile(self.draws[:, 1], [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


@dataclass(frozen=True)
class IsoFLOP:
    """Parabolas of all budgets, and the power laws through those that are bracketed."""

    parabolas: tuple[Parabola, ...]
    size: Power | None
    """Best N against C; None with fewer than two bracketed minima."""
    loss: Power | None
    """Least loss against C."""

    @property
    def unbracketed(self) -> tuple[Parabola, ...]:
        """Budgets whose minimum lies outside the sizes tried: left out of the laws."""
        return tuple(p for p in self.parabolas if not p.bracketed)


def isoflop(points: Points, draws: int = 200, seed: int = 0) -> IsoFLOP:
    """Parabolas in log N for each budget (Hoffmann et al. 2022, approach 2), power laws through their minima.

    Errors by resampling the residuals of the parabolas, all budgets together, with the Monte Carlo error of each loss.
    """
    groups = [g for g in budgets(points) if len(np.unique(points.n[g])) >= 3]
    if not groups:
        raise RemaskError("no budget has three sizes, which a parabola needs")
    bases = [parabola(points, g, points.loss[g]) for g in groups]
    rng = np.random.default_rng(seed)
    left = np.concatenate([residual(points, g, p) for g, p in zip(groups, bases, strict=True)])
    spare = sum(max(0, len(g) - 3) for g in groups)
    scatter = math.sqrt((left**2).sum() / spare) if spare else float(points.stderr.mean())
    sizes, losses = [], []
    for _ in range(draws):
        again = []
        for g, p in zip(groups, bases, strict=True):
            fitted = points.loss[g] - residual(points, g, p)
            noise = rng.normal(size=len(g)) * np.maximum(scatter, points.stderr[g])
            again.append(parabola(points, g, fitted + noise))
        kept = [(one, base) for one, base in zip(again, bases, strict=True) if base.bracketed and one.curve > 0]
        if len(kept) >= 2:
            c = np.array([base.c for _, base in kept])
            sizes.append(line(c, np.array([one.n for one, _ in kept])))
            losses.append(line(c, np.array([one.loss for one, _ in kept])))
    kept = [p for p in bases if p.bracketed]
    if len(kept) < 2:
        return IsoFLOP(tuple(bases), None, None)
    c = np.array([p.c for p in kept])
    laws = []
    for values, many in ((np.array([p.n for p in kept]), sizes), (np.array([p.loss for p in kept]), losses)):
        k, p = line(c, values)
        laws.append(Power(math.exp(k), p, np.array(many).reshape(-1, 2)))
    return IsoFLOP(tuple(bases), *laws)


def power(c: Array, y: Array, draws: int = 200, seed: int = 0) -> Power:
    """The power law through points that are known but for scatter; errors by resampling its residuals."""
    if len(c) < 2:
        raise RemaskError(f"{len(c)} points are too few for a power law; it needs 2")
    k, p = line(c, y)
    left = np.log(y) - k - p * np.log(c)
    scale = math.sqrt(len(c) / (len(c) - 2)) if len(c) > 2 else 1.0
    rng = np.random.default_rng(seed)
    many = [line(c, np.exp(k + p * np.log(c) + scale * rng.choice(left, len(c)))) for _ in range(draws)]
    return Power(math.exp(k), p, np.array(many).reshape(-1, 2))


def parabola(points: Points, group: NDArray[np.integer], loss: Array) -> Parabola:
    """The least-squares parabola of one budget."""
    u = np.log(points.n[group])
    middle = u.mean()
    two, one, zero = np.polyfit(u - middle, loss, 2)
    c = float(math.exp(np.log(points.c[group]).mean()))
    if two <= 0:
        best = int(loss.argmin())
        return Parabola(c, float(points.n[group][best]), float(loss[best]), float(two), False, len(group))
    at = -one / (2 * two)
    inside = bool(u.min() < at + middle < u.max())
    least = float(zero - one**2 / (4 * two))
    return Parabola(c, float(math.exp(min(at + middle, 700.0))), least, float(two), inside, len(group))


def residual(points: Points, group: NDArray[np.integer], fitted: Parabola) -> Array:
    """loss - parabola, nats, of the runs of one budget."""
    u = np.log(points.n[group])
    return points.loss[group] - np.polyval(np.polyfit(u - u.mean(), points.loss[group], 2), u - u.mean())


def line(c: Array, y: Array) -> tuple[float, float]:
    """(ln k, p) of y = k C^p by least squares of logarithms."""
    p, k = np.polyfit(np.log(c), np.log(y), 1)
    return float(k), float(p)


def gap(slow: Power, fast: Power, c: float) -> tuple[float, float, float]:
    """How many times the compute `slow` needs for the loss `fast` has at `c`: value and 90 % interval."""

    def times(k_s: float, p_s: float, k_f: float, p_f: float) -> float:
        loss = k_f + p_f * math.log(c)  # logarithms throughout
        return math.exp((loss - k_s) / p_s) / c

    count = min(len(slow.draws), len(fast.draws))
    many = [times(*slow.draws[i], *fast.draws[i]) for i in range(count)]
    low, high = np.quantile(many, [0.05, 0.95]) if count else (math.nan, math.nan)
    return times(math.log(slow.k), slow.p, math.log(fast.k), fast.p), float(low), float(high)
