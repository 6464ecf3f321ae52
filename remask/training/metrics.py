"""Readings of metrics.csv, the table that a run writes of itself."""

import csv
from pathlib import Path


def last_row(run: Path) -> dict[str, str]:
    """The last whole row of a run's metrics.csv; empty where there is none yet, or the file is something else."""
    try:
        with open(run / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return {}
    return next((row for row in reversed(rows) if is_whole(row)), {})


def is_whole(row: dict[str, str]) -> bool:
    """Whether a row has a step and a loss, and was not cut off."""
    try:
        _ = int(row["step"]), float(row["loss"])
    except (KeyError, ValueError, TypeError):
        return False
    return all(isinstance(value, str) for value in row.values())
