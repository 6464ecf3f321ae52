"""GSM8K as a task of `remask eval`: its file, the check of the options, and the solutions of all models."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from remask.checkpoints.checkpoint import Checkpoint
from remask.checkpoints.opening import Opening
from remask.errors import RemaskError
from remask.evaluation.gsm8k.log import SolutionLog
from remask.evaluation.gsm8k.solving import PromptedProblem, Solution, batches, solve
from remask.evaluation.gsm8k.writing import Writing
from remask.generation.request import GenerationRequest
from remask.generation.rows import begin_rows, encode_prompt
from remask.processes import in_processes
from remask.tasks.gsm8k.problems import Problem, read_problems
from remask.tasks.gsm8k.wording import WORDINGS
from remask.tasks.zeroshot.base import WRITTEN
from remask.terminal import progress

FILES = ("gsm8k.jsonl", "gsm8k.txt", "gsm8k/test.jsonl", "gsm8k_icot/test.txt", "test.jsonl")
"""Where its file is looked for in a folder; the first that exists is taken."""


@dataclass(frozen=True)
class Problems:
    """The problems that are asked."""

    path: Path
    problems: list[Problem]
    templates: int
    """Each is asked in the first so many prompts."""


def problems_asked(entry: str, folder: Path | None, limit: int | None, templates: int) -> Problems:
    """The problems of an entry gsm8k, whose file is in a folder, or gsm8k=FILE; RemaskError where there is no file."""
    if not 1 <= templates <= len(WORDINGS):
        raise RemaskError(f"templates is {templates}; it must be at least 1, and {WRITTEN} has {len(WORDINGS)}")
    _, given, name = entry.partition("=")
    places = [Path(name)] if given else [folder / one for one in FILES if (folder / one).is_file()] if folder else []
    if not places:
        where = f"{folder} has no {' or '.join(FILES)}" if folder else "no --files folder was named"
        raise RemaskError(f"{WRITTEN}: {where}; give --files FOLDER, or {WRITTEN}=FILE")
    return Problems(places[0], read_problems(places[0], limit), templates)


def check_writing(checkpoint: Checkpoint, writing: Writing) -> None:
    """RemaskError where no text can be written with these options."""
    request = GenerationRequest(**vars(writing.params(checkpoint.family)))
    row: list[int | None] = [*encode_prompt(checkpoint, "?"), None]
    begin_rows(checkpoint, request, [row])


def solve_all(
    runs: Sequence[str],
    models: Mapping[str, Checkpoint],
    asked: Problems,
    writing: Writing,
    log: SolutionLog,
    opening: Opening,
    workers: int = 1,
) -> None:
    """Has every model solve every problem that the log does not have, under every prompt, and writes each solution to
    it. A run that is not among `models` is opened when its turn comes; with several `workers` each process opens its
    own. Raises what `in_processes` raises."""
    every = [PromptedProblem(problem, template) for template in range(asked.templates) for problem in asked.problems]
    left = {run: [x for x in every if (run, x.template, x.problem.line) not in log.known] for run in runs}
    todo = [(run, batch) for run, own in left.items() for batch in batches(own, writing.batch)]
    if min(workers, len(todo)) > 1:
        found = in_processes(solve_share, min(workers, len(todo)), opening, todo, writing)
    else:
        found = solved(lambda run: models.get(run) or opening.open(run), todo, writing)
    total = len(every) * len(runs)
    with (
        progress(WRITTEN, total, "solutions", total - sum(map(len, left.values()))) as tick,
        log.adding() as add,
        closing(found),  # type: ignore[type-var]
    ):
        for run, one, solution, seconds in found:
            add(run, one.template, one.problem.line, solution, seconds)
            tick(1)


Solved = tuple[str, PromptedProblem, Solution, float]
"""Run, problem, solution, and the seconds that it took."""
Todo = Sequence[tuple[str, list[PromptedProblem]]]
"""Runs with what they are to solve together."""


def solved(open_: Callable[[str], Checkpoint], todo: Todo, writing: Writing) -> Generator[Solved]:
    """The solutions of batches of problems."""
    for run, own in groupby(todo, key=itemgetter(0)):
        model = open_(run)
        for _, batch in own:
            before = time.perf_counter()
            found = solve(model, batch, writing)
            seconds = (time.perf_counter() - before) / len(batch)
            for one, solution in found:
                yield run, one, solution, seconds


def solve_share(worker: int, workers: int, opening: Opening, todo: Todo, writing: Writing) -> Generator[Solved]:
    """The solutions of one of several processes: of every so many-th batch."""
    return solved(lambda run: opening.open(run, worker), todo[worker::workers], writing)
