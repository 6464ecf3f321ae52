"""The surface L = E + A/N^alpha + B/D^beta fitted to runs, with its errors.

For given exponents the rest is a linear problem with non-negative unknowns, so the search begins on a grid of the two
exponents alone (variable projection; Czech et al. 2026) and descends from its best place in all five constants.
IsoFLOP parabolas are in `isoflop`, the published recipe with the Huber loss is in `huber`.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from remask.errors import RemaskError
from remask.scaling.fit.intervals import Fit, leave_one_out, random_signs
from remask.scaling.fit.law import Surface
from remask.scaling.fit.points import Points, budgets

Array = NDArray[np.float64]
EXPONENTS = np.geomspace(0.02, 2.5, 25)
"""The grid of alpha and beta; its ends bound them."""
AT_ONCE = 50
"""Resamples that are fitted together."""
STEPS = 200
"""Steps of a descent; most end after ten."""


def surface(points: Points, draws: int = 200, seed: int = 0) -> Fit:
    """Fits the surface by weighted least squares, and again to `draws` resamples for its error.

    Weights are one over the variance of each loss. Resamples are a wild bootstrap with leave-one-out residuals e/(1-h)
    and random signs, so runs may scatter by different amounts. RemaskError for fewer than six runs, or fewer than three
    sizes or numbers of tokens.
    """
    check(points)
    law = least_squares_surface(points, np.ones(len(points)))
    weights = weights_of(points, scatter_around(points, law))
    if np.ptp(weights):
        law = least_squares_surface(points, weights)
    fitted = law(points.n, points.d)
    noise = leave_one_out(points.loss - fitted, jacobian(points, law) * np.sqrt(weights)[:, None])
    resampled: list[Surface] = []
    rng = np.random.default_rng(seed)
    for start in range(0, draws, AT_ONCE):
        signs = random_signs(rng, (min(AT_ONCE, draws - start), len(points)))
        resampled += descend(points, law, weights[None], fitted + noise * signs)
    edge = [name for name in ("alpha", "beta") if not EXPONENTS[0] * 1.02 < getattr(law, name) < EXPONENTS[-1] / 1.02]
    edge += vanishing_terms(points.n, points.d, points.loss, law)
    return Fit(law, tuple(resampled), points.loss - fitted, tuple(edge))


def least_squares_surface(points: Points, weights: Array) -> Surface:
    """The surface of least squares under (n,) weights."""
    return descend(points, best_on_grid(points, weights), weights[None], points.loss[None])[0]


def best_on_grid(points: Points, weights: Array) -> Surface:
    """The best pair of exponents of the grid, with E, A and B by non-negative least squares."""
    u, v, root = *logarithms(points), np.sqrt(weights)
    best, least = np.zeros(5), math.inf
    for alpha in EXPONENTS:
        for beta in EXPONENTS:
            columns = np.stack([np.ones_like(u), np.exp(-alpha * u), np.exp(-beta * v)], -1)
            constants, error = nnls(columns * root[:, None], points.loss * root)
            if error < least:
                best, least = np.array([*constants, alpha, beta]), error
    return centred(points, best)


def descend(points: Points, start: Surface, weights: Array, loss: Array) -> list[Surface]:
    """Least squares for every row of `loss` (R, n) under `weights` (R or 1, n), from `start` down, all rows at once.

    Levenberg-Marquardt on N and D divided by their geometric means, within bounds: a constant that lies on its bound
    and would leave it is held there for that step.
    """
    u, v, root = *logarithms(points), np.sqrt(weights)
    n0, d0 = middle(points)
    first = [start.e, start.a * n0**-start.alpha, start.b * d0**-start.beta, start.alpha, start.beta]
    low = np.array([0.0, 0.0, 0.0, EXPONENTS[0], EXPONENTS[0]])
    high = np.array([np.inf, np.inf, np.inf, EXPONENTS[-1], EXPONENTS[-1]])
    x, damping = np.repeat(np.clip([first], low, high), len(loss), 0), np.full(len(loss), 1e-3)

    def residuals(x: Array) -> Array:
        return root * (x[:, :1] + x[:, 1:2] * np.exp(-x[:, 3:4] * u) + x[:, 2:3] * np.exp(-x[:, 4:] * v) - loss)

    r = residuals(x)
    squares, stalled = (r**2).sum(1), 0
    for _ in range(STEPS):
        f, g = np.exp(-x[:, 3:4] * u), np.exp(-x[:, 4:] * v)
        slopes = np.stack([np.ones_like(f), f, g, -x[:, 1:2] * u * f, -x[:, 2:3] * v * g], -1) * root[..., None]
        downhill = -np.einsum("rni,rn->ri", slopes, r)
        held = ((x <= low) & (downhill < 0)) | ((x >= high) & (downhill > 0))
        slopes, downhill = np.where(held[:, None], 0.0, slopes), np.where(held, 0.0, downhill)
        gram = np.einsum("rni,rnj->rij", slopes, slopes)
        diagonal = np.einsum("rii->ri", gram)[..., None] * np.eye(5)
        ridge = diagonal * damping[:, None, None] + held[..., None] * np.eye(5) + 1e-300 * np.eye(5)
        step = np.linalg.solve(gram + ridge, downhill[..., None])[..., 0]
        tried = np.clip(x + step, low, high)
        then = residuals(tried)
        after = (then**2).sum(1)
        better = after < squares
        stalled = 0 if (after < squares * (1 - 1e-13)).any() else stalled + 1
        x, r, squares = (
            np.where(better[:, None], tried, x),
            np.where(better[:, None], then, r),
            np.minimum(after, squares),
        )
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-12, 1e6)
        if stalled > 8:
            break
    return [centred(points, one) for one in x]


def middle(points: Points) -> tuple[float, float]:
    """Geometric means of N and D."""
    return math.exp(np.log(points.n).mean()), math.exp(np.log(points.d).mean())


def logarithms(points: Points) -> tuple[Array, Array]:
    """ln N and ln D, each less its mean."""
    n0, d0 = middle(points)
    return np.log(points.n / n0), np.log(points.d / d0)


def centred(points: Points, x: Array) -> Surface:
    """E, A, B, alpha, beta for N and D divided by their geometric means -> the law in N and D themselves."""
    (n0, d0), (e, a, b, alpha, beta) = middle(points), x.tolist()
    return Surface(e, a * n0**alpha, b * d0**beta, alpha, beta)


def jacobian(points: Points, law: Surface) -> Array:
    """(n, 5) derivatives of the losses by the constants."""
    f, g = points.n**-law.alpha, points.d**-law.beta
    slopes = [np.ones_like(f), f, g, law.a * f * np.log(points.n), law.b * g * np.log(points.d)]
    return np.stack(slopes, -1)


def weights_of(points: Points, scatter: float) -> Array:
    """(n,) one over the variance of each loss: its Monte Carlo error, and a scatter that all runs share."""
    variance = points.stderr**2 + scatter**2
    if not variance.any():
        return np.ones(len(points))
    floor = 1e-3 * float(np.median(variance[variance > 0]))  # an exact loss among inexact ones does not decide alone
    return floor / np.maximum(variance, floor)


def scatter_of(points: Points) -> float:
    """Nats by which runs scatter around the best surface beyond the errors of their losses (standard deviation)."""
    return scatter_around(points, least_squares_surface(points, np.ones(len(points))))


def scatter_around(points: Points, law: Surface) -> float:
    """The same around a given surface."""
    left = points.loss - law(points.n, points.d)
    variance = (left**2).sum() / max(1, len(points) - 5) - (points.stderr**2).mean()
    return math.sqrt(max(0.0, variance))


def vanishing_terms(n: Array, d: Array, loss: Array, law: Surface) -> list[str]:
    """Which of E, A and B have no share in the losses: they are at 0, where a search never quite arrives."""
    shares = {"E": law.e, "A": np.mean(law.a * n**-law.alpha), "B": np.mean(law.b * d**-law.beta)}
    return [name for name, share in shares.items() if share < 1e-6 * loss.mean()]


def check(points: Points) -> None:
    """RemaskError where these runs cannot determine five constants."""
    if len(points) < 6:
        raise RemaskError(f"{len(points)} runs are too few for a law of five constants; it needs 6")
    for name, values in (("N", points.n), ("D", points.d)):
        if len(np.unique(values)) < 3:
            raise RemaskError(f"all runs have one or two values of {name}; a law in it needs 3")
    for name in ("n", "d", "loss"):
        values = getattr(points, name)
        wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(wrong):
            label = name.upper() if len(name) == 1 else name
            raise RemaskError(f"run {points.names[wrong[0]]} has {label} = {values[wrong[0]]:g}")


def without_each_budget(points: Points) -> dict[float, float]:
    """For each budget in FLOPs: root mean square error in nats of its losses, predicted by the surface of the others.

    Budgets without which no surface can be fitted are passed over. RemaskError for fewer than three budgets.
    """
    groups = budgets(points)
    if len(groups) < 3:
        raise RemaskError(f"{len(groups)} budgets: leaving one out needs 3")
    errors = {}
    for group in groups:
        rest = np.setdiff1d(np.arange(len(points)), group)
        try:
            law = surface(points.take(rest), draws=0).law
        except RemaskError:
            continue
        left = points.loss[group] - law(points.n[group], points.d[group])
        errors[math.exp(np.log(points.c[group]).mean())] = float(np.sqrt(np.mean(left**2)))
    return errors


def without_each_run(points: Points, law: Surface) -> list[Surface]:
    """The surface of all runs but one, for each run in turn."""
    weights = weights_of(points, scatter_of(points))
    return descend(points, law, weights * (1 - np.eye(len(points))), np.repeat(points.loss[None], len(points), 0))
