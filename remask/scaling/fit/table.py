"""Tables of runs as people have them: separators, columns by any of their usual names, units, gaps and repeats.

Nothing is guessed: where two columns could be meant the table is refused, and `--columns n=...,loss=...` says which.
"""

import csv
import io
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from remask.errors import RemaskError, unknown
from remask.scaling.fit.numbers import UNITS, Decimal, decimal_sign, parse_number
from remask.scaling.run.results import Row

NAMES = {
    "n": ("n", "params", "parameters", "num_params", "num_parameters", "n_params", "n_parameters", "parameter_count"),
    "d": ("d", "tokens", "train_tokens", "training_tokens", "num_tokens", "n_tokens", "tokens_seen"),
    "c": ("c", "flops", "compute", "train_flops", "training_flops", "total_flops", "budget"),
    "loss": ("loss", "valid_nats_per_token", "val_loss", "valid_loss", "validation_loss", "eval_loss", "test_loss"),
    "stderr": ("stderr", "error", "loss_stderr", "standard_error"),
    "family": ("family", "experiment", "model"),
    "name": ("name", "run", "run_name", "id"),
    "unique": ("u", "unique", "unique_tokens"),
    "planned": ("planned", "isoflop", "budget"),
}
"""Columns of a table, by any of these names in any case; of families the first that is there."""
LABELS = {key: key.upper() if len(key) == 1 else key for key in NAMES}
WITHOUT = re.compile(r"non[_ -]?emb|without[_ -]?emb")
TOTAL = re.compile(r"(^|_)(total|all)(_|$)")
COUNTS = ("n", "d", "c", "unique", "planned")
PLAUSIBLE = {"n": (1e3, 1e14), "d": (1e3, 1e18)}
"""Parameters and tokens outside these are questioned: most often they are meant in millions or billions."""


@dataclass(frozen=True)
class Table:
    """The runs of a table."""

    rows: list[Row]
    convention: str
    """How FLOPs are counted."""
    notes: list[str]
    """What was left out, counted once, or chosen among columns: sentences for the user."""


def read_table(path: Path, columns: str = "", any_size: bool = False) -> Table:
    """Reads a table with columns N, D or C, and loss, separated by commas, semicolons or tabs.

    `columns` names columns as n=...,loss=..., where nothing behind the sign means that there is none; `any_size`
    accepts implausible numbers of parameters and tokens. RemaskError, naming the line of the file, for what cannot be
    a run.
    """
    header, lines = _cells(path)
    if not lines:
        raise RemaskError(f"{path} has a header and no runs")
    notes: list[str] = []
    chosen = _choose(path, header, lines, columns, notes)
    if "name" not in chosen:  # one name twice is an error
        lines = _once(header, lines, notes)
    try:
        sign = decimal_sign(
            cells[i] for key, i in chosen.items() if key not in ("family", "name") for cells in lines.values()
        )
    except ValueError as error:
        raise RemaskError(f"{path}: {error}; a table has one decimal sign") from None
    rows = []
    for line, cells in lines.items():
        given = {key: (header[i], cells[i]) for key, i in chosen.items()}
        rows.append({"name": f"line {line}", **_row(f"{path}, line {line}", given, sign, any_size)})
    ratios = [float(row["c"]) / (6 * float(row["n"]) * float(row["d"])) for row in rows if {"c", "n", "d"} <= set(row)]
    counted = "6ND" if all(abs(x - 1) < 0.02 for x in ratios) else "as the table counts them"
    return Table(rows, counted, notes)


def _cells(path: Path) -> tuple[list[str], dict[int, list[str]]]:
    """The header, and the cells of each line that has any, by the number of the line in the file."""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RemaskError(f"{path} cannot be read as a CSV: {error}") from None
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("sep=")), "")
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    header: list[str] = []
    lines: dict[int, list[str]] = {}
    line = 1
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells) and not header:
                header = [] if cells[0].startswith("sep=") else cells
            elif any(cells):
                if any(cells[len(header) :]):
                    raise RemaskError(
                        f"{path}, line {line} has {len(cells)} cells, and the header {len(header)}: a number with a "
                        "comma needs quotation marks, or a table separated by semicolons or tabs"
                    )
                lines[line] = (cells + [""] * len(header))[: len(header)]
            line = reader.line_num + 1
    except csv.Error as error:
        raise RemaskError(f"{path} cannot be read as a CSV: line {reader.line_num}: {error}") from None
    return header, lines


def _once(header: list[str], lines: dict[int, list[str]], notes: list[str]) -> dict[int, list[str]]:
    """The lines without those that repeat an earlier one, but for a column that numbers the lines."""
    counted = [i for i, name in enumerate(header) if _plain(name) not in ("", "index", "unnamed_0")]
    first: dict[tuple[str, ...], int] = {}
    for line, cells in lines.items():
        first.setdefault(tuple(cells[i] for i in counted), line)
    again = [str(line) for line in lines if line not in first.values()]
    if again:
        notes.append(f"counted once, as they repeat other lines cell for cell: lines {', '.join(again)}")
    return {line: lines[line] for line in first.values()}


def _choose(
    path: Path, header: list[str], lines: Mapping[int, list[str]], columns: str, notes: list[str]
) -> dict[str, int]:
    """Which column is what: by --columns, and else by its name. RemaskError where one is missing or two could be it."""
    named, plain = _named(path, header, columns), [_plain(name) for name in header]
    chosen = {key: i for key, i in named.items() if i is not None}
    for key in (key for key in NAMES if key not in named):
        free = [i for i in range(len(header)) if i not in chosen.values()]
        found = [i for wanted in NAMES[key] for i in free if plain[i] == wanted]
        if key == "c" and len(found) > 1:
            found = [i for i in found if plain[i] != "budget"]  # which is then what was planned
        if key == "n":
            found = _sizes(plain, found, free, header, notes)
        if key == "family":
            found = _families(found, plain, chosen.get("n"), header, lines, notes)[:1]
        if key == "name":
            found = (found or [i for i in free if plain[i] in NAMES["family"] and _distinct(lines, i)])[:1]
        if len({tuple(cells[i] for cells in lines.values()) for i in found}) > 1:
            which = " and ".join(repr(header[i]) for i in found)
            raise RemaskError(
                f"{path} has columns {which}, which could be {LABELS[key]}: say which by --columns {key}=..."
            )
        chosen |= {key: found[0]} if found else {}
    missing = [LABELS[key] for key in ("n", "loss") if key not in chosen]
    missing += ["D or C"] if not {"c", "d"} & set(chosen) else []
    if missing:
        listed = ", ".join(filter(None, header)) or "none"
        raise RemaskError(
            f"{path} has no column {', '.join(missing)}; it has {listed}. Name columns by --columns n=..."
        )
    return chosen


def _named(path: Path, header: list[str], columns: str) -> dict[str, int | None]:
    """Columns as --columns names them, by number; None for those that it says are not there."""
    named: dict[str, int | None] = {}
    places = {name.lower(): i for i, name in reversed(list(enumerate(header)))}
    for part in filter(None, columns.split(",")):
        key, equals, column = (piece.strip() for piece in part.partition("="))
        if key.lower() not in NAMES:
            raise unknown("key in --columns", key, NAMES)
        if not equals:
            raise RemaskError(f"--columns {part.strip()}: {key} has no column; write {key}=COLUMN")
        if column and column.lower() not in places:
            raise RemaskError(f"--columns {part.strip()}: {path} has no such column; it has {', '.join(header)}")
        named[key.lower()] = places[column.lower()] if column else None
    return named


def _plain(name: str) -> str:
    """A column's name in lower case, with _ for other separators, and without a unit in brackets."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"[(\[].*[)\]]", "", name.lower())).strip("_")


def _sizes(plain: list[str], found: list[int], free: list[int], header: list[str], notes: list[str]) -> list[int]:
    """The columns that can be N, parameters without embeddings: one that says so, else any that is no total."""
    says_so = [i for i in free if WITHOUT.search(plain[i])]
    totals = [i for i in free if TOTAL.search(plain[i]) and ("param" in plain[i] or plain[i] in ("total", "n_total"))]
    best = says_so or [i for i in found if i not in totals] or totals
    others = [repr(header[i]) for i in dict.fromkeys([*found, *totals]) if i not in best]
    if len(best) == 1 and others:
        notes.append(f"N is the column {header[best[0]]!r}, and not {', '.join(others)}")
    return best


def _families(
    found: list[int],
    plain: list[str],
    n: int | None,
    header: list[str],
    lines: Mapping[int, list[str]],
    notes: list[str],
) -> list[int]:
    """The columns that can be the family: not one whose every value has a single N, which names networks or runs."""
    kept = []
    for i in found:
        sizes = defaultdict(set)
        for cells in lines.values():
            sizes[cells[i]].add(cells[n] if n is not None else "")
        if plain[i] != "family" and len(sizes) > 1 and all(len(own) == 1 for own in sizes.values()):
            notes.append(f"the column {header[i]!r} names each network, and is not taken for the family")
        else:
            kept.append(i)
    return kept


def _distinct(lines: Mapping[int, list[str]], i: int) -> bool:
    """Whether all cells of a column differ."""
    return len({cells[i] for cells in lines.values()}) == len(lines)


def _row(where: str, given: Mapping[str, tuple[str, str]], sign: Decimal, any_size: bool) -> Row:
    """One line, from (column, cell) of each key. A run without a loss has nan, and need not have anything else."""
    row: Row = {key: given[key][1] for key in ("family", "name") if key in given and given[key][1]}
    for key, (column, cell) in given.items():
        if key in ("family", "name"):
            continue
        try:
            value = parse_number(cell, sign, key in COUNTS)
        except ValueError as error:
            raise RemaskError(f"{where}: {column} is {error}") from None
        if key in COUNTS and cell[-1:].isdigit():
            value *= _unit(column)
        if key == "loss" or not math.isnan(value):
            row[key] = value
    if not math.isfinite(float(row["loss"])):
        return {key: value for key, value in row.items() if key in ("family", "name", "loss")}
    for key, (column, cell) in given.items():
        _check(where, key, column, cell, row, any_size)
    if "d" not in row and "c" not in row:
        raise RemaskError(f"{where} has neither D nor C")
    row.setdefault("d", float(row.get("c", 0)) / (6 * float(row["n"])))
    return row


def _check(where: str, key: str, column: str, cell: str, row: Row, any_size: bool) -> None:
    """RemaskError for a number that no run has, and for one that is likely meant in other units."""
    if key == "n" and key not in row:
        raise RemaskError(f"{where}: {column} is empty")
    if key not in row or key in ("family", "name", "loss"):
        return
    value, cell = float(row[key]), cell[:40]
    if not (0 < value < math.inf or (value == 0 and key == "stderr")):
        raise RemaskError(f"{where}: {column} is {cell}; it must be above 0, and finite")
    if key == "stderr" and value > abs(float(row["loss"])):
        raise RemaskError(f"{where}: {column} is {cell}; a standard error must be at most the loss")
    low, high = PLAUSIBLE.get(key, (0.0, math.inf))
    if key == "d" and 0.5 < float(row.get("c", 0)) / (6 * float(row["n"]) * value) < 1e3:
        low = 0.0  # the FLOPs say that tokens are meant
    if not any_size and not low <= value <= high:
        what = "parameters" if key == "n" else "tokens"
        hint = f"if it counts millions or billions write so, as {cell}M or {cell}B; " if value < low else ""
        raise RemaskError(
            f"{where}: {column} is {cell}, hardly a number of {what}: {hint}if it is meant, add --any_size"
        )


def _unit(column: str) -> float:
    """The unit that a column's name gives in brackets, as "tokens (B)"; 1 where there is none."""
    match = re.search(r"[(\[]\s*([a-z]+?)s?\s*[)\]]", column.lower())
    return UNITS.get(match[1], 1.0) if match else 1.0


def check_names(source: Path, rows: list[Row]) -> None:
    """RemaskError where two runs of one family have one name."""
    count = Counter((row.get("family", ""), row["name"]) for row in rows)
    (family, name), most = count.most_common(1)[0]
    if most > 1:
        where = f"{source}, family {family}," if family else f"{source}"
        raise RemaskError(f"{where} names two runs {name!r}; a run counts once")
