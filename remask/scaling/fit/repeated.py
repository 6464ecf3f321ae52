"""The law of repeated data: what a token is worth when it is read again.

L = E + A/N^alpha + B/D'^beta   with D' effective tokens, of U distinct ones that are each read e times:

saturating   D' = U (1 + R (1 - exp(-(e - 1)/R)))               Muennighoff et al. 2023; R repeats count in the end
turning      D' = U e^k exp(-((e - 1)/p)^q), p = P U^x / N^y    Ni et al. 2025; too many repeats do harm
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, least_squares

from remask.errors import RemaskError
from remask.scaling.fit.intervals import leave_one_out, percentiles, random_signs
from remask.scaling.fit.law import Surface
from remask.scaling.fit.points import Points
from remask.scaling.fit.surface import EXPONENTS, least_squares_surface, vanishing_terms, weights_of

Array = NDArray[np.float64]


def saturating(constants: Array, unique: Array, epochs: Array, n: Array) -> Array:
    """D' of constants (R,)."""
    (r,) = constants
    return unique * (1 - r * np.expm1(-(epochs - 1) / r))


def turning(constants: Array, unique: Array, epochs: Array, n: Array) -> Array:
    """D' of constants (k, q, P, x, y)."""
    k, q, p, x, y = constants
    peak = p * unique**x / n**y
    return unique * epochs**k * np.exp(-((np.maximum(0.0, epochs - 1) / peak) ** q))


@dataclass(frozen=True)
class Form:
    """A way of counting repeated tokens. All its constants are above 0."""

    name: str
    constants: tuple[str, ...]
    effective: Callable[[Array, Array, Array, Array], Array]
    low: tuple[float, ...]
    high: tuple[float, ...]
    starts: tuple[tuple[float, ...], ...]
    """Where their search begins, for U and N divided by their geometric means."""
    one_corpus: dict[str, float]
    """Constants that runs on one size of corpus cannot tell, and what they are then held at."""

    def bounds(self, points: Points) -> tuple[list[float], list[float]]:
        """Lowest and highest constants that are searched for these runs."""
        held = self.one_corpus if len(np.unique(points.unique)) == 1 else {}
        low, high = dict(zip(self.constants, self.low, strict=True)), dict(zip(self.constants, self.high, strict=True))
        low |= {name: value * (1 - 1e-6) for name, value in held.items()}
        high |= {name: value * (1 + 1e-6) for name, value in held.items()}
        return list(low.values()), list(high.values())


FORMS = {
    form.name: form
    for form in (
        Form("saturating", ("R",), saturating, (0.05,), (1e5,), ((0.5,), (3.0,), (20.0,), (150.0,), (2000.0,)), {}),
        Form(
            "turning",
            ("k", "q", "P", "x", "y"),
            turning,
            (0.05, 0.05, 1e-3, 1e-3, 1e-3),
            (5.0, 5.0, 1e9, 3.0, 3.0),
            tuple(product((0.8, 1.5), (0.4, 1.0), (5.0, 50.0, 500.0), (0.39,), (0.5,))),
            {"x": 0.39},
        ),
    )
}
EXPONENT_OF = {"x": "seen", "y": "n"}
"""Constants of `turning` that are powers of what is divided by its mean while P is searched for."""


@dataclass(frozen=True)
class Repeated:
    """L(N, U, epochs), nats a token."""

    law: Surface
    form: Form
    constants: tuple[float, ...]

    def effective(self, n: Array | float, unique: Array | float, epochs: Array | float) -> Array:
        """D', the fresh tokens that would teach as much."""
        given = (np.asarray(x, float) for x in (unique, epochs, n))
        return self.form.effective(np.array(self.constants), *given)

    def __call__(self, n: Array | float, unique: Array | float, epochs: Array | float) -> Array:
        """Nats per token of N parameters trained for so many epochs on U tokens."""
        return self.law(n, self.effective(n, unique, epochs))

    def best(self, c: float, unique: float) -> tuple[float, float, float]:
        """(N, epochs, loss) of least loss at C = 6 N D; below one epoch a part of the corpus is read. N to 1 %."""
        n = np.geomspace(1e2, max(1e4, 1e3 * c / 6 / unique), 3000)
        d = c / 6 / n
        loss = self(n, np.minimum(unique, d), np.maximum(1.0, d / unique))
        at = int(loss.argmin())
        return float(n[at]), float(d[at] / unique), float(loss[at])


@dataclass(frozen=True)
class RepeatedFit:
    """A law of repeated data with its resamples: what `draws` spreads over is its error."""

    law: Repeated
    draws: tuple[Repeated, ...]
    residuals: Array
    """loss - law, nats, run by run."""
    bounded: tuple[str, ...]
    """Constants on the edge of what was searched: not determined by these runs."""

    @property
    def names(self) -> tuple[str, ...]:
        """All constants."""
        return ("E", "A", "B", "alpha", "beta", *self.law.form.constants)

    def interval(self) -> dict[str, tuple[float, float]]:
        """The interval of each constant."""
        ends = percentiles([values(one) for one in self.draws])
        return {name: (float(low), float(high)) for name, low, high in zip(self.names, *ends, strict=True)}


def values(one: Repeated) -> tuple[float, ...]:
    """All constants, as `RepeatedFit.names` has them."""
    return (one.law.e, one.law.a, one.law.b, one.law.alpha, one.law.beta, *one.constants)


def repeated(points: Points, form: Form, draws: int = 200, seed: int = 0) -> RepeatedFit:
    """Fits a form to runs of one family, by least squares from several starts.

    Errors by giving each run its own residual back with a random sign, as `fit.surface` does; those of the losses and
    what runs scatter by beyond them are the weights. RemaskError where the runs cannot tell the constants.
    """
    enough(points, form)
    even = np.ones(len(points))
    near = [descend(points, form, even, [start], coarse=True)[0] for start in beginnings(points, form)]
    near.sort(key=lambda law: ((law(points.n, points.seen, points.epochs) - points.loss) ** 2).sum())
    first, _ = descend(points, form, even, near[:3])
    left = points.loss - first(points.n, points.seen, points.epochs)
    spare = max(1, len(points) - 5 - len(form.constants))
    scatter = max(0.0, (left**2).sum() / spare - (points.stderr**2).mean())
    weights = weights_of(points, math.sqrt(scatter))
    law, slopes = descend(points, form, weights, [first])
    fitted = law(points.n, points.seen, points.epochs)
    rng, noise = np.random.default_rng(seed), leave_one_out(points.loss - fitted, slopes)
    resampled = []
    for _ in range(draws):
        loss = fitted + noise * random_signs(rng, (len(points),))
        resampled.append(descend(replace(points, loss=loss), form, weights, [law], coarse=True)[0])
    edges = zip(("alpha", "beta"), (EXPONENTS[0],) * 2, (EXPONENTS[-1],) * 2, values(law)[3:5], strict=True)
    inner = dict(zip(form.constants, law.constants, strict=True))
    inner |= {"P": inner["P"] / scale(points, inner)} if "P" in inner else {}
    ends = [*edges, *zip(form.constants, *form.bounds(points), inner.values(), strict=True)]
    bounded = [name for name, low, high, value in ends if not low * 1.02 < value < high / 1.02]
    effective = law.effective(points.n, points.seen, points.epochs)
    bounded += vanishing_terms(points.n, effective, points.loss, law.law)
    return RepeatedFit(law, tuple(resampled), points.loss - fitted, tuple(bounded))


def enough(points: Points, form: Form) -> None:
    """Raises where the constants of a form cannot be told from these runs."""
    count = 6 + len(form.constants)
    if len(points) < count:
        raise RemaskError(f"{len(points)} runs are too few for the {form.name} law of repeated data; it needs {count}")
    if not np.isfinite(points.unique).all():
        raise RemaskError("a law of repeated data needs how many distinct tokens each run had: a column U")
    if len(np.unique(np.round(points.epochs, 1))) < 3:
        raise RemaskError("all runs have one or two numbers of epochs; a law of repeated data needs 3")
    if len(np.unique(points.n)) < 2:
        raise RemaskError("all runs have one N; a law of repeated data needs 2")


def beginnings(points: Points, form: Form) -> list[Repeated]:
    """For each start of a form's constants, the surface that is best there."""
    found = []
    for start in form.starts:
        constants = outwards(points, form, start)
        effective = form.effective(np.array(constants), points.seen, points.epochs, points.n)
        if not (np.isfinite(effective) & (effective > 1e-100)).all():
            continue
        law = least_squares_surface(replace(points, d=effective), np.ones(len(points)))
        found.append(Repeated(law, form, constants))
    return found


def outwards(points: Points, form: Form, inner: tuple[float, ...]) -> tuple[float, ...]:
    """Constants for U and N divided by their geometric means -> constants for U and N as they are."""
    named = dict(zip(form.constants, inner, strict=True))
    if "P" in named:
        named["P"] *= scale(points, named)
    return tuple(named.values())


def scale(points: Points, named: dict[str, float]) -> float:
    """What P is multiplied by when U and N are no longer divided by their means."""
    u, n = (math.exp(np.log(getattr(points, EXPONENT_OF[key])).mean()) for key in ("x", "y"))
    return n ** named["y"] / u ** named["x"]


def descend(
    points: Points, form: Form, weights: Array, starts: list[Repeated], coarse: bool = False
) -> tuple[Repeated, Array]:
    """The best of the descents from `starts`, and each run's leverage on it."""
    n0, d0 = (math.exp(np.log(x).mean()) for x in (points.n, points.d))
    u0 = math.exp(np.log(points.seen).mean())
    root = np.sqrt(weights)
    inside = points.seen / u0, points.epochs, points.n / n0
    least, most = form.bounds(points)
    low = np.array([0.0, 0.0, 0.0, *np.log([EXPONENTS[0], EXPONENTS[0], *least])])
    high = np.array([np.inf, np.inf, np.inf, *np.log([EXPONENTS[-1], EXPONENTS[-1], *most])])

    def left(x: Array) -> Array:
        alpha, beta, *rest = np.exp(x[3:])
        tokens = np.maximum(form.effective(np.array(rest), *inside), 1e-100) * (u0 / d0)
        return root * (x[0] + x[1] * inside[2] ** -alpha + x[2] * tokens**-beta - points.loss)

    tolerance = 1e-8 if coarse else 1e-15
    how: dict[str, Any] = {"bounds": (low, high), "x_scale": "jac", "jac": "2-point" if coarse else "3-point"}
    how |= {"ftol": tolerance, "xtol": tolerance, "gtol": tolerance, "max_nfev": 50 if coarse else 2000}
    best = None
    for start in starts:
        law, named = start.law, dict(zip(form.constants, start.constants, strict=True))
        if "P" in named:
            named["P"] /= scale(points, named)
        first = [law.e, law.a * n0**-law.alpha, law.b * d0**-law.beta]
        first += list(np.log([law.alpha, law.beta, *named.values()]))
        with np.errstate(over="ignore"):  # of far guesses, which are not taken
            found = least_squares(left, np.clip(first, low, high), **how)
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    alpha, beta, *rest = np.exp(best.x[3:]).tolist()
    e, a, b = best.x[:3].tolist()
    law = Surface(e, a * n0**alpha, b * d0**beta, alpha, beta)
    return Repeated(law, form, outwards(points, form, tuple(rest))), best.jac


def crossing(early: Repeated, late: Repeated, unique: float, low: float = 1e9, high: float = 1e26) -> float:
    """FLOPs from which on `late` has the lower best loss on `unique` tokens; 0 where always, inf where never.

    Both at their best size and number of epochs for that compute (Prabhudesai et al. 2025).
    """

    def lead(log_c: float) -> float:
        c = math.exp(log_c)
        return early.best(c, unique)[2] - late.best(c, unique)[2]

    grid = np.log(np.geomspace(max(low, 6e3 * unique), max(high, 6e4 * unique), 120))
    ahead = np.array([lead(x) for x in grid]) > 0
    last = np.flatnonzero(~ahead)
    if ahead.all() or not ahead[-1]:
        return 0.0 if ahead.all() else math.inf
    root: Any = brentq(lead, float(grid[last[-1]]), float(grid[last[-1] + 1]), xtol=1e-4)
    return math.exp(root)
