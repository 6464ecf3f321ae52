"""The weight of unsupervised guidance: chosen on validation questions, and measured on others.

    remask bench guidance runs/masked --tasks arc_easy,piqa --files zeroshot --weights '[0,0.5,1,2]'

Published weights were chosen on the questions that are reported. Here every question belongs to one of two parts: each
weight is measured on the first, and only the best of them and no guidance are measured on the second.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from remask.checkpoints.checkpoint import Checkpoint
from remask.checkpoints.opening import Opening
from remask.checkpoints.precision import Precision
from remask.errors import Interrupted, RemaskError
from remask.evaluation.zeroshot.answers import Answer
from remask.evaluation.zeroshot.asking import BenchmarkQuestions, Settings, ask_all, identity, open_all, questions_asked
from remask.evaluation.zeroshot.command import THEIRS, described
from remask.evaluation.zeroshot.log import Log, open_log
from remask.evaluation.zeroshot.metrics import difference, metrics_of
from remask.evaluation.zeroshot.sweep_report import Measured, Sweep, write_report
from remask.locking import locked
from remask.tasks.zeroshot import Question
from remask.tasks.zeroshot.base import WRITTEN

WEIGHTS = (0.0, 0.5, 1.0, 2.0)
"""The weights that are tried where none are named."""


@dataclass(frozen=True)
class Parts:
    """A benchmark with its questions in two parts, which have none in common."""

    validation: BenchmarkQuestions
    test: BenchmarkQuestions

    def at(self, weight: float) -> "Parts":
        """With a weight of guidance."""
        return Parts(*(guided(one, weight) for one in (self.validation, self.test)))


def sweep_guidance(
    runs: list[str],
    tasks: str,
    files: Path | None = None,
    weights: list[float] | None = None,
    validation: Path | None = None,
    share: float = 0.5,
    split_seed: int = 0,
    limit: int | None = None,
    out: Path = Path("runs/guidance"),
    tokenizer: Path | None = None,
    device: str = "auto",
    precision: Precision = "stored",
    workers: int = 1,
    json: bool = False,
    *,
    settings: Settings,
) -> dict[str, Any]:
    """Finds the weight of guidance that is best on validation questions, and what it gains on others.

    Args:
        runs: Run directories, published folders, or other people's weights, of models that read masks.
        tasks: Benchmarks, as for `remask eval`.
        files: Folder with the files of the benchmarks, NAME.jsonl.
        weights: Weights to choose from, and 0; by default 0, 0.5, 1 and 2.
        validation: Folder with files of validation questions, NAME.jsonl. By default the questions of `files` are
            divided, by a hash of their text and --split_seed.
        share: Share of the questions that are for validation, where they are divided.
        split_seed: Seed of the division.
        limit: Take the first so many questions of each file; by default all.
        out: Folder for the log of answers, results.json, results.md and results.png.
        tokenizer: A tokenizer.json, for checkpoints that have none.
        device: cpu, cuda, or auto: a GPU where there is one.
        precision: Number format of the networks, as for `remask score`.
        workers: Processes among which the questions are divided, as for `remask eval`.
        json: Print one JSON document on standard output, and nothing else.
        settings: How answers are scored.

    Returns the settings and the results. RemaskError as of `remask eval`, for questions that are in both parts, and
    where a part has none; Interrupted after a Ctrl-C, all answers saved.
    """
    every = checked_weights(weights, settings)
    if not 0 < share < 1:
        raise RemaskError(f"share is {share}; it must be between 0 and 1")
    for option, value in {"limit": limit, "workers": workers}.items():
        if value is not None and value < 1:
            raise RemaskError(f"{option} is {value}; it must be at least 1")
    for entry in tasks.split(","):
        if entry.strip().startswith((WRITTEN, THEIRS)):
            raise RemaskError(f"tasks has {entry.strip()}; a weight is chosen for benchmarks whose answers are scored")
    asked, notes = questions_asked(tasks, files, limit, settings)
    if validation is None:
        parts = [divided(one, share, split_seed) for one in asked]
        notes.append(
            f"a question is for validation where the hash of its text and the seed {split_seed} says so, "
            f"as for a share of {share:g} of all questions"
        )
    else:
        names = ",".join(one.benchmark.name for one in asked)
        own, _ = questions_asked(names, validation, limit, settings)
        parts = [apart(one, test) for one, test in zip(own, asked, strict=True)]
        notes.append(f"validation questions are those of {validation}")
    opening = Opening(device, precision, tokenizer)
    grid = {weight: [one.at(weight) for one in parts] for weight in every}
    each = [half for row in grid.values() for one in row for half in (one.validation, one.test)]
    models = open_all(runs, each, opening)
    for run, model in models.items():
        if model.family.exact:
            raise RemaskError(f"{run} is autoregressive, and has no unsupervised guidance; leave it out")
        notes += [f"{run}, {one.test.name}: {described(model.family, one.test)}" for one in grid[0.0]]
    kept, paths = identity(models, each, opening), list(models)
    if workers > 1:
        models.clear()  # each process opens its own
    with locked(out, "evaluating"):
        log = open_log(out, kept)
        try:
            found = [one for run in paths for one in measure(run, models, grid, log, opening, workers)]
        except KeyboardInterrupt:
            raise Interrupted(f"stopped; the answers so far are in {out}, and the same command goes on") from None
        return write_report(found, kept, notes, out, json)


def checked_weights(weights: Sequence[float] | None, settings: Settings) -> list[float]:
    """The weights to choose from, 0 among them, in their order."""
    if settings.guidance is not None:
        raise RemaskError("guidance is what is chosen here; give --weights '[0,0.5,1,2]'")
    for weight in weights or ():
        if not (math.isfinite(weight) and weight >= 0):
            raise RemaskError(f"weights has {weight}; a weight must be finite, and at least 0")
    return sorted({0.0, *(WEIGHTS if weights is None else weights)})


def divided(one: BenchmarkQuestions, share: float, seed: int) -> Parts:
    """The questions of a file in two parts. Equal questions are in the same part, wherever they stand and whatever
    else the file holds."""
    chosen = {line: question for line, question in one.questions.items() if uniform(question, seed) < share}
    others = {line: question for line, question in one.questions.items() if line not in chosen}
    if not chosen or not others:
        missing = "test" if chosen else "validation"
        raise RemaskError(
            f"{one.name}: of {len(one.questions)} questions none is for {missing}; give more of them, or another "
            "--share or --split_seed"
        )
    return Parts(replace(one, questions=chosen), replace(one, questions=others))


def uniform(question: Question, seed: int) -> float:
    """A number in [0, 1) that depends on the text of a question and on a seed."""
    digest = hashlib.blake2b(repr((seed, question.pairs)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def apart(validation: BenchmarkQuestions, test: BenchmarkQuestions) -> Parts:
    """The questions of two files. RemaskError where one is in both."""
    known = {question.pairs: line for line, question in validation.questions.items()}
    for line, question in test.questions.items():
        if question.pairs in known:
            raise RemaskError(
                f"{test.path}, line {line}: this question is in {validation.path}, line {known[question.pairs]}, too; "
                "validation and test must have none in common"
            )
    return Parts(replace(validation, part=", validation file"), test)


def guided(one: BenchmarkQuestions, weight: float) -> BenchmarkQuestions:
    """A benchmark with a weight of guidance, by which its answers are known in the log."""
    return replace(one, scoring=replace(one.scoring, guidance=weight), part=f"{one.part}, guidance {weight:g}")


def measure(
    run: str,
    models: Mapping[str, Checkpoint],
    grid: Mapping[float, Sequence[Parts]],
    log: Log,
    opening: Opening,
    workers: int,
) -> list[Sweep]:
    """The sweep of a run on each benchmark and metric: all weights on validation, then two of them on test."""
    ask_all([run], models, [one.validation for row in grid.values() for one in row], log, opening, workers)
    found: list[Sweep] = []
    for place in range(len(grid[0.0])):
        parts = {weight: row[place] for weight, row in grid.items()}
        tried = {weight: measured(run, one.validation, log) for weight, one in parts.items()}
        chosen = {metric: best_weight(metric, {w: by[metric] for w, by in tried.items()}) for metric in tried[0.0]}
        ask_all([run], models, [parts[w].test for w in sorted({0.0, *chosen.values()})], log, opening, workers)
        for metric, weight in chosen.items():
            ours, none = parts[weight].test, parts[0.0].test
            gain = difference(
                ours.benchmark, metric, list(ours.questions.values()), answers_of(run, ours, log),
                answers_of(run, none, log),
            )  # fmt: skip
            found.append(
                Sweep(
                    run=run,
                    task=ours.benchmark.name,
                    metric=metric,
                    validation={w: by[metric] for w, by in tried.items()},
                    weight=weight,
                    test=measured(run, ours, log)[metric],
                    unguided=measured(run, none, log)[metric],
                    gain=Measured(*gain, len(ours.questions)),
                )
            )
    return found


def answers_of(run: str, one: BenchmarkQuestions, log: Log) -> list[Answer]:
    """The answers of a run to the questions of a benchmark, all of which it has answered."""
    return [log.of(run, one.name)[line] for line in one.questions]


def measured(run: str, one: BenchmarkQuestions, log: Log) -> dict[str, Measured]:
    """The metrics of a run on some questions."""
    questions = list(one.questions.values())
    found = metrics_of(one.benchmark, questions, answers_of(run, one, log))
    return {
        metric: Measured(value, error, noise, len(questions), kind, chance)
        for metric, (value, error, noise, kind, chance) in found.items()
    }


def best_weight(metric: str, tried: Mapping[float, Measured]) -> float:
    """The weight of the highest accuracy or the lowest perplexity; of equally good ones the smallest."""
    sign = 1 if metric == "perplexity" else -1
    return min(sorted(tried), key=lambda weight: sign * tried[weight].value)
