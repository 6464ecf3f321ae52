"""One run of a study: how it is trained, whether it is finished, and its row in runs.csv."""

import csv
import sys
from pathlib import Path
from typing import Any

from remask.errors import RemaskError
from remask.families import build
from remask.scaling.points import save
from remask.scaling.study import Plan, Run, optimizer


def finished(study: Path, plan: Plan, one: Run) -> bool:
    """Whether a run has come to its end. RemaskError where its folder holds another than was planned."""
    row = plan.row(study, one)
    if row is None:
        return False
    found, wanted = {"N": row["n"], "D": row["d"]}, {"N": float(one.n), "D": float(one.tokens)}
    if found != wanted:
        raise RemaskError(
            f"{study / 'runs' / one.name} holds a finished run of N {found['N']:,.0f}, D {found['D']:,.0f}; the plan "
            f"says N {one.n:,}, D {one.tokens:,}. Remove the folder, or plan the run under another name"
        )
    return True


def tabulate(study: Path, plan: Plan) -> None:
    """Writes runs.csv: a row for every finished run of the plan, which `remask scale fit` reads as well."""
    rows = []
    for one in plan.runs:
        row = plan.row(study, one)
        if row is None:
            continue
        rows.append({**row, "exact": one.flops_exact, "seconds": spent(study / "runs" / one.name / "metrics.csv")})
    if rows:
        save(study / "runs.csv", rows)


def spent(metrics: Path) -> float | str:
    """Seconds of training, or nothing where the file does not say."""
    try:
        with open(metrics, newline="") as file:
            return float(list(csv.DictReader(file))[-1]["seconds"])
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return ""


def options(study: Path, plan: Plan, one: Run, devices: int = 1, accelerator: str = "auto") -> dict[str, Any]:
    """The arguments of `remask.train.run.train` for a run."""
    from remask.model.sizes import Overrides
    from remask.train.optim import Budget

    return {
        "data": Path(plan.data),
        "out": study / "runs" / one.name,
        "family": build(one.family),
        "model": "tiny",
        "architecture": Overrides(layers=one.layers, width=one.width, heads=one.heads, ffn=one.ffn),
        "budget": Budget(steps=one.steps),
        "optimizer": optimizer(one),
        "length": plan.length,
        "batch": one.batch,
        "validation_rows": plan.validation_rows,
        "validate_every": one.steps,
        "devices": devices,
        "accelerator": accelerator,
    }


def command(study: Path, plan: Plan, one: Run, devices: int, accelerator: str) -> list[str]:
    """The same as a command."""
    from remask.train.plan import plain

    found = [sys.executable, "-m", "remask", "train"]
    for name, value in options(study, plan, one, devices, accelerator).items():
        given = plain(value)
        if name == "family":
            found += ["--family", given["class_path"]]
            given = {"family": {k: v for k, v in given["init_args"].items() if v is not None}}
        else:
            given = {name: {k: v for k, v in given.items() if v is not None} if isinstance(given, dict) else given}
        for key, part in given.items():
            pairs = part.items() if isinstance(part, dict) else [("", part)]
            found += [x for k, v in pairs for x in (f"--{key}.{k}".rstrip("."), str(v))]
    return found
