"""Finished questions in a folder, so that a command that was stopped goes on, and adds runs, benchmarks and questions.

`protocol.json` holds the settings and what identifies models and files; `answers.jsonl` has a line for each question,
and `solutions.jsonl` one for each solution of GSM8K (`remask/evaluation/gsm8k/log.py`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from remask.errors import RemaskError
from remask.evaluation.kept import adding_lines, keep_settings, read_lines
from remask.evaluation.zeroshot.answers import Answer

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
        with adding_lines(self.folder / ANSWERS) as write:

            def add(run: str, task: str, line: int, answer: Answer, seconds: float) -> None:
                write({"run": run, "task": task, "line": line, "seconds": round(seconds, 6), **asdict(answer)})
                self.keep(run, task, line, answer, seconds)

            yield add

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
    if not path.exists() and (there := [name for name in (ANSWERS, SOLUTIONS) if (folder / name).exists()]):
        raise RemaskError(
            f"{folder} has {there[0]} without {SETTINGS}: it is not known what they are; choose another --out"
        )
    keep_settings(path, settings)
    if (folder / ANSWERS).exists():
        read_lines(folder / ANSWERS, partial(read_answer, log))
    return log


def read_answer(log: Log, fields: dict[str, Any]) -> None:
    """Adds the answer of a record to those that are known."""
    about = fields.pop("run"), fields.pop("task"), fields.pop("line")
    seconds = float(fields.pop("seconds"))
    groups = tuple(tuple(one) for one in fields.pop("groups"))
    lists = {name: tuple(fields.pop(name)) for name in ("nats", "errors", "greedy")}
    fields["candidates"] = {name: tuple(places) for name, places in fields.get("candidates", {}).items()}
    log.keep(*about, Answer(groups=groups, **lists, **fields), seconds)
