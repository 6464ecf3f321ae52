"""Zero-shot benchmarks of one or several models, with the prompts and metrics of lm-evaluation-harness.

    remask eval runs/masked runs/ar --tasks arc_easy,piqa --files zeroshot
    remask eval runs/masked --tasks smdm --files zeroshot --protocol smdm --limit 200

Questions come from local files. Each finished question is kept, so that the command goes on where it stopped.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from remask.checkpoints.opening import Opening
from remask.checkpoints.precision import Precision
from remask.errors import Interrupted, RemaskError
from remask.evaluation.gsm8k.asking import check_writing, problems_asked, solve_all
from remask.evaluation.gsm8k.log import open_solutions
from remask.evaluation.gsm8k.results import results_of as solution_results
from remask.evaluation.gsm8k.writing import Writing
from remask.evaluation.zeroshot.answers import Answer, estimator_for
from remask.evaluation.zeroshot.asking import BenchmarkQuestions, Settings, ask_all, identity, open_all, questions_asked
from remask.evaluation.zeroshot.log import Log, open_log
from remask.evaluation.zeroshot.metrics import Result, metrics_of
from remask.evaluation.zeroshot.report import write_report
from remask.evaluation.zeroshot.templates import spreads
from remask.families import Family
from remask.harness.run import harness_results
from remask.locking import locked
from remask.tasks.zeroshot.base import WRITTEN
from remask.tasks.zeroshot.files import fingerprint_of

THEIRS = "lm_eval:"
"""What stands before a task of lm-evaluation-harness."""


def evaluate(
    runs: list[str],
    tasks: str,
    files: Path | None = None,
    limit: int | None = None,
    templates: int = 1,
    include_path: Path | None = None,
    out: Path = Path("runs/eval"),
    tokenizer: Path | None = None,
    device: str = "auto",
    precision: Precision = "stored",
    workers: int = 1,
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
        templates: Ask each question in so many prompt templates, at most 3, of which the first is that of
            lm-evaluation-harness; their spread is reported.
        include_path: Folder with more tasks of lm-evaluation-harness, as its option of this name.
        out: Folder for the log of answers, results.json, results.md and results.png.
        tokenizer: A tokenizer.json, for checkpoints that have none.
        device: cpu, cuda, or auto: a GPU where there is one.
        precision: Number format of the networks, as for `remask score`.
        workers: Processes among which the questions of files are divided, each with models of its own and its share of
            the cores; on a machine with several GPUs each takes another one.
        json: Print one JSON document on standard output, and nothing else.
        writing: How the solutions of gsm8k are written.
        settings: How answers are scored.

    Returns the settings and the results. RemaskError for what cannot be asked or scored, and where `out` holds answers
    of other models, files or settings; Interrupted after a Ctrl-C, all answers saved.
    """
    if limit is not None and limit < 1:
        raise RemaskError(f"limit is {limit}; it must be at least 1")
    if workers < 1:
        raise RemaskError(f"workers is {workers}; it must be at least 1")
    theirs, written, ours = split(tasks)
    if theirs and settings.settle is not None:
        raise RemaskError("settle is for benchmarks from files; tasks of lm_eval compare answers themselves")
    asked, notes = questions_asked(ours, files, limit, settings, templates) if ours else ([], [])
    problems = problems_asked(written, files, limit, templates) if written else None
    opening = Opening(device, precision, tokenizer)
    models = open_all(runs, asked, opening)
    families = {path: model.family for path, model in models.items()}
    kept = identity(models, asked, opening)
    if problems is not None:
        for model in models.values():
            check_writing(model, writing)
        kept |= {f"file of {WRITTEN}": fingerprint_of(problems.path), f"settings of {WRITTEN}": writing.settings}
    if workers > 1:
        models.clear()  # each process opens its own
    with locked(out, "evaluating"):
        log = open_log(out, kept)
        solutions = open_solutions(out, problems is not None)
        try:
            if asked:
                ask_all(list(families), models, asked, log, opening, workers)
            if problems is not None:
                solve_all(list(families), models, problems, writing, solutions, opening, workers)
        except KeyboardInterrupt:
            raise Interrupted(f"stopped; the answers so far are in {out}, and the same command goes on") from None
        results = [one for task in asked for path in families for one in results_of(path, families[path], task, log)]
        over = spreads(families, asked, results, log)
        if problems is not None:
            found, whole = solution_results(families, problems, writing, solutions)
            results, over = results + found, over + whole
        if theirs:
            about: dict[str, Any] = {"device": device, "precision": precision, "tokenizer": tokenizer}
            about |= {name: value for name, value in vars(settings).items() if value is not None}
            results += harness_results(
                {path: {"path": path, **about} for path in families}, theirs, include_path, limit
            )
        return write_report(results, kept, notes, out, json, over)


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


def results_of(run: str, family: Family, one: BenchmarkQuestions, log: Log) -> Iterator[Result]:
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
            draws=draws_of(found),
            settled=sum(answer.settled for answer in found) / len(found) if found[0].candidates else None,
        )


def draws_of(found: Sequence[Answer]) -> float:
    """Copies of an answer that were read, on average; nan where that is not known of all of them."""
    if not all(answer.draws for answer in found):
        return math.nan
    return sum(answer.draws for answer in found) / sum(len(answer.nats) for answer in found)


def described(family: Family, one: BenchmarkQuestions) -> str:
    """How a family's answers are scored, in words."""
    scoring, estimator = one.scoring, estimator_for(family, one.scoring)
    if family.exact:
        return "exact" + (", greedy from left to right" if one.benchmark.greedy else "")
    text = f"{estimator.name}, {scoring.draws} draws" if estimator.name not in ("chain", "rule") else estimator.name
    if scoring.settle is not None:
        text += f" at most, until the best answer is known at a confidence of {scoring.settle:g}"
    text += f", strata of {scoring.strata}" if scoring.strata else ""
    text += f", guidance {scoring.guidance:g}" if scoring.guidance else ""
    text += ", the same noise for all answers of a question" if scoring.shared_noise and len(one_pairs(one)) > 1 else ""
    return text + (f", greedy by {scoring.greedy}" if one.benchmark.greedy else "")


def one_pairs(one: BenchmarkQuestions) -> Sequence[Any]:
    """The answers of the first question."""
    return next(iter(one.questions.values())).pairs
