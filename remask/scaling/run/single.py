"""One run of a study: how it is trained, and whether it is finished."""

import json
import sys
from pathlib import Path
from typing import Any

from remask.errors import RemaskError
from remask.families import build
from remask.scaling.plan.study import Plan, Run, optimizer
from remask.scaling.run.results import read_planned


def finished(study: Path, plan: Plan, one: Run) -> bool:
    """Whether a run has come to its end. RemaskError where its folder holds another than was planned."""
    row = read_planned(study, plan, one)
    if row is None:
        return False
    folder = study / "runs" / one.name
    found, wanted = {"N": row["n"], "D": row["d"]}, {"N": float(one.n), "D": float(one.tokens)}
    found, wanted = found | options_of(folder), wanted | flat(options(study, plan, one))
    other = [f"{k} {found[k]}, where the plan says {wanted[k]}" for k in wanted if found.get(k, wanted[k]) != wanted[k]]
    if other:
        raise RemaskError(
            f"{folder} holds a finished run of {'; '.join(other)}. Remove the folder, or plan the run under another "
            "name"
        )
    return True


def options_of(folder: Path) -> dict[str, Any]:
    """What a finished run was trained with, as far as it says."""
    about = json.loads((folder / "latest" / "config.json").read_text()).get("about", {})
    return flat(about.get("options", {}))


def flat(options: dict[str, Any]) -> dict[str, Any]:
    """Options that decide what is trained, by dotted names: `architecture.heads`."""
    from remask.training.recipe import to_plain

    kept = ("family", "architecture", "optimizer", "length", "batch", "validation_rows")
    found, left = {}, [(name, to_plain(options[name])) for name in kept if name in options]
    while left:
        name, value = left.pop()
        if isinstance(value, dict):
            left += [(f"{name}.{key}", one) for key, one in value.items()]
        else:
            found[name] = value
    return found


def options(study: Path, plan: Plan, one: Run, devices: int = 1, accelerator: str = "auto") -> dict[str, Any]:
    """The arguments of `remask.training.run.train` for a run."""
    from remask.model.sizes import SizeOverrides
    from remask.training.optim import Budget

    return {
        "data": Path(plan.data),
        "out": study / "runs" / one.name,
        "family": build(one.family),
        "model": "tiny",
        "architecture": SizeOverrides(layers=one.layers, width=one.width, heads=one.heads, ffn=one.ffn),
        "budget": Budget(steps=one.steps),
        "optimizer": optimizer(one),
        "length": plan.length,
        "batch": one.batch,
        "validation_rows": plan.validation_rows,
        "validate_every": one.steps,
        "compile": compiling(study, one),
        "devices": devices,
        "accelerator": accelerator,
    }


def compiling(study: Path, one: Run) -> str:
    """Whether to compile: as a run that has begun was told, or as the one whose first steps it shares was compiled.

    So both are the same to the bit. Otherwise, and where that one has not begun, as training finds best.
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


def command(study: Path, plan: Plan, one: Run, devices: int, accelerator: str) -> list[str]:
    """The same as a command."""
    from remask.training.recipe import to_plain

    found = [sys.executable, "-m", "remask", "train"]
    for name, value in options(study, plan, one, devices, accelerator).items():
        given = to_plain(value)
        if name == "family":
            found += ["--family", given["class_path"]]
            given = {"family": {k: v for k, v in given["init_args"].items() if v is not None}}
        else:
            given = {name: {k: v for k, v in given.items() if v is not None} if isinstance(given, dict) else given}
        for key, part in given.items():
            pairs = part.items() if isinstance(part, dict) else [("", part)]
            found += [x for k, v in pairs for x in (f"--{key}.{k}".rstrip("."), str(v))]
    return found
