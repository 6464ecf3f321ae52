"""What to run for a scaling law: families x budgets x sizes, as a table that is kept beside its runs.

    remask scale plan --data data/novels --families '["Autoregressive","Masked:objective=low_variance"]' \\
      --budgets '[1e13,3e13,1e14]' --out studies/novels

The sizes of a budget stand around the best one, which at first is that of a published law; planning again with more
budgets moves it to where the finished runs have their minimum. Runs that are planned already stay as they are.

A study flows through the folders plan, run, fit and report. This file stands before them since it alone looks back: it
fits what is finished in order to plan what comes next.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from remask.data.tokens import Prepared, open_tokens
from remask.errors import RemaskError, unknown
from remask.families import Family, families
from remask.families.description import build, in_effect, renewed
from remask.files import differences
from remask.locking import locked
from remask.model.sizes import Architecture
from remask.options import build_named
from remask.scaling.fit.isoflop import isoflop
from remask.scaling.fit.law import Surface
from remask.scaling.fit.points import Points, fresh
from remask.scaling.fit.published import REPEATS_AUTOREGRESSIVE, REPEATS_MASKED, SURFACES
from remask.scaling.fit.repeated import FORMS, Repeated
from remask.scaling.plan import sharing
from remask.scaling.plan.ladder import ladder
from remask.scaling.plan.settings import Predict, Settings
from remask.scaling.plan.study import FILE, Convention, Plan, Run
from remask.scaling.plan.table import document, table
from remask.scaling.plan.timing import Speeds
from remask.scaling.run.results import Row, read_planned
from remask.training.optim import Kind, Optimizer

Rule = Literal["size", "kaplan", "constant"]


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
    optimizer: Kind = "muon",
    convolution: int = 5,
    rule: Rule = "size",
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
        spread: Each network has this many times the parameters of the next smaller one.
        law: The published law whose best sizes the study begins around: chinchilla, chinchilla-corrected or quokka; by
            default the second for autoregressive and the third for diffusion models.
        flops: What a budget counts: 6ND, with N non-embedding parameters, or exact, all matrix products.
        length: Tokens in a row.
        batch: Rows of a step.
        validation_rows: Rows that every run is scored on at its end, with the same noise; many, since differences
            between sizes are small.
        optimizer: muon or adamw, as in `remask train`.
        convolution: Positions that the short convolutions of a layer cover, an odd number; 0 for none.
        rule: Peak learning rates of AdamW: size, those of `remask train` for the width and the tokens of a step;
            kaplan, 0.003239 - 0.0001395 ln N (Kaplan et al. 2020); or constant.
        lr: The learning rate of rule constant; others are multiplied by lr/1e-3.
        share: Let runs of one size share their steps before the decay: schedule wsd, and the same sizes at all budgets.
        time: Time a few steps to predict hours.
        json: Print one JSON document on standard output, and nothing else.
    """
    check_numbers(budgets, epochs, parameters, spread, lr)
    check_least(
        {"sizes": (sizes, 3), "length": (length, 2), "batch": (batch, 1), "validation_rows": (validation_rows, 1)}
    )
    prepared = open_tokens(data)
    check_rows(prepared, data, length)
    if not families:
        raise RemaskError("families is empty; give one at least")
    wanted = {spec: parse_family(spec) for spec in families}
    for spec, family in wanted.items() if share else ():
        sharing.check(spec, family)
    with locked(out, "running or planning the study") if out.is_dir() else nullcontext():
        before = Plan.load(out) if (out / FILE).exists() else None
        common: dict[str, Any] = {
            "corpus": prepared.manifest["fingerprint"],
            "convention": flops,
            "length": length,
            "validation_rows": validation_rows,
            "rule": f"constant, {lr:g}" if rule == "constant" else f"{rule}, times {lr / 1e-3:g}",
        }
        check_same_study(out, before, common)
        speeds = Speeds(length, batch, optimizer) if time else None
        rates = learning_rates(rule, lr, optimizer)
        settings = Settings(prepared, flops, length, batch, rates, optimizer, convolution, speeds)
        planner = Planner(out, before, settings, sizes, spread, share)
        runs = list(before.runs) if before is not None else []
        for spec, family in wanted.items():
            check_same_family(out, spec, family, runs)
            guide = published_law(law, family)
            if epochs:
                runs += planner.repeated(spec, family, guide, epochs, parameters)
            else:
                runs += planner.budgets(spec, family, guide, budgets)
        made = Plan(data=str(Path(data).resolve()), runs=tuple(runs), **common)
        made.save(out)
    print(document(made) if json else table(made))
    return made


@dataclass(frozen=True)
class Planner:
    """Adds runs to a study, by what is planned and what is finished in it."""

    out: Path
    before: Plan | None
    """The plan so far."""
    settings: Settings
    sizes: int
    spread: float
    share: bool

    def budgets(self, spec: str, family: Family, law: Surface, budgets: list[float]) -> list[Run]:
        """The runs of one family that its IsoFLOP curves lack."""
        known = self.planned(spec)
        added: list[Run] = []
        for c in sorted(budgets):
            there = [run for run in known if run.budget == c]
            wide = self.beyond(there) if there else self.around(spec, law, c, [run.n for run in [*known, *added]])
            added += self.new(known + added, self.settings.curve(spec, family, c, wide, predict(law, family)))
        return added

    def repeated(
        self, spec: str, family: Family, law: Surface, epochs: list[float], parameters: list[float]
    ) -> list[Run]:
        """The runs of one family that its study of repeated data lacks."""
        known = self.planned(spec)
        added: list[Run] = []
        for n in parameters:
            added += self.new(known + added, self.settings.repeats(spec, family, epochs, n, predict(law, family)))
        return added

    def planned(self, spec: str) -> list[Run]:
        """The runs of a family that the plan has already."""
        return [run for run in self.before.runs if run.label == spec] if self.before is not None else []

    def new(self, known: list[Run], runs: list[Run]) -> list[Run]:
        """The runs that are not known yet, each after the one whose first steps it shares."""
        names = {run.name for run in known}
        fresh_ones = [run for run in runs if run.name not in names]
        return sharing.chain_runs(known, fresh_ones) if self.share else fresh_ones

    def finished(self, runs: list[Run]) -> list[Row | None]:
        """The row of each run; None for one that is not finished."""
        assert self.before is not None or not runs
        return [read_planned(self.out, self.before, run) for run in runs] if self.before is not None else []

    def around(self, spec: str, law: Surface, c: float, known: list[int]) -> list[float]:
        """Sizes around the best one at C, on the grid of the known ones where runs share their steps."""
        least = ladder()[0].non_embedding * self.spread ** ((self.sizes - 1) / 2)  # no network is smaller
        middle = max(self.best_size(spec, law, c), least)
        wide = [middle * self.spread ** (i - (self.sizes - 1) / 2) for i in range(self.sizes)]
        return sharing.common(wide, known, self.spread) if self.share else wide

    def best_size(self, spec: str, law: Surface, c: float) -> float:
        """The best N at C: from the minima of the study's own finished budgets, or the law's.

        Two or more minima extrapolate by their own power law, one by the law's exponent; where none is bracketed, the
        best size tried does. Runs that diverged do not count, and an exponent outside (0, 1) is not followed.
        """
        rows = [row for row in self.finished(self.planned(spec)) if row is not None]
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

    def beyond(self, runs: list[Run]) -> list[float]:
        """Two sizes more for a finished budget whose loss falls to one side, so that its minimum is bracketed."""
        rows = self.finished(runs)
        done = sorted((float(row["n"]), float(row["loss"])) for row in rows if row is not None)
        if len(done) < len(rows) or len(done) < 3:
            return []
        lowest = min(range(len(done)), key=lambda i: done[i][1])
        more = []
        if lowest == 0:
            more = [done[0][0] / self.spread**2, done[0][0] / self.spread]
        elif lowest == len(done) - 1:
            more = [done[-1][0] * self.spread, done[-1][0] * self.spread**2]
        return [n for n in more if ladder()[0].non_embedding <= n <= ladder()[-1].non_embedding]


def check_numbers(budgets: list[float], epochs: list[float], parameters: list[float], spread: float, lr: float) -> None:
    """RemaskError for numbers that are out of range, or do not go together."""
    if not 1 < spread < 100 or not 0 < lr < 1:
        raise RemaskError(f"spread is {spread} and lr {lr}; they must be above 1 and 0, and below 100 and 1")
    if bool(epochs) != bool(parameters):
        raise RemaskError("a study of repeated data needs both epochs and parameters, one of budgets neither")
    for name, values in (("budgets", budgets), ("epochs", epochs), ("parameters", parameters)):
        if not all(0 < x < math.inf for x in values) or len(set(values)) < len(values) or not (budgets or epochs):
            raise RemaskError(f"{name} are {values}; they must be above 0, finite, and all different")


def check_least(values: dict[str, tuple[int, int]]) -> None:
    """RemaskError where one of (value, least) is too small."""
    for name, (value, least) in values.items():
        if value < least:
            raise RemaskError(f"{name} is {value}; it must be at least {least}")


def check_rows(prepared: Prepared, data: Path, length: int) -> None:
    """RemaskError where a split has no whole row."""
    for name, split in (("training", prepared.train), ("validation", prepared.valid)):
        if len(split) < length:
            raise RemaskError(
                f"the {name} split of {data} has {len(split):,} tokens, which is less than a row of {length}"
            )


def check_same_study(out: Path, before: Plan | None, common: dict[str, Any]) -> None:
    """RemaskError where the folder holds a study with other settings."""
    if before is not None:
        there = {k: getattr(before, k) for k, v in common.items() if getattr(before, k) != ""}
        other = differences(there, {k: v for k, v in common.items() if k in there})
        if other:
            raise RemaskError(f"{out} is another study: {'; '.join(other)}. Choose another --out")


def check_same_family(out: Path, spec: str, family: Family, runs: Sequence[Run]) -> None:
    """RemaskError where runs of a study with the same label were planned with other options of the family, which were
    its defaults then."""
    for run in runs:
        if run.label == spec:
            there, now = in_effect(build(renewed_run(run.family))), in_effect(family)
            changed = [f"{name}={there[name]}" for name in now if there[name] != now[name]]
            if changed:
                raise RemaskError(
                    f"{out} has runs of {spec} with {', '.join(changed)}, which is no default any more: name these "
                    "options, or choose another --out"
                )


def renewed_run(described: dict[str, Any]) -> dict[str, Any]:
    """The family of a run as today's options."""
    options = {name: value for name, value in described.items() if name != "name"}
    return {"name": described["name"], **renewed(described["name"], options)}


def learning_rates(rule: Rule, lr: float, optimizer: Kind) -> Callable[[Architecture, int], float]:
    """The peak learning rate of AdamW for a network and the tokens of a step."""

    def rate(shape: Architecture, tokens: int) -> float:
        if rule == "constant":
            return lr
        if rule == "size":
            return lr / 1e-3 * Optimizer(kind=optimizer).for_size(shape.width, tokens).peak
        n = shape.non_embedding
        kaplan = 0.003239 - 0.0001395 * math.log(n)
        if kaplan < 1e-5:
            raise RemaskError(f"rule kaplan has no learning rate for {n:,} parameters; take --rule constant")
        return lr / 1e-3 * kaplan

    return rate


def parse_family(spec: str) -> Family:
    """A family from NAME or NAME:key=value,..."""
    family: Family = build_named("family", spec, families())
    return family


def published_law(law: str | None, family: Family) -> Surface:
    """The law whose best sizes a study begins around."""
    name = law or ("chinchilla-corrected" if family.exact else "quokka")
    if name not in SURFACES:
        raise unknown("law", name, SURFACES)
    return SURFACES[name]


def predict(law: Surface, family: Family) -> Predict:
    """The loss that a law predicts, repeated tokens counted as published for the kind of family."""
    repeats = REPEATS_AUTOREGRESSIVE if family.exact else REPEATS_MASKED
    whole = Repeated(law, FORMS["saturating"], (repeats,))
    return lambda n, unique, epochs: float(whole(n, unique, epochs))
