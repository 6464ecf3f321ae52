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

NAMES = {
    "n": ("n", "params", "parameters", "non_embedding"),
    "d": ("d", "tokens"),
    "c": ("c", "flops", "budget", "compute"),
    "loss": ("loss", "valid_nats_per_token"),
    "stderr": ("stderr", "error"),
    "family": ("family", "experiment", "model"),
    "name": ("name", "run"),
    "unique": ("u", "unique", "unique_tokens"),
    "budget": ("planned", "isoflop"),
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
    names: tuple[str, ...] = ()
    family: str = ""
    of: str = "6ND"
    """How FLOPs were counted."""

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> "Points":
        """Some of the runs, by number or mask."""
        arrays = {k: getattr(self, k)[index] for k in ("n", "d", "c", "loss", "stderr", "unique")}
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
            names=tuple(str(row.get("name", f"row {i + 1}")) for i, row in enumerate(rows)),
            family=family,
            of=of,
        )


def read(source: Path) -> dict[str, Points]:
    """The runs of a CSV, or of a folder of run directories, by family. RemaskError where there are none."""
    rows = of_table(source) if source.is_file() else of_runs(source)
    names = [str(row["name"]) for row in rows if "name" in row]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RemaskError(f"{source} names two runs {twice[0]!r}; a run counts once")
    found: dict[str, list[dict[str, float | str]]] = {}
    for row in rows:
        found.setdefault(str(row.get("family", "")), []).append(row)
    return {family: Points.of_rows(part, family) for family, part in found.items()}


def of_table(path: Path) -> list[dict[str, float | str]]:
    """The rows of a CSV with columns N, D (or C) and loss, in any order and case."""
    try:
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            header, table = list(reader.fieldnames or []), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RemaskError(f"{path} cannot be read as a CSV: {error}") from None
    lower = {column.strip().lower(): column for column in header if column}
    columns = {key: next((lower[n] for n in names if n in lower), None) for key, names in NAMES.items()}
    missing = [key.upper() if len(key) == 1 else key for key in ("n", "loss") if columns[key] is None]
    if columns["d"] is None and columns["c"] is None:
        missing.append("D or C")
    if missing:
        raise RemaskError(f"{path} has no column {', '.join(missing)}; it has {', '.join(header) or 'none'}")
    rows: list[dict[str, float | str]] = []
    for line, given in enumerate(table, start=2):
        row: dict[str, float | str] = {}
        for key, column in columns.items():
            text = (given.get(column) or "").strip() if column else ""
            if key in ("family", "name"):
                row |= {key: text} if text else {}
            elif text:
                try:
                    row[key] = float(text)
                except ValueError:
                    raise RemaskError(f"{path}, line {line}: {column} is {text!r}, not a number") from None
        if "d" not in row and "c" in row and "n" in row:
            row["d"] = float(row["c"]) / (6 * float(row["n"]))
        if columns["name"] is None:
            row["name"] = f"line {line}"
        rows.append(row)
    return rows


def of_runs(folder: Path) -> list[dict[str, float | str]]:
    """The finished runs under a folder: those with a published model that was validated."""
    if not folder.is_dir():
        raise RemaskError(f"{folder} is neither a CSV nor a folder of runs")
    labels = {}
    if (folder / "plan.json").exists():  # a study: families by the names they were planned under
        labels = {run["name"]: run["label"] for run in json.loads((folder / "plan.json").read_text())["runs"]}
        folder = folder / "runs"
    configs = sorted(folder.glob("*/latest/config.json")) + sorted(folder.glob("latest/config.json"))
    rows = [row for config in configs if (row := of_run(config)) is not None]
    for row in rows:
        row["family"] = labels.get(str(row["name"]), row["family"])
    if not rows:
        raise RemaskError(f"{folder} holds no finished run: a folder NAME/latest/ with a model that was validated")
    return rows


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
        raise RemaskError(f"{config} is no run's description, or one of an older version: {error!r}") from None


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
    runs of more than four epochs are left out only for a loss that is not finite.
    """
    bad = ~np.isfinite(points.loss) | (points.loss <= 0)
    for i in np.flatnonzero(~bad & (points.epochs <= 4)):
        less = ~bad & (points.n <= 1.01 * points.n[i]) & (points.d <= 1.01 * points.d[i])
        bad[i] = points.loss[i] > points.loss[less].min() + spread
    return bad


def budgets(points: Points, ratio: float = 1.2) -> list[NDArray[np.integer]]:
    """Numbers of the runs of each budget, rising: compute that differs by less than `ratio` is one budget."""
    order = np.argsort(points.c)
    groups: list[list[int]] = []
    for i in order:
        if groups and points.c[i] < ratio * points.c[groups[-1][0]]:
            groups[-1].append(int(i))
        else:
            groups.append([int(i)])
    return [np.array(group) for group in groups]


def merged(parts: Iterable[Points]) -> Points:
    """Several sets of runs as one."""
    parts = list(parts)
    arrays = {k: np.concatenate([getattr(p, k) for p in parts]) for k in ("n", "d", "c", "loss", "stderr", "unique")}
    return replace(parts[0], **arrays, names=tuple(name for p in parts for name in p.names))
