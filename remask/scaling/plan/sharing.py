"""Runs of one size at several budgets, which share what they have in common (warm-up, stable, decay).

Until its decay begins, a run of schedule wsd does not depend on how long it will be. It keeps the state it has there,
and the next longer run of the same network begins with a copy of it: to the bit what it would have come to by itself.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from remask.errors import RemaskError
from remask.families import Family
from remask.files import write_atomically
from remask.scaling.plan.study import Plan, Run, optimizer
from remask.training.optim import usual_warmup
from remask.training.states import list_states, stable_state


def check(spec: str, family: Family) -> None:
    """Raises for a family whose runs depend on their length from the start."""
    if family.has_curriculum:
        raise RemaskError(
            f"{spec} changes its loss with the share of the training that is done, so runs of different budgets have "
            "nothing to share; plan it without --share, or with uniform mask rates (Masked:ceiling=1)"
        )


def common(sizes: Sequence[float], known: Sequence[int], spread: float) -> list[float]:
    """The wanted sizes, each moved onto a known one or onto the grid that the known ones span."""
    if not known:
        return list(sizes)
    found = []
    for size in sizes:
        near = min(known, key=lambda n: abs(math.log(n / size)))
        steps = round(math.log(size / near) / math.log(spread))
        found.append(float(near) * spread**steps)
    return found


def chain_runs(runs: Sequence[Run], fresh: Sequence[Run]) -> list[Run]:
    """The fresh runs as wsd ones, each after the longest one of its network that is shorter."""
    found: list[Run] = []
    usual = [replace(one, schedule="wsd", warmup=usual_warmup(one.steps)) for one in fresh]
    for one in sorted(usual, key=lambda r: r.steps):
        shorter = [r for r in (*runs, *found) if r.schedule == "wsd" and alike(r, one)]
        before = max((r for r in shorter if prefix(r) and r.steps < one.steps), key=lambda r: r.steps, default=None)
        warmup = one.warmup if before is None else before.warmup
        found.append(replace(one, after=before.name if before else None, warmup=warmup))
    order = [one.name for one in fresh]
    return sorted(found, key=lambda r: order.index(r.name))


def alike(one: Run, other: Run) -> bool:
    """Whether two runs train the same network in the same way, but for how long."""
    same = ("label", "layers", "width", "heads", "ffn", "convolution", "batch", "optimizer", "lr")
    return all(getattr(one, name) == getattr(other, name) for name in same)


def prefix(one: Run) -> int:
    """Steps of a run that a longer one need not repeat; 0 where there are none."""
    return optimizer(one).stable(one.steps)


def saved(runs: Sequence[Run]) -> float:
    """FLOPs, all matrix products, that sharing saves."""
    by_name = {r.name: r for r in runs}
    pairs = [(one, by_name[one.after]) for one in runs if one.after in by_name]
    return sum(one.flops_exact * prefix(before) / one.steps for one, before in pairs)


def before_step(line: str, step: int) -> bool:
    """Whether a line of metrics.csv is of that step or before."""
    number = line.partition(",")[0]
    return number.isdigit() and int(number) <= step


def inherit(study: Path, plan: Plan, one: Run) -> int:
    """Gives a run that has not begun the state of the one it comes after; the step it begins at, 0 without one."""
    folder = study / "runs" / one.name
    before = next((r for r in plan.runs if r.name == one.after), None)
    if before is None or list_states(folder):
        return 0
    kept = stable_state(study / "runs" / before.name, prefix(before))
    if not kept.exists():
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    metrics = kept.parents[1] / "metrics.csv"
    if metrics.exists():
        lines = metrics.read_text().splitlines(keepends=True)
        shared = [line for line in lines[1:] if before_step(line, prefix(before))]
        (folder / "metrics.csv").write_text("".join(lines[:1] + shared))
    target = folder / "checkpoints" / f"step-{prefix(before):08}.ckpt"
    with open(kept, "rb") as file:
        write_atomically(target, partial(shutil.copyfileobj, file))
    return prefix(before)
