"""An analysis as plain data: what `--json` prints, and what the text and the page are written from."""

import math
from itertools import permutations
from typing import Any

import numpy as np
from scipy.optimize import brentq

from remask.scaling.fit.analysis import Analysis, Summary, best_epochs, influential
from remask.scaling.fit.intervals import LEVEL, Fit, percentiles
from remask.scaling.fit.isoflop import IsoFLOP, gap
from remask.scaling.fit.law import Surface
from remask.scaling.fit.points import Points
from remask.scaling.fit.repeated import RepeatedFit, crossing, values

CROSSING_DRAWS = 50
"""Resamples behind the interval of a crossing, each of which is a search."""
EXPONENTS = ("alpha", "beta")
CONSTANTS = {"E": "e", "A": "a", "B": "b", "alpha": "alpha", "beta": "beta", "size_exponent": "size_exponent"}
"""Constants of the surface: as they are printed, and as fields of `Surface`."""


def describe(found: Analysis, target: float | None = None) -> dict[str, Any]:
    """Everything as plain data. `target`: FLOPs to predict at; ten times the largest budget where None."""
    return {
        "flops": next(iter(found.families.values())).points.convention,
        "level": LEVEL,
        "notes": found.notes,
        "families": {name: describe_family(summary, target) for name, summary in found.families.items()},
        "gaps": gaps(found.families),
        "crossings": crossings(found.families),
    }


def describe_family(s: Summary, target: float | None) -> dict[str, Any]:
    """One family as plain data; what could not be fitted is not in it."""
    found: dict[str, Any] = {
        "runs": len(s.points),
        "fresh": len(s.fresh),
        "spent": float(s.points.c.sum()),
        "left_out_runs": list(s.dropped),
        "missing": list(s.missing),
    }
    if s.parabolas is not None:
        found["budgets"] = [
            {"C": p.c, "N": p.n, "loss": p.loss, "runs": len(p.index), "bracketed": p.bracketed}
            for p in s.parabolas.parabolas
        ]
        for name, law in (("N", s.parabolas.size), ("loss", s.parabolas.loss)):
            if law is not None:
                interval = law.interval()
                found[f"{name}_of_C"] = {"k": law.k, "exponent": law.p, "interval": interval and list(interval)}
    if s.surface is not None:
        found["surface"] = describe_surface(s, s.surface, target)
    if s.huber is not None:
        found["huber"] = {name: getattr(s.huber, key) for name, key in list(CONSTANTS.items())[:5]}
    if s.left_out is not None:
        found["predicted_by_the_others"] = [{"C": c, "error": error} for c, error in s.left_out.items()]
    if moving := influential(s):
        found["influential"] = moving
    if s.repeated:
        found["repeated"] = {name: describe_repeated(fitted) for name, fitted in s.repeated.items()}
        found["epochs"] = best_epochs(s.points)
    return found


def describe_surface(s: Summary, fitted: Fit, target: float | None) -> dict[str, Any]:
    """The surface with its intervals, its residuals, and what it predicts at the target."""
    law, size = fitted.law, np.abs(fitted.residuals)
    wanted = 10 * float(s.points.c.max()) if target is None else target
    return {
        **{name: getattr(law, key) for name, key in CONSTANTS.items()},
        "intervals": {key: list(fitted.interval(key)) if fitted.draws else None for key in CONSTANTS.values()},
        "joint": {k: list(v) for k, v in fitted.joint(EXPONENTS).items()} if fitted.draws else None,
        "correlation": fitted.correlation(*EXPONENTS) if fitted.draws else None,
        "on_the_edge": list(fitted.bounded),
        "residual": float(np.sqrt(np.mean(fitted.residuals**2))),
        "largest_residual": float(size.max()),
        "largest_residual_run": s.fresh.names[int(size.argmax())],
        "best_at": None
        if set(fitted.bounded) - {"E"}
        else {"target": wanted, **predict(fitted, to_6nd(s.points, law, wanted))},
    }


def to_6nd(points: Points, law: Surface, c: float) -> float:
    """Converts FLOPs as the runs count them to 6 N D of the best network at that compute.

    What attention, head and second streams cost for each of 6 N D falls with a power of N, which the runs tell.
    """
    more = points.c / (6 * points.n * points.d) - 1
    if (more < 0.02).any():
        return c
    power, height = np.polyfit(np.log(points.n), np.log(more), 1)

    def excess(log_c: float) -> float:
        return log_c + math.log1p(math.exp(height) * law.best(math.exp(log_c))[0] ** power) - math.log(c)

    root: Any = brentq(excess, math.log(c) - 20, math.log(c))
    return math.exp(root)


def predict(fitted: Fit, c: float) -> dict[str, Any]:
    """Best size, tokens and loss at C = 6 N D, with the intervals of the resamples."""
    n, d, loss = fitted.law.best(c)
    found: dict[str, Any] = {"C": c, "N": n, "D": d, "loss": loss}
    usable = [one.best(c) for one in fitted.draws if one.a > 0 and one.b > 0]
    if usable:
        ends = percentiles(usable).T.tolist()
        found["intervals"] = dict(zip(("N", "D", "loss"), ends, strict=True))
    return found


def describe_repeated(fitted: RepeatedFit) -> dict[str, Any]:
    """A law of repeated data as plain data."""
    return {
        **dict(zip(fitted.names, values(fitted.law), strict=True)),
        "intervals": {k: list(v) for k, v in fitted.interval().items()} if fitted.draws else None,
        "on_the_edge": list(fitted.bounded),
        "residual": float(np.sqrt(np.mean(fitted.residuals**2))),
    }


def gaps(families: dict[str, Summary]) -> list[dict[str, Any]]:
    """For every two families: how many times the compute one needs for the other's loss, where both have a law."""
    laws = {k: (s.parabolas.loss, ends(s.parabolas)) for k, s in families.items() if s.parabolas and s.parabolas.loss}
    found = []
    for fast, slow in permutations(laws, 2):
        (quick, (low, high)), (other, (least, most)) = laws[fast], laws[slow]
        c = math.sqrt(max(low, least) * min(high, most))
        times, interval = gap(other, quick, c)
        if times >= 1:
            inside = low <= 1.01 * c and c <= 1.01 * high and times * c <= 1.01 * most
            about = {"slow": slow, "fast": fast, "at": c, "times": times, "interval": interval and list(interval)}
            found.append({**about, "extrapolated": not inside})
    return found


def ends(found: IsoFLOP) -> tuple[float, float]:
    """The least and the largest budget that laws go through."""
    kept = [p.c for p in found.parabolas if p.bracketed]
    return min(kept), max(kept)


def crossings(families: dict[str, Summary]) -> list[dict[str, Any]]:
    """For every two families with a saturating law and each corpus of both: from which compute on one is ahead."""
    laws = {name: s for name, s in families.items() if "saturating" in s.repeated}
    found = []
    for early, late in permutations(laws, 2):
        for u in sorted(set(laws[early].points.unique) & set(laws[late].points.unique)):
            pair = [laws[name].repeated["saturating"] for name in (early, late)]
            c = crossing(pair[0].law, pair[1].law, u)
            if not 0 < c < math.inf:
                continue
            many = [crossing(a, b, u) for a, b in zip(*(one.draws[:CROSSING_DRAWS] for one in pair), strict=False)]
            interval = percentiles(many, method="nearest").tolist() if many else None
            found.append({"early": early, "late": late, "U": float(u), "C": c, "interval": interval})
    return found
