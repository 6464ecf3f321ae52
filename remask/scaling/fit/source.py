"""The runs that a verb is given: a table, a study, or a folder of run directories."""

from dataclasses import dataclass
from pathlib import Path

from remask.errors import RemaskError
from remask.scaling.fit.points import Points
from remask.scaling.fit.table import Table, check_names, read_table
from remask.scaling.run.results import Row, read_folder


@dataclass(frozen=True)
class Source:
    """The runs of a source, by family."""

    families: dict[str, Points]
    notes: list[str]
    """What a table left open, and how it was read."""


def read_source(path: Path, columns: str = "", any_size: bool = False) -> Source:
    """The runs of a table, or of a folder; options as for `read_table`. RemaskError where there are none."""
    if columns and path.is_dir():
        raise RemaskError(f"--columns names columns of a table, and {path} is a folder")
    table = read_table(path, columns, any_size) if path.is_file() else Table(*read_folder(path), notes=[])
    check_names(path, table.rows)
    families: dict[str, list[Row]] = {}
    for row in table.rows:
        families.setdefault(str(row.get("family", "")), []).append(row)
    return Source({k: Points.of_rows(rows, k, table.convention) for k, rows in families.items()}, table.notes)
