"""Finished questions in a folder, so that a command that was stopped goes on, and adds runs, benchmarks and questions.

`protocol.json` holds the settings and what identifies models and files; `answers.jsonl` has a line for each question,
and `solutions.jsonl` one for each solution of GSM8K (`remask/evaluation/gsm8k/log.py`).
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from remask.errors import RemaskError
from remask.evaluation.kept import read_kept
from remask.evaluation.zeroshot.answers import Answer
from remask.files import write_atomically
from remask.terminal import say

SETTINGS, ANSWERS, SOLUTIONS = "protocol.json", "answers.jsonl", "solutions.jsonl"
Key = tuple[str, str]
"""Run and benchmark."""


@dataclass
class Log:
    """The answers that are known, and where new ones are written."""

    folder: Path
    known: dict[Key, dict[int, Answer]] = field(default_factory=dict)
    """Answers by run and benchmark, then by the line of the question in its file."""
    seconds: dict[Key, float] = field(default_factory=dict)
    """What they took, without loading the model."""

    def of(self, run: str, task: str) -> dict[int, Answer]:
        """The known answers of a run to the questions of a benchmark."""
        return self.known.setdefault((run, task), {})

    @contextmanager
    def adding(self) -> Iterator[Any]:
        """Yields `add(run, task, line, answer, seconds)`, which writes an answer to the log at once."""
        path = self.folder / ANSWERS
        try:
            with open(path, "a", encoding="utf-8") as file:

                def add(run: str, task: str, line: int, answer: Answer, seconds: float) -> None:
                    about = {"run": run, "task": task, "line": line, "seconds": round(seconds, 6)}
                    file.write(json.dumps({**about, **asdict(answer)}) + "\n")
                    file.flush()
                    self.keep(run, task, line, answer, seconds)

                yield add
        except OSError as error:
            raise RemaskError(f"cannot write {path}: {error.strerror or error}") from None

    def keep(self, run: str, task: str, line: int, answer: Answer, seconds: float) -> None:
        """Adds an answer to those that are known."""
        self.of(run, task)[line] = answer
        self.seconds[run, task] = self.seconds.get((run, task), 0.0) + seconds


def open_log(folder: Path, settings: Mapping[str, Any]) -> Log:
    """The log of a folder, with the settings of this command.

    Raises:
        RemaskError: the folder holds answers under other settings, of other weights or to another file, each of which
            is named; or the log is damaged.
    """
    path, log = folder / SETTINGS, Log(folder)
    both = dict(settings)
    if path.exists():
        _, both = read_kept(path, settings, lambda content: None)
    elif there := [name for name in (ANSWERS, SOLUTIONS) if (folder / name).exists()]:
        raise RemaskError(
            f"{folder} has {there[0]} without {SETTINGS}: it is not known what they are; choose another --out"
        )
    write_atomically(path, json.dumps({"settings": both}, indent=1) + "\n")
    if (folder / ANSWERS).exists():
        read_answers(folder / ANSWERS, log)
    return log


def read_answers(path: Path, log: Log) -> None:
    """Reads the answers of a file. A last line that was cut off is removed from the file."""
    for number, line in whole_lines(path):
        try:
            fields = json.loads(line)
            about = fields.pop("run"), fields.pop("task"), fields.pop("line")
            seconds = float(fields.pop("seconds"))
            groups = tuple(tuple(one) for one in fields.pop("groups"))
            lists = {name: tuple(fields.pop(name)) for name in ("nats", "errors", "greedy")}
            fields["candidates"] = {name: tuple(places) for name, places in fields.get("candidates", {}).items()}
            log.keep(*about, Answer(groups=groups, **lists, **fields), seconds)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RemaskError(
                f"{path}, line {number} is damaged: {error!r}; remove it, or choose another --out"
            ) from None


def whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a log with their numbers from 1. A last line that was cut off is removed from the file first."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_atomically(path, whole)
        say(f"{path}: its last line was cut off, and that question is answered anew")
    return enumerate(whole.splitlines(), start=1)
