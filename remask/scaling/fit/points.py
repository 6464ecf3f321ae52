"""What a law is fitted to: finished runs, from run directories or from a table."""

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from remask.errors import RemaskError

LEVEL = 0.9
"""Share of the resamples that intervals hold."""
FRESH = 4.0
"""Epochs up to which repeated tokens count as fresh ones (Muennighoff et al. 2023)."""
NAMES = {
    "n": ("n", "params", "parameters", "non_embedding"),
    "d": ("d", "tokens"),
    "c": ("c", "flops", "budget", "compute"),
    "loss": ("loss", "valid_nats_per_token"),
    "stderr": ("stderr", "error"),
    "family": ("family", "experiment", "model"),
    "name": ("name", "run"),
    "unique": ("u", "unique", "unique_tokens"),
    "planned": ("planned", "isoflop"),
}
"""Columns of a table, by any of these names in any case."""


@dataclass(frozen=True)
class Points:
    """Runs of one family, one entry each."""

    n: NDArray[np.float64]
    """Parameters without embeddings."""
    d: NDArray[np.float64]
    """Tokens trained on, repeats included."""
    c: NDArray[np.float64]
    """FLOPs of training, by the convention that `of` names."""
    loss: NDArray[np.float64]
    """Nats per token on held-out text; for diffusion families a bound."""
    stderr: NDArray[np.float64]
    """Standard error of `loss`; 0 where it is exact."""
    unique: NDArray[np.float64]
    """Distinct tokens of the corpus; inf where no token is seen twice."""
    planned: NDArray[np.float64]
    """Budget each was planned for; nan where that is not known."""
    names: tuple[str, ...] = ()
    family: str = ""
    of: str = "6ND"
    """How FLOPs were counted."""

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> "Points":
        """Some of the runs, by number or mask."""
        arrays = {k: getattr(self, k)[index] for k in ("n", "d", "c", "loss", "stderr", "unique", "planned")}
        names = tuple(np.array(self.names, dtype=object)[index]) if self.names else ()
        return replace(self, **arrays, names=names)

    @property
    def epochs(self) -> NDArray[np.float64]:
        """How often each token is seen; 1 where the corpus is not used up."""
        return np.maximum(1.0, self.d / self.unique)

    @property
    def seen(self) -> NDArray[np.float64]:
        """Distinct tokens that were trained on: of the corpus, as many as were reached."""
        return np.minimum(self.unique, self.d)

    @staticmethod
    def of_rows(rows: Sequence[Mapping[str, float | str]], family: str = "", of: str = "6ND") -> "Points":
        """From dictionaries with n, d, loss and, where known, c, stderr, unique, name."""

        def column(key: str, otherwise: float) -> NDArray[np.float64]:
            return np.array([float(row.get(key, otherwise)) for row in rows])

        n, d = column("n", math.nan), column("d", math.nan)
        c = column("c", math.nan)
        return Points(
            n=n,
            d=d,
            c=np.where(np.isnan(c), 6 * n * d, c),
            loss=column("loss", math.nan),
            stderr=column("stderr", 0.0),
            unique=column("unique", math.inf),
            planned=column("planned", math.nan),
            names=tuple(str(row.get("name", f"row {i + 1}")) for i, row in enumerate(rows)),
            family=family,
            of=of,
        )


def read(source: Path) -> dict[str, Points]:
    """The runs of a CSV, or of a folder of run directories, by family. RemaskError where there are none."""
    rows, of = of_table(source) if source.is_file() else of_runs(source)
    names = [str(row["name"]) for row in rows if "name" in row]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RemaskError(f"{source} names two runs {twice[0]!r}; a run counts once")
    found: dict[str, list[dict[str, float | str]]] = {}
    for row in rows:
        found.setdefault(str(row.get("family", "")), []).append(row)
    return {family: Points.of_rows(part, family, of) for family, part in found.items()}


def of_table(path: Path) -> tuple[list[dict[str, float | str]], str]:
    """The rows of a CSV with columns N, D (or C) and loss, in any order and case, and how its FLOPs are counted."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header, table = [name for name in reader.fieldnames or [] if name], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RemaskError(f"{path} cannot be read as a CSV: {error}") from None
    lower = {column.strip().lower(): column for column in header}
    columns = {key: next((lower[n] for n in names if n in lower), None) for key, names in NAMES.items()}
    missing = [key.upper() if len(key) == 1 else key for key in ("n", "loss") if columns[key] is None]
    if columns["d"] is None and columns["c"] is None:
        missing.append("D or C")
    if missing:
        raise RemaskError(f"{path} has no column {', '.join(missing)}; it has {', '.join(header) or 'none'}")
    if not table:
        raise RemaskError(f"{path} has a header and no runs")
    rows = []
    for line, given in enumerate(table, start=2):
        row = of_line(f"{path}, line {line}", {key: (c, given.get(c)) for key, c in columns.items() if c})
        rows.append({"name": f"line {line}", **row} if columns["name"] is None else row)
    ratios = [float(row["c"]) / (6 * float(row["n"]) * float(row["d"])) for row in rows if "c" in row]
    return rows, "6ND" if all(abs(x - 1) < 0.02 for x in ratios) else "the table counts them"


def of_line(where: str, given: Mapping[str, tuple[str, str | None]]) -> dict[str, float | str]:
    """One line of a table, from (column, text) of each key. RemaskError for what no run has; a loss may be nan."""
    row: dict[str, float | str] = {}
    for key, (column, text) in given.items():
        text = (text or "").strip()
        if key in ("family", "name"):
            row |= {key: text} if text else {}
        elif text or key in ("n", "loss"):
            try:
                row[key] = value = float(text)
            except ValueError:
                raise RemaskError(f"{where}: {column} is {text!r}, not a number") from None
            if key != "loss" and not (0 < value < math.inf or (value == 0 and key == "stderr")):
                raise RemaskError(f"{where}: {column} is {text}; it must be above 0, and finite")
    if "d" not in row and "c" not in row:
        raise RemaskError(f"{where} has neither D nor C")
    row.setdefault("d", float(row.get("c", 0)) / (6 * float(row["n"])))
    return row


def of_runs(folder: Path) -> tuple[list[dict[str, float | str]], str]:
    """The finished runs under a folder, and how FLOPs are counted. Of a study, those of its plan and by its names."""
    from remask.scaling.plan.study import FILE, Plan

    if not folder.is_dir():
        raise RemaskError(f"{folder} is neither a CSV nor a folder of runs")
    if (folder / FILE).exists():
        plan = Plan.load(folder)
        rows, of = [row for one in plan.runs if (row := plan.row(folder, one)) is not None], plan.convention
    else:
        configs = sorted(folder.glob("*/latest/config.json")) + sorted(folder.glob("latest/config.json"))
        rows, of = [row for config in configs if (row := of_run(config)) is not None], "6ND"
    if not rows:
        raise RemaskError(f"{folder} holds no finished run: a folder NAME/latest/ with a model that was validated")
    return rows, of


def of_run(config: Path) -> dict[str, float | str] | None:
    """One published model as a row, C = 6 N D with D what was read; None for a run not finished, or not validated."""
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


COLUMNS = ("family", "name", "n", "d", "c", "planned", "exact", "unique", "loss", "stderr", "seconds")


def save(path: Path, rows: Iterable[dict[str, float | str]]) -> None:
    """Writes rows as a CSV that `read` takes, whole or not at all; columns of `COLUMNS` that some row has."""
    rows = list(rows)
    columns = [name for name in COLUMNS if any(name in row for row in rows)]
    fresh = path.with_suffix(".tmp")
    with open(fresh, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writerow({name: name.upper() if len(name) == 1 else name for name in columns})
        writer.writerows(rows)
    os.replace(fresh, path)


def diverged(points: Points, spread: float = 1.0) -> NDArray[np.bool_]:
    """Runs to leave out: a loss that is not finite, or `spread` nats above that of a smaller and shorter run.

    The rule is fixed before looking: more parameters and more fresh tokens do not cost a nat. Repeated tokens may, so
    runs of more than `FRESH` epochs are left out only for a loss that is not finite.
    """
    bad = ~np.isfinite(points.loss) | (points.loss <= 0)
    for i in np.flatnonzero(~bad & (points.epochs <= FRESH)):
        less = ~bad & (points.n <= 1.01 * points.n[i]) & (points.d <= 1.01 * points.d[i])
        bad[i] = points.loss[i] > points.loss[less].min() + spread
    return bad


def fresh(points: Points) -> Points:
    """The runs that a law without epochs is fitted to: neither diverged, nor of more epochs than count as fresh."""
    return points.take(~diverged(points) & (points.epochs <= FRESH))


def budgets(points: Points, ratio: float = 1.2) -> list[NDArray[np.integer]]:
    """Numbers of the runs of each budget, rising: as planned, or compute that differs by less than `ratio`."""
    c = points.c if np.isnan(points.planned).any() else points.planned
    order = np.argsort(c)
    groups: list[list[int]] = []
    for i in order:
        if groups and c[i] < ratio * c[groups[-1][0]]:
            groups[-1].append(int(i))
        else:
            groups.append([int(i)])
    return [np.array(group) for group in groups]
