"""What models wrote, in a folder: `settings.json`, and a line of `answers.jsonl` for each answer."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from remask.evaluation.kept import adding_lines, keep_settings, read_lines
from remask.evaluation.reversal.sources import Cell

SETTINGS, ANSWERS = "settings.json", "answers.jsonl"
Key = tuple[str, str, int]
"""Run, kind of question, and place of the row."""


@dataclass(frozen=True)
class Answer:
    """An answer."""

    text: str
    nats: float | None
    """-log p of the right answer given the prompt, or a bound on it; None where there is no control."""
    control: float | None
    """The same of the control."""


@dataclass
class Log:
    """The answers that are known, and where new ones are written."""

    folder: Path
    known: dict[Key, Answer] = field(default_factory=dict)

    @contextmanager
    def adding(self) -> Iterator[Any]:
        """Yields `add(run, kind, place, answer)`, which writes an answer at once."""
        with adding_lines(self.folder / ANSWERS) as write:

            def add(run: str, kind: str, place: int, answer: Answer) -> None:
                write({"run": run, "kind": kind, "place": place, **asdict(answer)})
                self.known[run, kind, place] = answer

            yield add


def open_log(folder: Path, settings: Mapping[str, Any], cells: Sequence[Cell]) -> Log:
    """The log of a folder. RemaskError where it holds answers to other questions or with other settings, or is
    damaged; a last line that was cut off is removed."""
    log = Log(folder)
    keep_settings(
        folder / SETTINGS, {**settings, **{f"questions of {cell.name}": fingerprint_of(cell) for cell in cells}}
    )

    def keep(fields: dict[str, Any]) -> None:
        key = fields.pop("run"), fields.pop("kind"), fields.pop("place")
        log.known[key] = Answer(**fields)

    if (folder / ANSWERS).exists():
        read_lines(folder / ANSWERS, keep)
    return log


def fingerprint_of(cell: Cell) -> str:
    """A hash of all questions of a cell, so that more of them can be asked later."""
    return hashlib.blake2b(repr(cell.source).encode(), digest_size=8).hexdigest()
