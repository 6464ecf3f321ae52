"""A plan as it is printed: a table of its runs with a few sentences, or one JSON document."""

import json
from dataclasses import asdict

from remask.scaling.plan.sharing import saved
from remask.scaling.plan.study import Plan, Run
from remask.terminal import duration


def document(made: Plan) -> str:
    """The plan as JSON."""
    return json.dumps(asdict(made), indent=1)


HEADER = ("run", "budget", "N", "all", "tokens", "epochs", "batch", "steps", "lr", "6ND", "exact", "loss", "time")


def table(made: Plan) -> str:
    """The plan as a table with a few sentences."""
    rows = [HEADER, *(cells(run) for run in made.runs)]
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
        lines.append(f"{saved(made.runs):.2e} of them are not spent: runs of one size share their first steps")
    lines.append("losses are predicted by the law that guided the plan, repeats of the corpus counted as published,")
    lines.append("in the nats of its own tokenizer and text")
    if over := [r for r in made.runs if r.epochs > 4]:
        lines.append(f"{len(over)} runs see the corpus more than 4 times: what they show is repeated data too")
    return "\n".join(lines)


def cells(r: Run) -> tuple[str, ...]:
    """One run as a row of the table."""
    sizes = (f"{r.budget:.3g}", f"{r.n:,}", f"{r.parameters:,}", f"{r.tokens:,}", f"{r.epochs:.2f}")
    training = (
        str(r.batch),
        f"{r.steps:,}",
        f"{r.lr:.2e}",
        f"{r.flops_6n:.1e}",
        f"{r.flops_exact:.1e}",
        f"{r.loss:.3f}",
    )
    return (r.label, *sizes, *training, "" if r.hours is None else duration(3600 * r.hours))
