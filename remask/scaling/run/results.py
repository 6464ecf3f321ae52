"""What finished runs came to: one row of numbers for each, from the folders that training publishes."""

import csv
import io
import json
from pathlib import Path

from remask.errors import RemaskError
from remask.files import write_atomically
from remask.scaling.plan.study import FILE, Plan, Run

Row = dict[str, float | str]
"""Of a run: family, name, n, d, c, unique, loss, stderr; of a study also planned, exact, seconds."""
COLUMNS = ("family", "name", "n", "d", "c", "planned", "exact", "unique", "loss", "stderr", "seconds")


def read_run(config: Path) -> Row | None:
    """The row of a published model, C = 6 N D with D what was read; None where it was not finished or not validated."""
    try:
        about = json.loads(config.read_text())
        training, family = about["about"], dict(about["family"])
        if training["step"] < training["steps"] or "validation" not in training:
            return None
        valid, tokens, n = training["validation"], training["steps"] * training["tokens_a_step"], training["parameters"]
        return {
            "name": config.parent.parent.name,
            "family": str(family["name"]),
            "n": float(n),
            "d": float(tokens),
            "c": 6.0 * n * training["reads"] * tokens,
            "unique": float(training["unique_tokens"]),
            "loss": valid["nats"] / valid["tokens"],
            "stderr": valid["stderr"] / valid["tokens"],
        }
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise RemaskError(
            f"{config} is damaged, or of an older version: {error!r}. Remove the run's folder; it is then done again"
        ) from None


def read_planned(study: Path, plan: Plan, one: Run) -> Row | None:
    """The row of a run of a study, its FLOPs counted by the study's convention; None where it is not finished."""
    config = study / "runs" / one.name / "latest" / "config.json"
    row = read_run(config) if config.exists() else None
    if row is None:
        return None
    c = one.flops_6n if plan.convention == "6ND" else one.flops_exact
    return {**row, "family": one.label, "c": c, "planned": one.budget}


def read_folder(folder: Path) -> tuple[list[Row], str]:
    """The rows of all finished runs in a folder, and how their FLOPs are counted.

    Of a study those of its plan, under the names of the plan; of any other folder those of the run directories in it.
    RemaskError where there are none.
    """
    if not folder.is_dir():
        raise RemaskError(f"{folder} is neither a CSV nor a folder of runs")
    if (folder / FILE).exists():
        plan = Plan.load(folder)
        rows, convention = [read_planned(folder, plan, one) for one in plan.runs], plan.convention
    else:
        configs = sorted(folder.glob("*/latest/config.json")) + sorted(folder.glob("latest/config.json"))
        rows, convention = [read_run(config) for config in configs], "6ND"
    finished = [row for row in rows if row is not None]
    if not finished:
        raise RemaskError(f"{folder} holds no finished run: a folder NAME/latest/ with a model that was validated")
    return finished, convention


def write_table(study: Path, plan: Plan) -> None:
    """Writes runs.csv: a row for every finished run of the plan, which `remask scale fit` reads as well."""
    rows = []
    for one in plan.runs:
        if (row := read_planned(study, plan, one)) is not None:
            seconds = training_seconds(study / "runs" / one.name / "metrics.csv")
            rows.append({**row, "exact": one.flops_exact, "seconds": seconds})
    if not rows:
        return
    columns = [name for name in COLUMNS if any(name in row for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writerow({name: name.upper() if len(name) == 1 else name for name in columns})
    writer.writerows(rows)
    write_atomically(study / "runs.csv", text.getvalue())


def training_seconds(metrics: Path) -> float | str:
    """Seconds of training, or nothing where the file does not say."""
    try:
        with open(metrics, newline="") as file:
            return float(list(csv.DictReader(file))[-1]["seconds"])
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return ""
