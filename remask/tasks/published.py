"""Questions of published files, for the tasks whose form they fit.

`Sudoku:file=4x4_test_sudoku.csv` asks the puzzles of d1 (a column `Puzzle`), and `Sudoku:file=...jsonl` and
`Countdown:file=...jsonl` those of Dream (a field `input`).
"""

import csv
import sys
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remask.data.json_lines import numbered_lines, object_of, text_lines
from remask.errors import RemaskError
from remask.tasks.base import Task

COLUMN, FIELD = "Puzzle", "input"
"""Where the question stands in a CSV file, and in a line of a JSON Lines file."""


@dataclass(frozen=True, kw_only=True)
class Published(Task):
    """A task that can ask the questions of a file."""

    file: str = ""
    """A published file, whose questions are the test split in place of generated ones. No corpus of the task with this
    option holds one of them."""

    @abstractmethod
    def read(self, text: str) -> Any:
        """The question that a text of a published file asks; ValueError, with the reason, where it asks none."""

    def published(self) -> tuple[Any, ...]:
        """The questions of the file. RemaskError, with the line, for one that cannot be asked."""
        found = []
        for place, text in texts(Path(self.file)) if self.file else ():
            try:
                found.append(self.read(text))
            except ValueError as error:
                raise RemaskError(f"{self.file}, line {place}: {error}") from None
        if self.file and not found:
            raise RemaskError(f"{self.file} has no questions")
        return tuple(found)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The questions of a CSV or JSON Lines file, with the numbers of their lines; RemaskError where there are none."""
    if path.suffix == ".csv":
        csv.field_size_limit(sys.maxsize)  # so that a field is refused for what it holds
        table = csv.DictReader(text_lines(path))
        try:
            if COLUMN not in (table.fieldnames or ()):
                raise RemaskError(f"{path} has no column {COLUMN!r}; its columns: {', '.join(table.fieldnames or ())}")
            yield from ((table.line_num, row[COLUMN] or "") for row in table)
        except csv.Error as error:
            raise RemaskError(f"{path}, line {table.line_num + 1}: {error}") from None
        return
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        text = object_of(line, where).get(FIELD)
        if not isinstance(text, str):
            raise RemaskError(f'{where}: a question is {{"{FIELD}": "..."}}, or a CSV file has a {COLUMN}')
        yield number, text
