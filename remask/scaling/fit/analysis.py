"""What a study says: every fit of every family, with intervals, as plain data and as text."""

import math
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from remask.errors import RemaskError
from remask.scaling.fit.huber import huber
from remask.scaling.fit.isoflop import IsoFLOP, gap, isoflop
from remask.scaling.fit.points import FRESH, LEVEL, Points, diverged, fresh, read
from remask.scaling.fit.repeated import FORMS, RepeatedFit, crossing, repeated, values
from remask.scaling.fit.surface import Fit, Surface, left_out, surface


@dataclass(frozen=True)
class Summary:
    """The fits of one family."""

    points: Points
    """The runs that have not diverged."""
    fresh: int
    """How many of them do not repeat their corpus, and are what laws without epochs are fitted to."""
    dropped: tuple[str, ...]
    """Names of runs that had diverged."""
    parabolas: IsoFLOP | None
    surface: Fit | None
    huber: Surface | None
    """The surface by the published recipe."""
    left_out: dict[float, float] | None
    """Of each budget, in FLOPs: root mean square error of its losses, predicted by the others, nats."""
    repeated: dict[str, RepeatedFit]
    """Laws of repeated data, by the name of their form; none where no run repeats its corpus."""
    missing: tuple[str, ...]
    """Why a fit is not there."""


def summarised(points: Points, draws: int = 200, seed: int = 0, family: int = 0) -> Summary:
    """All fits that the runs of one family allow. Each `family`, by number, draws resamples of its own."""
    bad, own = diverged(points), np.random.SeedSequence((seed, family)).generate_state(1).tolist()[0]
    kept, once, missing = points.take(~bad), fresh(points), []
    found: dict[str, Any] = {"parabolas": None, "surface": None, "huber": None, "left_out": None}
    for name, fit in (
        ("parabolas", lambda: isoflop(once, draws, own)),
        ("surface", lambda: surface(once, draws, own)),
        ("huber", lambda: huber(once)),
        ("left_out", lambda: left_out(once)),
    ):
        try:
            found[name] = fit()
        except RemaskError as error:
            missing.append(str(error))
    laws = {}
    for name, form in FORMS.items() if repeats(kept) else ():
        try:
            laws[name] = repeated(kept, form, draws, own)
        except RemaskError as error:
            missing.append(str(error))
    names = tuple(name for name, out in zip(points.names, bad, strict=True) if out)
    return Summary(kept, len(once), names, **found, repeated=laws, missing=tuple(dict.fromkeys(missing)))


def studied(source: Path, draws: int, seed: int, target: float | None) -> dict[str, Summary]:
    """All fits of every family of a source. RemaskError for numbers out of range."""
    if not 0 <= draws <= 10**5:
        raise RemaskError(f"draws is {draws}; it must be 0 to {10**5}")
    if not 0 <= seed < 2**32:
        raise RemaskError(f"seed is {seed}; it must be 0 to {2**32 - 1}")
    if target is not None and not 0 < target < math.inf:
        raise RemaskError(f"target is {target}; it must be above 0, and finite")
    return {name: summarised(points, draws, seed, i) for i, (name, points) in enumerate(read(Path(source)).items())}


def repeats(points: Points) -> bool:
    """Whether some run reads its corpus more often than repeats count as fresh."""
    return bool(np.isfinite(points.unique).all() and (points.epochs > FRESH).any())


def fit(
    source: Path, target: float | None = None, draws: int = 200, seed: int = 0, json: bool = False
) -> dict[str, Any]:
    """Fits scaling laws to finished runs.

    Args:
        source: Folder of run directories, or a CSV with columns N, D or C, loss, and if known family, stderr, U.
        target: FLOPs to predict the best size and loss at; ten times the largest budget by default.
        draws: Resamples behind the intervals.
        seed: Of the resamples.
        json: Print one JSON document on standard output, and nothing else.
    """
    families = studied(source, draws, seed, target)
    found = document(families, target)
    if json:
        from remask.terminal import document as printed

        print(printed(found))
    else:
        print(text(found))
    return found


def document(families: dict[str, Summary], target: float | None = None) -> dict[str, Any]:
    """Everything as plain data."""
    return {
        "flops": next(iter(families.values())).points.of,
        "level": LEVEL,
        "families": {name: of_family(summary, target) for name, summary in families.items()},
        "gaps": gaps(families),
        "crossings": crossings(families),
    }


def of_family(s: Summary, target: float | None) -> dict[str, Any]:
    """One family as plain data."""
    found: dict[str, Any] = {
        "runs": len(s.points),
        "fresh": s.fresh,
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
        law = s.surface.law
        wanted = 10 * float(s.points.c.max()) if target is None else target
        found["surface"] = {
            "E": law.e, "A": law.a, "B": law.b, "alpha": law.alpha, "beta": law.beta,
            "size_exponent": law.size_exponent,
            "intervals": {k: list(s.surface.interval(k)) if s.surface.draws else None for k in CONSTANTS},
            "joint": {k: list(v) for k, v in s.surface.joint(EXPONENTS).items()} if s.surface.draws else None,
            "correlation": s.surface.correlation(*EXPONENTS) if s.surface.draws else None,
            "on_the_edge": list(s.surface.bounded),
            "residual": float(np.sqrt(np.mean(s.surface.residuals**2))),
            "largest_residual": float(np.abs(s.surface.residuals).max()),
            "best_at": None
            if set(s.surface.bounded) - {"E"}
            else {"target": wanted, **best(s.surface, plain(s.points, law, wanted))},
        }  # fmt: skip
    if s.huber is not None:
        found["huber"] = {name: getattr(s.huber, key) for key, name in zip(CONSTANTS[:5], NAMES[:5], strict=True)}
    if s.left_out is not None:
        found["predicted_by_the_others"] = [{"C": c, "error": error} for c, error in s.left_out.items()]
    if s.repeated:
        found["repeated"] = {name: of_repeated(fitted) for name, fitted in s.repeated.items()}
    return found


def plain(points: Points, law: Surface, c: float) -> float:
    """6 N D of the best network at `c` FLOPs as the runs count them: attention, head and second readings taken off.

    What these are for each of 6 N D falls with a power of N, which the runs tell.
    """
    more = points.c / (6 * points.n * points.d) - 1
    if (more < 0.02).any():
        return c
    power, height = np.polyfit(np.log(points.n), np.log(more), 1)
    found = c
    for _ in range(50):
        found = c / (1 + math.exp(height) * law.best(found)[0] ** power)
    return found


def of_repeated(fitted: RepeatedFit) -> dict[str, Any]:
    """A law of repeated data as plain data."""
    return {
        **dict(zip(fitted.names, values(fitted.law), strict=True)),
        "intervals": {k: list(v) for k, v in fitted.interval().items()} if fitted.draws else None,
        "on_the_edge": list(fitted.bounded),
        "residual": float(np.sqrt(np.mean(fitted.residuals**2))),
    }


RULE = "no finite loss, or a nat above a run with no more parameters and no more tokens"
DRAWN = 50
"""Resamples behind the interval of a crossing, each of which is a search."""
EXPONENTS = ("alpha", "beta")
CONSTANTS = ("e", "a", "b", "alpha", "beta", "size_exponent")
NAMES = ("E", "A", "B", "alpha", "beta", "size_exponent")


def best(fitted: Fit, c: float) -> dict[str, Any]:
    """Best size, tokens and loss at C, with intervals carried over together."""
    n, d, loss = fitted.law.best(c)
    found: dict[str, Any] = {"C": c, "N": n, "D": d, "loss": loss}
    usable = [one for one in fitted.draws if one.a > 0 and one.b > 0]
    if usable:
        many = np.array([one.best(c) for one in usable])
        low, high = np.quantile(many, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        found["intervals"] = {k: [float(a), float(b)] for k, a, b in zip(("N", "D", "loss"), low, high, strict=True)}
    return found


def gaps(families: dict[str, Summary]) -> list[dict[str, Any]]:
    """For every two families: how many times the compute one needs for the other's loss, where both have a law."""
    laws = {name: s for name, s in families.items() if s.parabolas is not None and s.parabolas.loss is not None}
    found = []
    for fast, a in laws.items():
        for slow, b in laws.items():
            assert a.parabolas is not None and b.parabolas is not None
            if fast == slow or a.parabolas.loss is None or b.parabolas.loss is None:
                continue
            ends = [known(x) for x in (a.parabolas, b.parabolas)]
            c = math.sqrt(max(low for low, _ in ends) * min(high for _, high in ends))
            times, interval = gap(b.parabolas.loss, a.parabolas.loss, c)
            if times >= 1:
                about = {"slow": slow, "fast": fast, "at": c, "times": times, "interval": interval and list(interval)}
                inside = ends[0][0] <= 1.01 * c and c <= 1.01 * ends[0][1] and times * c <= 1.01 * ends[1][1]
                found.append({**about, "extrapolated": not inside})
    return found


def known(found: IsoFLOP) -> tuple[float, float]:
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
            many = [crossing(a, b, u) for a, b in zip(*(one.draws[:DRAWN] for one in pair), strict=False)]
            ends = np.quantile(many or [math.nan], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
            interval = [float(x) for x in ends] if many else None
            found.append({"early": early, "late": late, "U": float(u), "C": c, "interval": interval})
    return found


def text(found: dict[str, Any]) -> str:
    """The same, to be read."""
    lines = [
        f"FLOPs are {found['flops']}; intervals hold {found['level']:.0%} of the resamples; losses are nats a token."
    ]
    for name, of in found["families"].items():
        lines += ["", f"{name or 'runs'}: {of['runs']} runs"]
        if of["fresh"] < of["runs"]:
            lines.append(f"  of them {of['fresh']} of at most {FRESH:g} epochs, for laws without epochs")
        if of["left_out_runs"]:
            lines.append(f"  left out, as diverged ({RULE}): {', '.join(of['left_out_runs'])}")
        for b in of.get("budgets", ()):
            where = "" if b["bracketed"] else "   not bracketed by the sizes tried: left out of the laws"
            lines.append(f"  C {b['C']:.2e}   best N {b['N']:.3g}   loss {b['loss']:.4f}   {b['runs']} runs{where}")
        for what in ("N", "loss"):
            if law := of.get(f"{what}_of_C"):
                lines.append(f"  {what} = {law['k']:.4g} C^{law['exponent']:.4f} {span(law['interval'])}")
        if law := of.get("surface"):
            i = law["intervals"]
            lines.append("  L = E + A/N^alpha + B/D^beta:")
            for key, label in zip(CONSTANTS, NAMES, strict=True):
                lines.append(f"    {label:<13} {law[label]:<10.4g} {span(i[key])}")
            if both := law["joint"]:
                ends = " and ".join(f"{name} {span(both[name])}" for name in EXPONENTS)
                lines.append(f"    both at once  {ends}; correlation {law['correlation']:.2f}")
            lines.append(f"    residuals     {law['residual']:.4f} (largest {law['largest_residual']:.4f})")
            if law["on_the_edge"]:
                lines.append(f"    not determined by these runs: {', '.join(law['on_the_edge'])}")
            if at := law["best_at"]:
                more = f"   loss {span(at['intervals']['loss'])}" if "intervals" in at else ""
                counted = f" (of {at['target']:.2e} as counted)" if at["target"] > 1.02 * at["C"] else ""
                where = f"    at C = 6 N D = {at['C']:.2e}{counted}: N {at['N']:.3g}, D {at['D']:.3g}"
                lines.append(f"{where}, loss {at['loss']:.4f}{more}")
        if law := of.get("huber"):
            lines.append(f"  by the Huber recipe: {', '.join(f'{k} {v:.4g}' for k, v in law.items())}")
        for name, law in of.get("repeated", {}).items():
            lines += repeats_text(name, law)
        if apart := of.get("predicted_by_the_others"):
            each = ", ".join(f"{one['C']:.1e} within {one['error']:.4f}" for one in apart)
            lines.append(f"  budgets predicted by the others: {each}")
        lines += [f"  {reason}" for reason in of["missing"]]
    for g in found["gaps"]:
        lines.append(
            f"\n{g['slow']} needs {g['times']:.3g} times {span(g['interval'])} the compute of {g['fast']} "
            f"for the loss that has at {g['at']:.2e}"
            + (", beyond the budgets that the laws go through: extrapolated" if g["extrapolated"] else "")
        )
    for x in found["crossings"]:
        where = f"{x['C']:.3g} {span(x['interval'])} FLOPs"
        lines.append(f"\nOn {x['U']:.3g} distinct tokens {x['late']} passes {x['early']} at {where}")
    return "\n".join(lines)


def repeats_text(name: str, law: dict[str, Any]) -> list[str]:
    """The lines of a law of repeated data."""
    ends = law["intervals"] or {}
    shown = [f"{k} = {law[k]:.4g} {span(ends.get(k))}".rstrip() for k in FORMS[name].constants]
    shown += [f"{k} = {law[k]:.4g} {span(ends.get(k))}".rstrip() for k in ("E", *EXPONENTS)]
    lines = [f"  repeated data, {name}: {', '.join(shown)}   residuals {law['residual']:.4f}"]
    if law["on_the_edge"]:
        lines.append(f"    not determined by these runs: {', '.join(law['on_the_edge'])}")
    return lines


def span(interval: list[float] | None) -> str:
    """An interval in brackets."""
    return f"[{interval[0]:.4g}, {interval[1]:.4g}]" if interval else ""
