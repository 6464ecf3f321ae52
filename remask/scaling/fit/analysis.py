"""Every law of every family of a source, with its errors: what `remask scale fit` and `remask scale report` show."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from remask.errors import RemaskError
from remask.scaling.fit.huber import huber
from remask.scaling.fit.intervals import Fit
from remask.scaling.fit.isoflop import IsoFLOP, isoflop
from remask.scaling.fit.law import Surface
from remask.scaling.fit.points import FRESH, Points, find_diverged, fresh
from remask.scaling.fit.repeated import FORMS, RepeatedFit, repeated
from remask.scaling.fit.source import read_source
from remask.scaling.fit.surface import surface, without_each_budget, without_each_run

MOVED = 1e-4
"""An exponent that moves by less than this has not moved, however narrow its interval is."""


@dataclass(frozen=True)
class Summary:
    """The fits of one family."""

    points: Points
    """The runs that have not diverged."""
    fresh: Points
    """Those of them that do not repeat their corpus, which laws without epochs are fitted to."""
    dropped: tuple[str, ...]
    """Names of runs that diverged, or have no loss."""
    parabolas: IsoFLOP | None
    surface: Fit | None
    huber: Surface | None
    """The surface by the published recipe."""
    left_out: dict[float, float] | None
    """For each budget in FLOPs: root mean square error of its losses, predicted by the others, nats."""
    repeated: dict[str, RepeatedFit]
    """Laws of repeated data, by the name of their form; none where no run repeats its corpus."""
    missing: tuple[str, ...]
    """Why a fit is not there."""


@dataclass(frozen=True)
class Analysis:
    """The fits of all families of a source."""

    families: dict[str, Summary]
    notes: list[str]
    """How a table was read, where it left something open."""


def analyse(
    source: Path, draws: int, seed: int, target: float | None, columns: str = "", any_size: bool = False
) -> Analysis:
    """Fits every family of a source, each with resamples of its own. RemaskError for numbers out of range."""
    if not 0 <= draws <= 10**5:
        raise RemaskError(f"draws is {draws}; it must be 0 to {10**5}")
    if not 0 <= seed < 2**32:
        raise RemaskError(f"seed is {seed}; it must be 0 to {2**32 - 1}")
    if target is not None and not 0 < target < math.inf:
        raise RemaskError(f"target is {target}; it must be above 0, and finite")
    found = read_source(Path(source), columns, any_size)
    families = {name: summarise(points, draws, seed, i) for i, (name, points) in enumerate(found.families.items())}
    return Analysis(families, found.notes)


def summarise(points: Points, draws: int = 200, seed: int = 0, family: int = 0) -> Summary:
    """All fits that the runs of one family allow. Families, by number, have resamples of their own."""
    own = np.random.SeedSequence((seed, family)).generate_state(1).tolist()[0]
    bad, once, missing = find_diverged(points), fresh(points), []
    kept = points.take(~bad)

    def attempt(fit: Any, *options: Any) -> Any:
        try:
            return fit(*options)
        except RemaskError as error:
            missing.append(str(error))

    return Summary(
        points=kept,
        fresh=once,
        dropped=tuple(name for name, out in zip(points.names, bad, strict=True) if out),
        parabolas=attempt(isoflop, once, draws, own),
        surface=attempt(surface, once, draws, own),
        huber=attempt(huber, once),
        left_out=attempt(without_each_budget, once),
        repeated={
            name: law
            for name, form in (FORMS.items() if repeats(kept) else ())
            if (law := attempt(repeated, kept, form, draws, own)) is not None
        },
        missing=tuple(dict.fromkeys(missing)),
    )


def repeats(points: Points) -> bool:
    """Whether some run reads its corpus more often than repeats count as fresh."""
    return bool(np.isfinite(points.unique).all() and (points.epochs > FRESH).any())


def best_epochs(points: Points, scatter: float = 0.01) -> list[dict[str, Any]]:
    """For each size on one corpus, the number of epochs that is best, the most there are, and whether those do harm.

    They do where their loss is larger by more than twice the errors, among which is an assumed noise between seeds of
    `scatter` nats.
    """
    found = []
    for n, unique in sorted({*zip(points.n.tolist(), points.unique.tolist(), strict=True)}):
        own = points.take((points.n == n) & (points.unique == unique))
        if len(np.unique(own.epochs)) < 2:
            continue
        best, last = int(own.loss.argmin()), int(own.epochs.argmax())
        error = math.sqrt(own.stderr[best] ** 2 + own.stderr[last] ** 2 + scatter**2)
        harm = bool(own.loss[last] - own.loss[best] > 2 * error)
        found.append({"N": n, "best": float(own.epochs[best]), "most": float(own.epochs[last]), "harm": harm})
    return found


def influential(s: Summary) -> list[dict[str, Any]]:
    """Runs without which an exponent lies outside its interval: what the fit owes to a single run (leave-one-out)."""
    found = []

    def compare(name: str, interval: tuple[float, float] | None, without: list[float | None]) -> None:
        for run, value in zip(s.fresh.names, without, strict=True):
            if interval and value is not None and not interval[0] - MOVED < value < interval[1] + MOVED:
                found.append({"run": run, "exponent": name, "without": value})

    if s.surface is not None and s.surface.draws:
        laws = without_each_run(s.fresh, s.surface.law)
        for name in ("alpha", "beta", "size_exponent"):
            compare(name, s.surface.interval(name), [getattr(law, name) for law in laws])
    if s.parabolas is not None:
        others = [without_run(s.fresh, i) for i in range(len(s.fresh))]
        for name, field in (("N_of_C", "size"), ("loss_of_C", "loss")):
            law = getattr(s.parabolas, field)
            powers = [getattr(one, field) if one is not None else None for one in others]
            compare(name, law and law.interval(), [one and one.p for one in powers])
    return found


def without_run(points: Points, i: int) -> IsoFLOP | None:
    """The parabolas of all runs but one; None where they are too few."""
    try:
        return isoflop(points.take(np.arange(len(points)) != i), draws=0)
    except RemaskError:
        return None
