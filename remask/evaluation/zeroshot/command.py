"""Zero-shot benchmarks of one or several models, with the prompts and metrics of lm-evaluation-harness.

    remask eval runs/masked runs/ar --tasks arc_easy,piqa --files zeroshot
    remask eval runs/masked --tasks smdm --files zeroshot --protocol smdm --limit 200

Questions come from local files. Each finished question is kept, so that the command goes on where it stopped.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from remask.checkpoints.checkpoint import Checkpoint, Precision, load, usable_device
from remask.errors import Interrupted, RemaskError
from remask.evaluation.gsm8k.asking import check_writing, problems_asked, solve_all
from remask.evaluation.gsm8k.log import open_solutions
from remask.evaluation.gsm8k.writing import Writing
from remask.evaluation.judging import fingerprint
from remask.evaluation.zeroshot.answers import answers, estimator_for
from remask.evaluation.zeroshot.greedy import greedy_estimator
from remask.evaluation.zeroshot.log import Log, open_log
from remask.evaluation.zeroshot.metrics import Result, metrics_of
from remask.evaluation.zeroshot.protocol import Protocol, Scoring, protocol
from remask.evaluation.zeroshot.report import write_report
from remask.families import Family
from remask.harness.run import harness_results
from remask.locking import locked
from remask.tasks.zeroshot import GROUPS, Benchmark, Question, file_of, named, questions_of
from remask.tasks.zeroshot.base import WRITTEN
from remask.tasks.zeroshot.files import fingerprint_of, names_of
from remask.terminal import progress, say

THEIRS = "lm_eval:"
"""What stands before a task of lm-evaluation-harness."""


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

    def scoring(self, chosen: Protocol, task: str) -> Scoring:
        """The settings of a benchmark."""
        given = {name: value for name, value in vars(self).items() if name != "protocol"}
        return chosen.scoring(task, **given)


@dataclass(frozen=True)
class Asked:
    """A benchmark with its questions and settings."""

    benchmark: Benchmark
    path: Path
    questions: dict[int, Question]
    """By their lines in the file."""
    scoring: Scoring

    @property
    def name(self) -> str:
        """The benchmark's name."""
        return self.benchmark.name


def evaluate(
    runs: list[str],
    tasks: str,
    files: Path | None = None,
    limit: int | None = None,
    include_path: Path | None = None,
    out: Path = Path("runs/eval"),
    tokenizer: Path | None = None,
    device: str = "auto",
    precision: Precision = "stored",
    json: bool = False,
    writing: Writing = Writing(),  # noqa: B008
    *,
    settings: Settings,
) -> dict[str, Any]:
    """Asks models the questions of benchmarks; rerunning the command goes on where it stopped.

    Args:
        runs: Run directories, published folders, or other people's weights.
        tasks: Benchmarks with commas: arc_easy, arc_challenge, boolq, hellaswag, lambada_openai, lambada_standard,
            openbookqa, piqa, race, social_iqa, winogrande; smdm stands for the eight of SMDM. NAME=FILE names a file.
            gsm8k has solutions written and reads the answers from them. lm_eval:NAME is any task of
            lm-evaluation-harness whose data can be reached.
        files: Folder with the files of the benchmarks, NAME.jsonl.
        limit: Ask the first so many questions of each; by default all.
        include_path: Folder with more tasks of lm-evaluation-harness, as its option of this name.
        out: Folder for the log of answers, results.json, results.md and results.png.
        tokenizer: A tokenizer.json, for checkpoints that have none.
        device: cpu, cuda, or auto: a GPU where there is one.
        precision: Number format of the networks, as for `remask score`.
        json: Print one JSON document on standard output, and nothing else.
        writing: How the solutions of gsm8k are written.
        settings: How answers are scored.

    Returns the settings and the results. RemaskError for what cannot be asked or scored, and where `out` holds answers
    of other models, files or settings; Interrupted after a Ctrl-C, all answers saved.
    """
    if limit is not None and limit < 1:
        raise RemaskError(f"limit is {limit}; it must be at least 1")
    theirs, written, ours = split(tasks)
    asked, notes = questions_asked(ours, files, limit, settings) if ours else ([], [])
    problems = problems_asked(written, files, limit) if written else None
    paths = list(dict.fromkeys(str(Path(run)) for run in runs))
    models: dict[str, Checkpoint] = {}
    for path in paths:
        models[path] = load(path, device=device, precision=precision, tokenizer=tokenizer)
        for one in asked:
            check(models[path].family, one.scoring)
        if problems is not None:
            check_writing(models[path], writing)
    kept: dict[str, Any] = {"device": str(usable_device(device)), "precision": precision}
    kept |= {f"weights of {path}": fingerprint(path) for path in paths}
    kept |= {f"tokenizer of {path}": models[path].tokenizer.fingerprint for path in paths}
    kept |= {f"file of {one.name}": fingerprint_of(one.path) for one in asked}
    kept |= {f"settings of {one.name}": asdict(one.scoring) for one in asked}
    if problems is not None:
        kept |= {f"file of {WRITTEN}": fingerprint_of(problems.path), f"settings of {WRITTEN}": writing.settings}
    with locked(out, "evaluating"):
        log, solved = open_log(out, kept), []
        try:
            if asked:
                ask_all(models, asked, log)
            if problems is not None:
                solved = solve_all(models, problems, writing, open_solutions(out))
        except KeyboardInterrupt:
            raise Interrupted(f"stopped; the answers so far are in {out}, and the same command goes on") from None
        results = [one for task in asked for path in paths for one in results_of(path, models[path].family, task, log)]
        results += solved
        if theirs:
            about: dict[str, Any] = {"device": device, "precision": precision, "tokenizer": tokenizer}
            about |= {name: value for name, value in vars(settings).items() if value is not None}
            results += harness_results({path: {"path": path, **about} for path in paths}, theirs, include_path, limit)
        return write_report(results, kept, notes, out, json)


def split(tasks: str) -> tuple[list[str], str, str]:
    """The tasks of lm-evaluation-harness in a list with commas; the entry of GSM8K, or ""; and the list of the others.

    RemaskError where GSM8K is named with two files.
    """
    entries = [entry.strip() for entry in tasks.split(",")]
    theirs = [entry.removeprefix(THEIRS) for entry in entries if entry.startswith(THEIRS)]
    written = list(dict.fromkeys(entry for entry in entries if entry.partition("=")[0] == WRITTEN))
    if len(written) > 1:
        raise RemaskError(f"{WRITTEN} is named as {' and '.join(written)}; name it once")
    ours = ",".join(entry for entry in entries if not entry.startswith(THEIRS) and entry not in written)
    return list(dict.fromkeys(theirs)), "".join(written), ours if theirs or written else tasks


def questions_asked(
    tasks: str, files: Path | None, limit: int | None, settings: Settings
) -> tuple[list[Asked], list[str]]:
    """The benchmarks with their questions, and what was left out: members of a group that have no file."""
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
        found.append(Asked(benchmark, path, questions, settings.scoring(chosen, benchmark.name)))
    if not found:
        raise RemaskError(f"none of {tasks} has a file in {files}")
    return found, notes


def check(family: Family, scoring: Scoring) -> None:
    """RemaskError where the settings do not fit a model."""
    estimator_for(family, scoring)
    greedy_estimator(family, scoring.greedy, scoring.guidance)


def ask_all(models: dict[str, Checkpoint], asked: Sequence[Asked], log: Log) -> None:
    """Has every model answer every question that the log does not have, and writes each answer to it."""
    waiting = {(path, one.name): missing(one, log, path) for path in models for one in asked}
    total = sum(len(one.questions) for one in asked) * len(models)
    done = total - sum(len(questions) for questions in waiting.values())
    with progress("eval", total, "questions", done) as tick:
        for path, model in models.items():
            for one in asked:
                questions = waiting[path, one.name]
                numbered = ((Place(one.path, line), question) for line, question in questions.items())
                before = time.perf_counter()
                with log.adding(path, one.name) as add:
                    for place, answer in answers(model, numbered, one.scoring, greedy=one.benchmark.greedy):
                        now = time.perf_counter()
                        add(place.line, answer, now - before)
                        before = now
                        tick(1, task=one.name)


@dataclass(frozen=True)
class Place:
    """Where a question stands, for messages."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}"


def missing(one: Asked, log: Log, run: str) -> dict[int, Question]:
    """The questions that a run has not answered."""
    known = log.of(run, one.name)
    return {line: question for line, question in one.questions.items() if line not in known}


def results_of(run: str, family: Family, one: Asked, log: Log) -> Iterator[Result]:
    """The metrics of a run on a benchmark."""
    found = [log.of(run, one.name)[line] for line in one.questions]
    for metric, (value, error, noise, kind, chance) in metrics_of(
        one.benchmark, list(one.questions.values()), found
    ).items():
        yield Result(
            run=run,
            task=one.name,
            metric=metric,
            value=value,
            error=error,
            noise=noise,
            kind=kind,
            chance=chance,
            questions=len(found),
            dropped=sum(answer.dropped > 0 for answer in found),
            scored=described(family, one),
            seconds=log.seconds[run, one.name],
        )


def described(family: Family, one: Asked) -> str:
    """How a family's answers are scored, in words."""
    scoring, estimator = one.scoring, estimator_for(family, one.scoring)
    if family.exact:
        return "exact" + (", greedy from left to right" if one.benchmark.greedy else "")
    text = f"{estimator.name}, {scoring.draws} draws" if estimator.name not in ("chain", "rule") else estimator.name
    text += f", strata of {scoring.strata}" if scoring.strata else ""
    text += f", guidance {scoring.guidance:g}" if scoring.guidance else ""
    text += ", the same noise for all answers of a question" if scoring.shared_noise and len(one_pairs(one)) > 1 else ""
    return text + (f", greedy by {scoring.greedy}" if one.benchmark.greedy else "")


def one_pairs(one: Asked) -> Sequence[Any]:
    """The answers of the first question."""
    return next(iter(one.questions.values())).pairs
