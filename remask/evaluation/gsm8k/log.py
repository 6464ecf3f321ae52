"""Finished solutions in a folder, a line for each in `solutions.jsonl`, so that a command goes on where it stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from remask.evaluation.gsm8k.solving import Solution
from remask.evaluation.kept import adding_lines, read_lines
from remask.evaluation.zeroshot.log import SOLUTIONS

Add = Callable[[str, int, int, Solution, float], None]


@dataclass
class SolutionLog:
    """The solutions that are known, and where new ones are written."""

    path: Path
    known: dict[tuple[str, int, int], Solution] = field(default_factory=dict)
    """By run, template and the line of the problem in its file."""
    seconds: dict[tuple[str, int], float] = field(default_factory=dict)
    """What those of a run under a template took, without loading the model."""

    @contextmanager
    def adding(self) -> Iterator[Add]:
        """Yields `add(run, template, line, solution, seconds)`, which writes a solution to the log at once."""
        with adding_lines(self.path) as write:

            def add(run: str, template: int, line: int, solution: Solution, seconds: float) -> None:
                about = {"run": run, "template": template, "line": line, "seconds": round(seconds, 6)}
                write({**about, **asdict(solution)})
                self.keep(run, template, line, solution, seconds)

            yield add

    def keep(self, run: str, template: int, line: int, solution: Solution, seconds: float) -> None:
        """Adds a solution to those that are known."""
        self.known[run, template, line] = solution
        self.seconds[run, template] = self.seconds.get((run, template), 0.0) + seconds


def open_solutions(folder: Path, wanted: bool = True) -> SolutionLog:
    """The solutions of a folder, whose settings have been compared before; none where they are not `wanted`.

    RemaskError where the log is damaged.
    """
    log = SolutionLog(folder / SOLUTIONS)

    def keep(fields: dict[str, Any]) -> None:
        run, template, place, seconds = (fields.pop(name) for name in ("run", "template", "line", "seconds"))
        texts = tuple(fields.pop("texts"))
        log.keep(run, template, place, Solution(texts=texts, **fields), float(seconds))

    if wanted and log.path.exists():
        read_lines(log.path, keep)
    return log
