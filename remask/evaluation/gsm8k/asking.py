"""GSM8K as a task of `remask eval`: its file, the check of the options, and the solutions of all models."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from remask.api import GenerationRequest, begin_rows, encode_prompt
from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.evaluation.gsm8k.log import SolutionLog
from remask.evaluation.gsm8k.results import results_of
from remask.evaluation.gsm8k.solving import Asked, solve
from remask.evaluation.gsm8k.writing import Writing
from remask.evaluation.zeroshot.metrics import Result
from remask.tasks.gsm8k.problems import Problem, read_problems
from remask.tasks.zeroshot.base import WRITTEN
from remask.terminal import progress

FILES = ("gsm8k.jsonl", "gsm8k.txt", "gsm8k/test.jsonl", "gsm8k_icot/test.txt", "test.jsonl")
"""Where its file is looked for in a folder; the first that exists is taken."""


@dataclass(frozen=True)
class Problems:
    """The problems that are asked."""

    path: Path
    problems: list[Problem]


def problems_asked(entry: str, folder: Path | None, limit: int | None) -> Problems:
    """The problems of an entry gsm8k, whose file is in a folder, or gsm8k=FILE; RemaskError where there is no file."""
    _, given, name = entry.partition("=")
    places = [Path(name)] if given else [folder / one for one in FILES if (folder / one).is_file()] if folder else []
    if not places:
        where = f"{folder} has no {' or '.join(FILES)}" if folder else "no --files folder was named"
        raise RemaskError(f"{WRITTEN}: {where}; give --files FOLDER, or {WRITTEN}=FILE")
    return Problems(places[0], read_problems(places[0], limit))


def check_writing(checkpoint: Checkpoint, writing: Writing) -> None:
    """RemaskError where no text can be written with these options."""
    request = GenerationRequest(**vars(writing.params(checkpoint.family)))
    row: list[int | None] = [*encode_prompt(checkpoint, "?"), None]
    begin_rows(checkpoint, request, [row])


def solve_all(models: Mapping[str, Checkpoint], asked: Problems, writing: Writing, log: SolutionLog) -> list[Result]:
    """Has every model solve every problem that the log does not have, under every prompt; returns the results."""
    every = [Asked(problem, template) for template in writing.asked for problem in asked.problems]
    waiting = {run: [x for x in every if (run, x.template, x.problem.line) not in log.known] for run in models}
    total = len(every) * len(models)
    with progress(WRITTEN, total, "solutions", total - sum(map(len, waiting.values()))) as tick:
        for run, model in models.items():
            before = time.perf_counter()
            with log.adding(run) as add:
                for part in solve(model, waiting[run], writing):
                    seconds = (time.perf_counter() - before) / len(part)
                    for one, solution in part:
                        add(one.template, one.problem.line, solution, seconds)
                    before = time.perf_counter()
                    tick(len(part))
    found = []
    for run, model in models.items():
        solutions = {t: [log.known[run, t, problem.line] for problem in asked.problems] for t in writing.asked}
        found += results_of(run, model.family, asked.problems, solutions, writing, log.seconds.get(run, 0.0))
    return found
