"""The parametric law fitted to runs, with its errors. Parabolas are in `isoflop`, the published recipe in `huber`.

    L(N, D) = E + A/N^a + B/D^b                                     (Hoffmann et al. 2022)

For given exponents the rest is a least-squares problem with non-negative unknowns, so only two numbers are searched
for (variable projection; Czech et al. 2026). That is well conditioned where the five-dimensional search is not, and
cheap enough to be repeated for every resample of the bootstrap at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from remask.errors import RemaskError
from remask.scaling.fit.points import Points, budgets

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Surface:
    """L = E + A/N^a + B/D^b, with N and D as they are."""

    e: float
    a: float
    b: float
    alpha: float
    beta: float

    def __call__(self, n: Array | float, d: Array | float) -> Array:
        """Nats per token of N parameters trained on D tokens."""
        return self.e + self.a * np.asarray(n, float) ** -self.alpha + self.b * np.asarray(d, float) ** -self.beta

    @property
    def size_exponent(self) -> float:
        """The best N grows as C to this power."""
        return self.beta / (self.alpha + self.beta)

    def best(self, c: float) -> tuple[float, float, float]:
        """(N, D, loss) of least loss at C = 6 N D."""
        g = (self.alpha * self.a / (self.beta * self.b)) ** (1 / (self.alpha + self.beta))
        n = g * (c / 6) ** self.size_exponent
        d = c / 6 / n
        return n, d, float(self(n, d))


@dataclass(frozen=True)
class Fit:
    """A surface with its resamples: what `draws` spreads over is its error."""

    law: Surface
    draws: tuple[Surface, ...]
    residuals: Array
    """loss - law, nats, run by run."""
    bounded: tuple[str, ...] = ()
    """Unknowns that lie on the edge of what was searched, so that they are not determined."""

    def interval(self, what: str, level: float = 0.9) -> tuple[float, float]:
        """Percentiles of a constant, or of `size_exponent`, over the resamples."""
        values = [getattr(one, what) for one in self.draws]
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def joint(self, names: Sequence[str], level: float = 0.9) -> dict[str, tuple[float, float]]:
        """Intervals that hold all the named constants at once in `level` of the resamples: wider than one by one.

        Each is cut at the same percentiles, as far out as it takes.
        """
        values = np.array([[getattr(one, name) for name in names] for one in self.draws])
        ranks = (values.argsort(0).argsort(0) + 0.5) / len(values)
        reach = min(1.0, float(np.quantile(np.abs(2 * ranks - 1).max(1), level, method="higher")))
        ends = np.quantile(values, [(1 - reach) / 2, (1 + reach) / 2], axis=0)
        return {name: (float(low), float(high)) for name, low, high in zip(names, *ends, strict=True)}

    def correlation(self, one: str, two: str) -> float:
        """Of two constants over the resamples."""
        values = np.array([[getattr(draw, name) for draw in self.draws] for name in (one, two)])
        return float(np.corrcoef(values)[0, 1]) if np.ptp(values, axis=1).all() else math.nan


EXPONENTS = np.geomspace(0.02, 2.5, 25)
"""Where alpha and beta are looked for first."""
AT_ONCE = 50
"""Resamples that are fitted together."""


def project(points: Points, alpha: Array, beta: Array, weights: Array, loss: Array) -> tuple[Array, Array]:
    """Non-negative least squares for E, A, B at given exponents.

    `alpha`, `beta` (R or 1, G), `weights` and `loss` (R, n) -> residual sums (R, G), and (R, G, 3) of E, A, B, for N
    and D divided by their geometric means. All sets of unknowns that may be 0 are tried, so the result is exact.
    """
    n0, d0 = (math.exp(np.log(x).mean()) for x in (points.n, points.d))
    columns = np.stack(
        [
            np.ones((*alpha.shape, len(points))),
            np.exp(-alpha[..., None] * np.log(points.n / n0)),
            np.exp(-beta[..., None] * np.log(points.d / d0)),
        ],
        -1,
    )  # (R or 1, G, n, 3)
    y, outer = loss, columns[..., :, None] * columns[..., None, :]
    if len(columns) == 1:  # one grid for all resamples: two matrix products
        gram = np.asarray(np.tensordot(weights, outer[0], ([1], [1])), float)
        right = np.asarray(np.tensordot(weights * y, columns[0], ([1], [1])), float)
    else:
        gram = np.einsum("rn,rgnij->rgij", weights, outer)
        right = np.einsum("rn,rgni->rgi", weights * y, columns)
    gram, right = gram.reshape(-1, 3, 3), right.reshape(-1, 3)
    solution = solved(gram, right)
    wrong = np.flatnonzero((solution < 0).any(-1))
    if len(wrong):
        solution[wrong] = non_negative(gram[wrong], right[wrong])
    square = np.repeat((weights * y**2).sum(1), len(gram) // len(weights))
    rss = square - 2 * (solution * right).sum(-1) + np.einsum("mi,mij,mj->m", solution, gram, solution)
    shape = len(weights), len(gram) // len(weights)
    return rss.reshape(shape), solution.reshape(*shape, 3)


def solved(gram: Array, right: Array) -> Array:
    """(m, k, k) and (m, k) -> (m, k), with a ridge of rounding's size for columns that are alike."""
    size = gram.shape[-1]
    ridge = 1e-14 * np.einsum("mii->m", gram)[:, None, None] * np.eye(size)
    return np.linalg.solve(gram + ridge, right[..., None])[..., 0]


def non_negative(gram: Array, right: Array) -> Array:
    """(m, 3, 3) and (m, 3) -> (m, 3): the best of the solutions in which one or two unknowns are 0."""
    best, solution = np.full(len(gram), np.inf), np.zeros_like(right)
    for chosen in (*combinations(range(3), 2), (0,), (1,), (2,)):
        part = list(chosen)
        full = np.zeros_like(right)
        full[:, part] = solved(gram[:, part][:, :, part], right[:, part])
        gain = np.einsum("mi,mij,mj->m", full, gram, full) - 2 * (full * right).sum(-1)
        better = (full >= 0).all(-1) & (gain < best)
        best, solution = np.where(better, gain, best), np.where(better[:, None], full, solution)
    return solution


def search(points: Points, weights: Array, loss: Array) -> list[Surface]:
    """The surface of least squares for each row of `weights` and `loss`, (R, n): on a grid, then on ever finer ones."""
    grid = np.log(EXPONENTS)
    one, two = (x.ravel() for x in np.meshgrid(grid, grid, indexing="ij"))
    rss, _ = project(points, np.exp(one)[None], np.exp(two)[None], weights, loss)
    at, width = np.stack([one[rss.argmin(1)], two[rss.argmin(1)]], -1), float(grid[1] - grid[0])
    steps = np.linspace(-1.5, 1.5, 5)
    offsets = np.stack([x.ravel() for x in np.meshgrid(steps, steps, indexing="ij")], -1)  # (G, 2)
    for _ in range(30):
        there = np.clip(at[:, None] + width * offsets, grid[0], grid[-1])
        rss, _ = project(points, np.exp(there[..., 0]), np.exp(there[..., 1]), weights, loss)
        at = there[np.arange(len(at)), rss.argmin(1)]
        width *= 0.55
    _, constants = project(points, np.exp(at[:, :1]), np.exp(at[:, 1:]), weights, loss)
    return surfaces(points, np.concatenate([constants[:, 0], np.exp(at)], -1))


def surfaces(points: Points, found: Array) -> list[Surface]:
    """(R, 5) of E, A, B, alpha, beta, for N and D divided by their geometric means -> laws in N and D themselves."""
    n0, d0 = (math.exp(np.log(x).mean()) for x in (points.n, points.d))
    return [Surface(e, a * n0**alpha, b * d0**beta, alpha, beta) for e, a, b, alpha, beta in found.tolist()]


def descended(points: Points, law: Surface, weights: Array, loss: Array, steps: int = 60) -> list[Surface]:
    """The least squares of every row of `loss` (R, n), from `law` down, all rows at once (Levenberg-Marquardt)."""
    n0, d0 = (math.exp(np.log(x).mean()) for x in (points.n, points.d))
    u, v, root = np.log(points.n / n0), np.log(points.d / d0), np.sqrt(weights)
    start = [law.e, law.a * n0**-law.alpha, law.b * d0**-law.beta, law.alpha, law.beta]
    low = np.array([0.0, 0.0, 0.0, EXPONENTS[0], EXPONENTS[0]])
    high = np.array([np.inf, np.inf, np.inf, EXPONENTS[-1], EXPONENTS[-1]])
    x, damping = np.repeat([start], len(loss), 0), np.full(len(loss), 1e-3)

    def left(x: Array) -> Array:
        return root * (x[:, :1] + x[:, 1:2] * np.exp(-x[:, 3:4] * u) + x[:, 2:3] * np.exp(-x[:, 4:] * v) - loss)

    r = left(x)
    rss = (r**2).sum(1)
    for _ in range(steps):
        f, g = np.exp(-x[:, 3:4] * u), np.exp(-x[:, 4:] * v)
        j = root[:, None] * np.stack([np.ones_like(f), f, g, -x[:, 1:2] * u * f, -x[:, 2:3] * v * g], -1)  # (R, n, 5)
        gram = np.einsum("rni,rnj->rij", j, j)
        ridge = np.einsum("rii->ri", gram)[..., None] * np.eye(5) * damping[:, None, None]
        step = np.linalg.solve(gram + ridge + 1e-300 * np.eye(5), -np.einsum("rni,rn->ri", j, r)[..., None])[..., 0]
        tried = np.clip(x + step, low, high)
        then = left(tried)
        after = (then**2).sum(1)
        better = after < rss
        x, r, rss = np.where(better[:, None], tried, x), np.where(better[:, None], then, r), np.minimum(after, rss)
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-12, 1e6)
    return surfaces(points, x)


def polished(points: Points, start: Surface, weights: Array) -> Surface:
    """The same minimum to the precision of float64, by Gauss-Newton in all five."""
    n0, d0 = (math.exp(np.log(x).mean()) for x in (points.n, points.d))
    u, v, root = np.log(points.n / n0), np.log(points.d / d0), np.sqrt(weights)

    def residuals(x: Array) -> Array:
        return root * (x[0] + x[1] * np.exp(-x[3] * u) + x[2] * np.exp(-x[4] * v) - points.loss)

    def slopes(x: Array) -> Array:
        f, g = np.exp(-x[3] * u), np.exp(-x[4] * v)
        return root[:, None] * np.stack([np.ones_like(f), f, g, -x[1] * u * f, -x[2] * v * g], -1)

    first = [start.e, start.a * n0**-start.alpha, start.b * d0**-start.beta, start.alpha, start.beta]
    low = [0.0, 0.0, 0.0, EXPONENTS[0], EXPONENTS[0]]
    high = [np.inf, np.inf, np.inf, EXPONENTS[-1], EXPONENTS[-1]]
    inside = np.clip(first, low, high)
    options: dict[str, Any] = {"jac": slopes, "bounds": (low, high), "x_scale": "jac"}
    found = least_squares(residuals, inside, ftol=1e-15, xtol=1e-15, gtol=1e-15, **options)
    e, a, b, alpha, beta = (float(x) for x in found.x)
    return Surface(e, a * n0**alpha, b * d0**beta, alpha, beta)


def weights_of(points: Points, scatter: float) -> Array:
    """(n,) one over the variance of each loss: its Monte Carlo error, and a scatter that all runs share."""
    variance = points.stderr**2 + scatter**2
    if not variance.any():
        return np.ones(len(points))
    floor = 1e-3 * float(np.median(variance[variance > 0]))  # an exact loss among inexact ones does not decide alone
    return floor / np.maximum(variance, floor)


def surface(points: Points, draws: int = 200, seed: int = 0) -> Fit:
    """Fits the surface by variable projection, and again to `draws` resamples for its error.

    A resample gives each run its own residual back, as large as it would be had the run had no part in the fit, with a
    random sign (wild bootstrap): so runs may scatter by different amounts. Errors of the losses enter the
    weights. RemaskError for fewer than six runs, or fewer than three sizes.
    """
    enough(points)
    weights = weights_of(points, spread_of(points))
    law = polished(points, search(points, weights[None], points.loss[None])[0], weights)
    resampled: list[Surface] = []
    rng, fitted, noise = np.random.default_rng(seed), law(points.n, points.d), standing(points, law, weights)
    for start in range(0, draws, AT_ONCE):
        many = noise * rng.choice((-1.0, 1.0), (min(AT_ONCE, draws - start), len(points)))
        resampled += descended(points, law, weights, fitted + many)
    edge = [name for name in ("alpha", "beta") if not EXPONENTS[0] * 1.02 < getattr(law, name) < EXPONENTS[-1] / 1.02]
    edge += vanished(points.n, points.d, points.loss, law)
    return Fit(law, tuple(resampled), points.loss - law(points.n, points.d), tuple(edge))


def vanished(n: Array, d: Array, loss: Array, law: Surface) -> list[str]:
    """Which of E, A and B have no share in the losses: they are at 0, where a search never quite arrives."""
    shares = {"E": law.e, "A": np.mean(law.a * n**-law.alpha), "B": np.mean(law.b * d**-law.beta)}
    return [name for name, share in shares.items() if share < 1e-6 * loss.mean()]


def standing(points: Points, law: Surface, weights: Array) -> Array:
    """(n,) residuals as they would be of runs that had no part in the fit: divided by 1 - leverage."""
    f, g = points.n**-law.alpha, points.d**-law.beta
    slopes = [np.ones_like(f), f, g, law.a * f * np.log(points.n), law.b * g * np.log(points.d)]
    jacobian = np.stack(slopes, -1) * np.sqrt(weights)[:, None]
    return (points.loss - law(points.n, points.d)) / (1 - leverage_of(jacobian))


def leverage_of(jacobian: Array) -> Array:
    """(n,) how far each run draws the fit to itself, from (n, k) slopes; those that are 0 or alike count once."""
    size = np.linalg.norm(jacobian, axis=0)
    there = size > 1e-12 * size.max()
    u, spread, _ = np.linalg.svd(jacobian[:, there] / size[there], full_matrices=False)
    return np.minimum((u[:, spread > 1e-9 * spread[0]] ** 2).sum(1), 0.95)


def enough(points: Points) -> None:
    """Raises where five constants cannot be told from these runs."""
    if len(points) < 6:
        raise RemaskError(f"{len(points)} runs are too few for a law of five constants; it needs 6")
    for name, values in (("N", points.n), ("D", points.d)):
        if len(np.unique(values)) < 3:
            raise RemaskError(f"all runs have one or two values of {name}; a law in it needs 3")
    for name in ("n", "d", "loss"):
        values = getattr(points, name)
        wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(wrong):
            name_of = points.names[wrong[0]] if points.names else f"number {wrong[0]}"
            raise RemaskError(f"run {name_of} has {name.upper() if len(name) == 1 else name} = {values[wrong[0]]:g}")


def spread_of(points: Points) -> float:
    """What runs scatter by around the best surface, beyond the errors of their losses, in nats."""
    law = search(points, np.ones((1, len(points))), points.loss[None])[0]
    left = points.loss - law(points.n, points.d)
    variance = (left**2).sum() / max(1, len(points) - 5) - (points.stderr**2).mean()
    return math.sqrt(max(0.0, variance))


def left_out(points: Points) -> dict[float, float]:
    """Of each budget, in FLOPs: root mean square error, nats, of its losses predicted by the surface of the others.

    Budgets without which a surface cannot be told are left out of this.
    """
    groups = budgets(points)
    if len(groups) < 3:
        raise RemaskError(f"{len(groups)} budgets: leaving one out needs 3")
    found = {}
    for group in groups:
        rest = np.setdiff1d(np.arange(len(points)), group)
        try:
            law = surface(points.take(rest), draws=0).law
        except RemaskError:
            continue
        left = points.loss[group] - law(points.n[group], points.d[group])
        found[math.exp(np.log(points.c[group]).mean())] = float(np.sqrt(np.mean(left**2)))
    return found
