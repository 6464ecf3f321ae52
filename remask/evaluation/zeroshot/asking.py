"""Questions of benchmarks asked of models, in one process or several, with every answer written to a log at once."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, cast

from remask.checkpoints.checkpoint import Checkpoint, usable_device
from remask.checkpoints.opening import Opening
from remask.errors import RemaskError
from remask.evaluation.judging import fingerprint
from remask.evaluation.zeroshot.answers import TOGETHER, Answer, answers, estimator_for
from remask.evaluation.zeroshot.greedy import greedy_estimator
from remask.evaluation.zeroshot.log import Log
from remask.evaluation.zeroshot.protocol import Protocol, Scoring, protocol
from remask.families import Family
from remask.processes import in_processes
from remask.tasks.zeroshot import GROUPS, Benchmark, Question, file_of, named, questions_of
from remask.tasks.zeroshot.files import fingerprint_of, names_of
from remask.terminal import progress, say


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How answers are scored. What is not given is the protocol's; without a protocol it is the default."""

    protocol: str | None = None
    """Settings of published numbers: smdm, llada (third version, no guidance), llada-guided, dream."""
    estimator: str | None = None
    """As for `remask score`; by default the first that fits the family. Autoregressive models are scored exactly."""
    draws: int | None = None
    """Noisy copies of an answer, where the estimator is random; by default 128."""
    strata: int | None = None
    """Draws of smdm and llada that are spread evenly together."""
    guidance: float | None = None
    """Weight of classifier-free guidance of all benchmarks; by default 0. Autoregressive models have none."""
    greedy: str | None = None
    """The rule by which greedy decoding writes a last word, one token at a time: Confidence (the most certain first,
    the default), or Confidence:rule=left."""
    seed: int | None = None
    """Seed of the noise; by default 0."""
    settle: float | None = None
    """End the draws of a question of several answers when its best one is known at this confidence, such as 0.99; by
    default all draws are made."""

    def scoring(self, chosen: Protocol, task: str) -> Scoring:
        """The settings of a benchmark."""
        given = {name: value for name, value in vars(self).items() if name != "protocol"}
        return chosen.scoring(task, **given)


@dataclass(frozen=True)
class BenchmarkQuestions:
    """A benchmark with its questions and settings."""

    benchmark: Benchmark
    path: Path
    questions: dict[int, Question]
    """By their lines in the file."""
    scoring: Scoring
    part: str = ""
    """What is added to the benchmark's name where only some questions, or only some settings, are meant."""

    @property
    def name(self) -> str:
        """The name in a log."""
        return self.benchmark.name + self.part


def questions_asked(
    tasks: str, files: Path | None, limit: int | None, settings: Settings, templates: int = 1
) -> tuple[list[BenchmarkQuestions], list[str]]:
    """The benchmarks with their questions, each in the first so many templates, and what was left out: members of a
    group that have no file."""
    if settings.settle is not None and not 0.5 <= settings.settle <= 1:
        raise RemaskError(f"settle is {settings.settle}; it must be at least 0.5, and at most 1, such as 0.99")
    chosen, found, notes = protocol(settings.protocol), [], []
    members = {member for entry in tasks.split(",") for member in GROUPS.get(entry.strip(), ())}
    for entry in named(tasks):
        benchmark, path = file_of(entry, files)
        if path is None:
            where = f"{files} has no {' or '.join(names_of(benchmark))}" if files else "no --files folder was named"
            if benchmark.name not in members or files is None:
                raise RemaskError(f"{benchmark.name}: {where}; give --files FOLDER, or {benchmark.name}=FILE")
            notes.append(f"{benchmark.name} was left out: {where}")
            say(notes[-1])
            continue
        if benchmark.name in [one.name for one in found]:
            raise RemaskError(f"{benchmark.name} is named with two files; name one")
        questions = dict(questions_of(benchmark, path, limit))
        if not questions:
            raise RemaskError(f"{path} holds no questions")
        if not 1 <= templates <= len(benchmark.frames):
            raise RemaskError(
                f"templates is {templates}; it must be at least 1, and {benchmark.name} has {len(benchmark.frames)}"
            )
        own = replace(settings, settle=None) if benchmark.greedy else settings  # one answer is compared with no other
        one = BenchmarkQuestions(benchmark, path, questions, own.scoring(chosen, benchmark.name))
        found += [in_template(one, place) for place in range(templates)]
    if not found:
        raise RemaskError(f"none of {tasks} has a file in {files}")
    return found, notes


def in_template(one: BenchmarkQuestions, place: int) -> BenchmarkQuestions:
    """A benchmark in another of its templates; that of the harness is the first, and needs no name."""
    if not place:
        return one
    questions = {line: one.benchmark.reworded(question, place) for line, question in one.questions.items()}
    return replace(one, questions=questions, part=f", template {place + 1}")


def check(family: Family, scoring: Scoring) -> None:
    """RemaskError where the settings do not fit a model."""
    estimator_for(family, scoring)
    greedy_estimator(family, scoring.greedy, scoring.guidance)


def open_all(runs: Sequence[str], asked: Sequence[BenchmarkQuestions], opening: Opening) -> dict[str, Checkpoint]:
    """The models by their paths. RemaskError where the settings of a benchmark do not fit one."""
    models: dict[str, Checkpoint] = {}
    for path in dict.fromkeys(str(Path(run)) for run in runs):
        models[path] = opening.open(path)
        for one in asked:
            check(models[path].family, one.scoring)
    return models


def identity(models: Mapping[str, Checkpoint], asked: Sequence[BenchmarkQuestions], opening: Opening) -> dict[str, Any]:
    """What answers depend on, for the log of them."""
    found: dict[str, Any] = {"device": str(usable_device(opening.device)), "precision": opening.precision}
    found |= {f"weights of {path}": fingerprint(path) for path in models}
    found |= {f"tokenizer of {path}": model.tokenizer.fingerprint for path, model in models.items()}
    found |= {f"file of {one.name}": fingerprint_of(one.path) for one in asked}
    return found | {f"settings of {one.name}": asdict(one.scoring) for one in asked}


def ask_all(
    runs: Sequence[str],
    models: Mapping[str, Checkpoint],
    asked: Sequence[BenchmarkQuestions],
    log: Log,
    opening: Opening,
    workers: int = 1,
) -> None:
    """Has every model answer every question that the log does not have, and writes each answer to it.

    A run that is not among `models` is opened when its turn comes. With several `workers` each process opens its own.
    Raises what `in_processes` raises.
    """
    todo = [(run, missing(one, log, run)) for run in runs for one in asked]
    total = sum(len(one.questions) for one in asked) * len(runs)
    left = sum(len(one.questions) for _, one in todo)
    number = min(workers, sum(-(-len(one.questions) // TOGETHER) for _, one in todo))
    if number > 1:
        found = in_processes(answer_share, number, opening, todo)
    else:
        found = answered(lambda run: models.get(run) or opening.open(run), todo)
    with progress("eval", total, "questions", total - left) as tick, log.adding() as add, closing(found):
        for run, task, line, answer, seconds in found:
            add(run, task, line, answer, seconds)
            tick(1, task=task)


Answered = tuple[str, str, int, Answer, float]
"""Run, task, line of the question, its answer, and the seconds that it took."""


def answered(open_: Callable[[str], Checkpoint], todo: Sequence[tuple[str, BenchmarkQuestions]]) -> Generator[Answered]:
    """The answers of runs to the questions of benchmarks."""
    for run, own in groupby(todo, key=lambda pair: pair[0]):
        asked = [one for _, one in own if one.questions]
        model = open_(run) if asked else None
        for one in asked:
            numbered = ((Place(one.path, line), question) for line, question in one.questions.items())
            kind: dict[str, Any] = {"greedy": one.benchmark.greedy, "metrics": one.benchmark.metrics}
            before = time.perf_counter()
            for place, answer in answers(cast(Checkpoint, model), numbered, one.scoring, **kind):
                now = time.perf_counter()
                yield run, one.name, place.line, answer, now - before
                before = now


def answer_share(
    worker: int, workers: int, opening: Opening, todo: Sequence[tuple[str, BenchmarkQuestions]]
) -> Iterator[Answered]:
    """The answers of one of several processes: to every so many-th part of the questions that are scored together, so
    that these are the same questions however many processes there are."""
    every = [
        (run, replace(one, questions=dict(list(one.questions.items())[first : first + TOGETHER])))
        for run, one in todo
        for first in range(0, len(one.questions), TOGETHER)
    ]
    return answered(lambda run: opening.open(run, worker), every[worker::workers])


@dataclass(frozen=True)
class Place:
    """Where a question stands, for messages."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}"


def missing(one: BenchmarkQuestions, log: Log, run: str) -> BenchmarkQuestions:
    """A benchmark with the questions that a run has not answered."""
    known = log.of(run, one.name)
    return replace(one, questions={line: question for line, question in one.questions.items() if line not in known})
