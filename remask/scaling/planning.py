"""What to run for a scaling law: families x budgets x sizes, as a table that is kept beside its runs.

    remask scale plan --data data/novels --families '["Autoregressive","Masked:objective=low_variance"]' \\
      --budgets '[1e13,3e13,1e14]' --out studies/novels

Sizes of a budget stand around the best one, which is a published law's at first; planning again with more budgets
moves it to where the finished ones have it. Runs that are there already stay as they are.
"""

import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from remask.data.tokens import open_tokens
from remask.errors import RemaskError, unknown
from remask.families import Family, families
from remask.locking import locked
from remask.options import parse_options
from remask.scaling.fit.isoflop import isoflop
from remask.scaling.fit.points import Points, fresh
from remask.scaling.fit.published import SURFACES
from remask.scaling.fit.surface import Surface
from remask.scaling.plan import sharing
from remask.scaling.plan.ladder import ladder
from remask.scaling.plan.settings import Settings
from remask.scaling.plan.study import FILE, Convention, Plan, Run
from remask.scaling.plan.timing import Speeds
from remask.terminal import duration

Rule = Literal["kaplan", "constant"]


def plan(
    data: Path,
    out: Path,
    families: list[str] = ["Autoregressive", "Masked"],  # noqa: B006
    budgets: list[float] = [1e13, 3e13, 1e14],  # noqa: B006
    epochs: list[float] = [],  # noqa: B006
    parameters: list[float] = [],  # noqa: B006
    sizes: int = 5,
    spread: float = 2.0,
    law: str | None = None,
    flops: Convention = "6ND",
    length: int = 256,
    batch: int = 8,
    validation_rows: int = 4096,
    rule: Rule = "kaplan",
    share: bool = False,
    lr: float = 1e-3,
    time: bool = True,
    json: bool = False,
) -> Plan:
    """Plans a study of scaling.

    Args:
        data: Folder made by `remask prepare`.
        out: Folder of the study. A plan that is there is added to; a budget whose finished runs do not bracket their
            minimum gets two sizes more.
        families: Families with their options, as '["Autoregressive","Masked:objective=low_variance"]'.
        budgets: Training FLOPs of each IsoFLOP curve, as '[1e13,3e13]'.
        epochs: For a study of repeated data, in place of budgets: how often the corpus is read, as '[1,4,16]'.
        parameters: For a study of repeated data: the sizes of its networks, without embeddings, as '[1e5,4e5]'.
        sizes: Networks on each curve.
        spread: Each is so many times as large as the one before.
        law: Where the best size is looked for: chinchilla, chinchilla-corrected or quokka; by default the second for
            autoregressive and the third for diffusion models.
        flops: What a budget counts: 6ND, with N non-embedding parameters, or exact, all matrix products.
        length: Tokens in a row.
        batch: Rows of a step.
        validation_rows: Rows that every run is scored on at its end, with the same noise; many, since differences
            between sizes are small.
        rule: Learning rates: kaplan, 0.003239 - 0.0001395 ln N (Kaplan et al. 2020); or constant.
        lr: The learning rate of rule constant; rule kaplan is multiplied by lr/1e-3.
        share: Let runs of one size share their steps before the decay: schedule wsd, and the same sizes at all budgets.
        time: Time a few steps to predict hours.
        json: Print one JSON document on standard output, and nothing else.
    """
    check(budgets, epochs, parameters, spread, lr)
    least = {"sizes": (sizes, 3), "length": (length, 2), "batch": (batch, 1), "validation_rows": (validation_rows, 1)}
    for name, (value, low) in least.items():
        if value < low:
            raise RemaskError(f"{name} is {value}; it must be at least {low}")
    prepared = open_tokens(data)
    for name, split in (("training", prepared.train), ("validation", prepared.valid)):
        if len(split) < length:
            raise RemaskError(
                f"the {name} split of {data} has {len(split):,} tokens, which is less than a row of {length}"
            )
    if not families:
        raise RemaskError("families is empty; give one at least")
    wanted = {spec: family_of(spec) for spec in families}
    if share:
        for spec, family in wanted.items():
            sharing.check(spec, family)
    with locked(out, "running or planning the study") if out.is_dir() else nullcontext():
        before = Plan.load(out) if (out / FILE).exists() else None
        common = {"corpus": prepared.manifest["fingerprint"], "convention": flops, "length": length}
        common["validation_rows"] = validation_rows
        common["rule"] = f"constant, {lr:g}" if rule == "constant" else f"kaplan, times {lr / 1e-3:g}"
        if before is not None:
            there = {k: getattr(before, k) for k in common}
            other = [f"{k} {there[k]} there, {v} now" for k, v in common.items() if there[k] != v and there[k] != ""]
            if other:
                raise RemaskError(f"{out} is another study: {'; '.join(other)}. Choose another --out")
        kept = list(before.runs) if before is not None else []

        def rates(n: int) -> float:
            kaplan = 0.003239 - 0.0001395 * math.log(n)
            if rule == "kaplan" and kaplan < 1e-5:
                raise RemaskError(f"rule kaplan has no learning rate for {n:,} parameters; take --rule constant")
            return lr if rule == "constant" else lr / 1e-3 * kaplan

        settings = Settings(prepared, flops, length, batch, rates, Speeds(length, batch) if time else None)
        for spec, family in wanted.items():
            known, own = guide(law, family), [run for run in kept if run.label == spec]
            for c in sorted(budgets) if not epochs else ():
                there = [run for run in own if run.budget == c]
                if there:
                    wide = beyond(out, before, there, spread)
                else:
                    middle = centre(out, before, spec, known, c)
                    middle = max(middle, ladder()[0].non_embedding * spread ** ((sizes - 1) / 2))  # none is smaller
                    wide = [middle * spread ** (i - (sizes - 1) / 2) for i in range(sizes)]
                    wide = sharing.common(wide, [run.n for run in own], spread) if share else wide
                more = settings.curve(spec, family, c, wide, known)
                more = [run for run in more if run.name not in {one.name for one in there}]
                own += sharing.chained(own, more) if share else more
            for n in parameters if epochs else ():
                more = settings.repeats(spec, family, epochs, n, known)
                more = [run for run in more if run.name not in {one.name for one in own}]
                own += sharing.chained(own, more) if share else more
            kept += own[sum(run.label == spec for run in kept) :]
        made = Plan(data=str(Path(data).resolve()), runs=tuple(kept), **common)
        made.save(out)
    print(document(made) if json else table(made))
    return made


def check(budgets: list[float], epochs: list[float], parameters: list[float], spread: float, lr: float) -> None:
    """Raises for numbers that are out of range, or do not go together."""
    if not 1 < spread < 100 or not 0 < lr < 1:
        raise RemaskError(f"spread is {spread} and lr {lr}; they must be above 1 and 0, and below 100 and 1")
    if bool(epochs) != bool(parameters):
        raise RemaskError("a study of repeated data needs both epochs and parameters, one of budgets neither")
    for name, values in (("budgets", budgets), ("epochs", epochs), ("parameters", parameters)):
        if not all(0 < x < math.inf for x in values) or len(set(values)) < len(values) or not (budgets or epochs):
            raise RemaskError(f"{name} are {values}; they must be above 0, finite, and each another")


def family_of(spec: str) -> Family:
    """A family from NAME or NAME:key=value,..."""
    name, _, given = spec.partition(":")
    if name not in (known := families()):
        raise unknown("family", name, known)
    return known[name](**parse_options(known[name], given))


def guide(law: str | None, family: Family) -> Surface:
    """The published law that says where to look."""
    name = law or ("chinchilla-corrected" if family.exact else "quokka")
    if name not in SURFACES:
        raise unknown("law", name, SURFACES)
    return SURFACES[name]


def centre(out: Path, plan: Plan | None, label: str, law: Surface, c: float) -> float:
    """The best N at C: from the minima of the study's own finished budgets, or the law's.

    Two or more minima extrapolate by their own power law, one by the law's exponent; where none is bracketed, the best
    size tried does. Runs that have diverged do not count, and an exponent that cannot be is not followed.
    """
    runs = [run for run in plan.runs if run.label == label] if plan is not None else []
    rows = [row for run in runs if plan is not None and (row := plan.row(out, run)) is not None]
    if len(rows) < 3:
        return law.best(c)[0]
    points = fresh(Points.of_rows(rows))
    try:
        found = isoflop(points, draws=0)
    except RemaskError:
        return law.best(c)[0]
    minima = [p for p in found.parabolas if p.bracketed]
    if found.size is not None and 0 < found.size.p < 1:
        return float(found.size(c))
    if minima:
        return minima[-1].n * (c / minima[-1].c) ** law.size_exponent
    last = found.parabolas[-1].index
    best = last[points.loss[last].argmin()]
    return float(points.n[best] * (c / points.c[best]) ** law.size_exponent)


def beyond(out: Path, plan: Plan | None, runs: Sequence[Run], spread: float) -> list[float]:
    """Two sizes more for a budget whose runs are finished and fall to one side, so that its minimum is bracketed."""
    rows = [plan.row(out, run) for run in runs] if plan is not None else [None]
    done = sorted((float(row["n"]), float(row["loss"])) for row in rows if row is not None)
    if len(done) < len(rows) or len(done) < 3:
        return []
    lowest = min(range(len(done)), key=lambda i: done[i][1])
    more = []
    if lowest == 0:
        more = [done[0][0] / spread**2, done[0][0] / spread]
    elif lowest == len(done) - 1:
        more = [done[-1][0] * spread, done[-1][0] * spread**2]
    return [n for n in more if ladder()[0].non_embedding <= n <= ladder()[-1].non_embedding]


def document(made: Plan) -> str:
    """The plan as JSON."""
    return json.dumps(asdict(made), indent=1)


def table(made: Plan) -> str:
    """The plan to be read."""
    rows = [["run", "budget", "N", "all", "tokens", "epochs", "batch", "steps", "lr"]]
    rows[0] += ["6ND", "exact", "loss", "time"]
    for r in made.runs:
        row = [r.label, f"{r.budget:.3g}", f"{r.n:,}", f"{r.parameters:,}", f"{r.tokens:,}", f"{r.epochs:.2f}"]
        row += [
            str(r.batch),
            f"{r.steps:,}",
            f"{r.lr:.2e}",
            f"{r.flops_6n:.1e}",
            f"{r.flops_exact:.1e}",
            f"{r.loss:.3f}",
        ]
        rows.append([*row, "" if r.hours is None else duration(3600 * r.hours)])
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{len(made.runs)} runs on {made.data}; budgets are FLOPs counted as {made.convention}"]
    lines += [f"learning rates: {made.rule}" if made.rule else "", ""]
    for first, *others in rows:
        lines.append("  ".join([first.ljust(wide[0]), *map(str.rjust, others, wide[1:])]).rstrip())
    hours = [r.hours for r in made.runs if r.hours is not None]
    total = sum(r.flops_exact for r in made.runs)
    lines += ["", f"{total:.2e} FLOPs in all" + (f", {duration(3600 * sum(hours))} one after another" if hours else "")]
    if hours:
        lines.append("times are of steps that are not compiled; long runs are, and take about 0.7 of that")
    if any(r.after for r in made.runs):
        lines.append(f"{sharing.saved(made.runs):.2e} of them are not spent: runs of one size share their first steps")
    lines.append(
        "losses are those of the law that guided the plan, repeats of the corpus counted as published, in the nats"
    )
    lines.append("of its own tokenizer and text")
    if over := [r for r in made.runs if r.epochs > 4]:
        lines.append(f"{len(over)} runs see the corpus more than 4 times: what they show is repeated data too")
    return "\n".join(lines)
