"""What models wrote, in a folder: `settings.json`, and a line of `answers.jsonl` for each answer."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from remask.errors import RemaskError
from remask.evaluation.kept import read_kept
from remask.evaluation.reversal.sources import Cell
from remask.files import write_atomically
from remask.terminal import document

SETTINGS, ANSWERS = "settings.json", "answers.jsonl"
Key = tuple[str, str, int]
"""Run, kind of question, and place of the row."""


@dataclass(frozen=True)
class Said:
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
    known: dict[Key, Said] = field(default_factory=dict)

    @contextmanager
    def adding(self) -> Iterator[Any]:
        """Yields `add(run, kind, place, said)`, which writes an answer at once."""
        path = self.folder / ANSWERS
        try:
            with open(path, "a", encoding="utf-8") as file:

                def add(run: str, kind: str, place: int, said: Said) -> None:
                    file.write(document({"run": run, "kind": kind, "place": place, **asdict(said)}) + "\n")
                    file.flush()
                    self.known[run, kind, place] = said

                yield add
        except OSError as error:
            raise RemaskError(f"cannot write {path}: {error.strerror or error}") from None


def open_log(folder: Path, settings: Mapping[str, Any], cells: Sequence[Cell]) -> Log:
    """The log of a folder. RemaskError where it holds answers to other questions or with other settings, or is
    damaged; a last line that was cut off is removed."""
    path, log = folder / SETTINGS, Log(folder)
    both = {**settings, **{f"questions of {cell.name}": fingerprint_of(cell) for cell in cells}}
    if path.exists():
        _, both = read_kept(path, both, lambda content: None)
    write_atomically(path, json.dumps({"settings": both}, indent=1) + "\n")
    answers = folder / ANSWERS
    if answers.exists():
        content = answers.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            write_atomically(answers, whole)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                fields = json.loads(line)
                key = fields.pop("run"), fields.pop("kind"), fields.pop("place")
                log.known[key] = Said(**fields)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise RemaskError(f"{answers}, line {number} is damaged: {error!r}; choose another --out") from None
    return log


def fingerprint_of(cell: Cell) -> str:
    """A hash of all questions of a cell, so that more of them can be asked later."""
    return hashlib.blake2b(repr(cell.source).encode(), digest_size=8).hexdigest()
