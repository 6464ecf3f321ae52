"""One run of a study: the recipe it is trained by, and whether it is finished."""

import json
from pathlib import Path
from typing import Any

from remask.errors import RemaskError
from remask.families import build
from remask.model.sizes import SizeOverrides
from remask.scaling.plan.study import Plan, Run, optimizer
from remask.scaling.run.results import read_planned
from remask.training.optim import Budget
from remask.training.recipe import Recipe

DECISIVE = ("family", "architecture", "optimizer", "length", "batch", "validation_rows")
"""Options in which a finished run must agree with its plan."""


def recipe(study: Path, plan: Plan, one: Run, devices: int = 1, accelerator: Any = "auto") -> Recipe:
    """How a run is trained."""
    return Recipe(
        data=Path(plan.data),
        out=study / "runs" / one.name,
        family=build(one.family),
        architecture=SizeOverrides(
            layers=one.layers, width=one.width, heads=one.heads, ffn=one.ffn, convolution=one.convolution
        ),
        budget=Budget(steps=one.steps),
        optimizer=optimizer(one),
        length=plan.length,
        batch=one.batch,
        validation_rows=plan.validation_rows,
        left_to_right_rows=0,
        validate_every=one.steps,
        compile=compiling(study, one),
        devices=devices,
        accelerator=accelerator,
    )


def compiling(study: Path, one: Run) -> Any:
    """Whether to compile: as a run that has begun was told, or as the run whose first steps it shares was compiled.

    So both are the same to the bit. Where neither has begun, training decides.
    """
    try:
        own = study / "runs" / one.name / "run.json"
        if own.exists():
            saved = json.loads(own.read_text())
            return str((saved["recipe"] if "recipe" in saved else saved["options"])["compile"])
        before = study / "runs" / (one.after or one.name) / "run.json"
        if before.exists():
            return "on" if json.loads(before.read_text())["plan"]["compile"] else "off"
    except (ValueError, KeyError, TypeError):
        pass  # training says what is wrong with it
    return "auto"


def finished(study: Path, plan: Plan, one: Run) -> bool:
    """Whether a run has come to its end. RemaskError where its folder holds another run than was planned."""
    row = read_planned(study, plan, one)
    if row is None:
        return False
    folder = study / "runs" / one.name
    about = json.loads((folder / "latest" / "config.json").read_text()).get("about", {})
    there = {"N": row["n"], "D": row["d"], **flatten_options(about.get("options", {}))}
    wanted = {"N": float(one.n), "D": float(one.tokens), **flatten_options(recipe(study, plan, one).to_dict())}
    other = [f"{k} {there[k]}, where the plan says {v}" for k, v in wanted.items() if there.get(k, v) != v]
    if other:
        raise RemaskError(
            f"{folder} holds a finished run of {'; '.join(other)}. Remove the folder, or plan the run under another "
            "name"
        )
    return True


def flatten_options(options: dict[str, Any]) -> dict[str, Any]:
    """The decisive options by dotted names, such as `architecture.heads`."""
    found, left = {}, [(name, options[name]) for name in DECISIVE if name in options]
    while left:
        name, value = left.pop()
        if isinstance(value, dict):
            left += [(f"{name}.{key}", one) for key, one in value.items()]
        else:
            found[name] = value
    return found
