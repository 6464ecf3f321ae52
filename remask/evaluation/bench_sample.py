"""Quality against speed of every way of writing: samplers, caches and numbers of steps, on one or several models.

    remask bench sample runs/lists-masked runs/lists-autoregressive --tasks '[Sort,Shuffle]'
    remask bench sample runs/first runs/ar --judge runs/ar --data data/stdlib

All models answer the same questions in every way that fits them. Quality is exact accuracy on tasks, under each of
their templates, or the NLL of a judge. Speeds are medians over rounds in which all ways take turns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from remask.checkpoints.checkpoint import Checkpoint, load, usable_device
from remask.checkpoints.precision import Precision
from remask.data.tokens import open_tokens
from remask.errors import Interrupted, RemaskError
from remask.evaluation.bench_points import Bench
from remask.evaluation.bench_report import write_report
from remask.evaluation.bench_run import Plan
from remask.evaluation.bench_turns import Job
from remask.evaluation.judging import fingerprint, open_judge
from remask.evaluation.questions import Continuations, Questions, continuations, questions_of
from remask.evaluation.ways import Way, fitting, product_of, usual_ways, way_of
from remask.locking import locked
from remask.terminal import progress, say


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is written, in which ways, and how it is measured."""

    tasks: list[str] | None = None
    """Tasks with exact answers, as [Sort:items=6,Shuffle]; one with two options is quoted, as
    ["Countdown:numbers=3,largest=10"]."""
    judge: str | None = None
    """An autoregressive model that judges continuations of validation texts; beside tasks, or in their place."""
    data: Path | None = None
    """Folder made by `remask prepare` with the tokenizer of the models, for the judge."""
    ways: list[str] | None = None
    """Ways of writing, as ["Confidence:steps=64","Threshold:threshold=0.9,block=32,cache=Dual"]; tokens_per_step=2 in
    place of steps follows the length. By default a sweep of the usual ones of each family."""
    samplers: list[str] | None = None
    """In place of ways: samplers, each with every one of the caches, steps and blocks."""
    caches: list[str] | None = None
    """Approximate caches with which each of the samplers writes, as [none,Dual]; none is writing without one."""
    steps: list[int] | None = None
    """Numbers of steps, for samplers that take one."""
    blocks: list[int] | None = None
    """Lengths of blocks, for samplers that take one; 0: the whole text."""
    batch: list[int] | None = None
    """Texts written at once; by default [1,8]."""
    limit: int = 64
    """Questions, the same under each template of a task; texts for the judge."""
    temperature: float = 0.0
    """The temperature of every way that names no other."""
    length: int | None = None
    """Tokens to write; by default those of the longest right answer and --slack, and 128 for the judge."""
    slack: int = 4
    """Tokens beyond those of the longest right answer."""
    prompt_tokens: int = 32
    """Tokens of a validation text that are given before what the judge reads."""
    timed: int = 8
    """Texts that are timed in each round, under each template; in full batches."""
    repeats: int = 3
    """Rounds of timing; the median counts."""
    seed: int = 0
    """The seed by which the questions are chosen and the texts are drawn."""

    def __post_init__(self) -> None:
        least = {"limit": 2 if self.judge else 1, "slack": 0, "prompt_tokens": 0, "timed": 1, "repeats": 1, "seed": 0}
        least |= {"length": 1} if self.length is not None else {}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise RemaskError(f"{name} is {getattr(self, name)}; it must be at least {value}")
        if not self.batches or min(self.batches) < 1 or len(set(self.batches)) < len(self.batches):
            raise RemaskError(f"batch is {self.batch}; it is a list of different numbers of at least 1, as [1,8]")
        if max(self.batches) > self.limit:
            raise RemaskError(f"a batch of {max(self.batches)} needs as many questions, and --limit is {self.limit}")
        for option in ("tasks", "ways", "samplers", "caches"):
            require_quotes(option, getattr(self, option) or [])
        if not self.tasks and self.judge is None:
            raise RemaskError("name --tasks, as [Sort], or --judge AR_RUN with --data DIR: quality is measured by them")
        if (self.judge is None) != (self.data is None):
            raise RemaskError("--judge and --data belong together: the judge reads continuations of validation texts")
        if self.judge is not None and not self.prompt_tokens and not self.temperature and not self.ways:
            raise RemaskError("without a prompt all texts of temperature 0 are one: give --temperature or a prompt")
        if self.ways and (self.samplers or self.caches or self.steps or self.blocks):
            raise RemaskError("give --ways, or --samplers with --caches, --steps and --blocks, not both")
        if not self.samplers and (self.caches or self.steps or self.blocks):
            raise RemaskError("--caches, --steps and --blocks need --samplers, which they are combined with")

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes."""
        return (1, 8) if self.batch is None else tuple(self.batch)

    def named_ways(self) -> list[Way]:
        """The ways that are named, each once; none where the usual ones are wanted."""
        every = [way_of(text) for text in self.ways or []]
        every += product_of(self.samplers or [], self.caches or [], self.steps or [], self.blocks or [])
        return list({way.name: way for way in every}.values())


def bench_sample(
    runs: list[str],
    out: Path = Path("runs/bench"),
    device: str = "auto",
    precision: Precision = "auto",
    pack: bool = False,
    compile: bool = False,
    json: bool = False,
    *,
    options: BenchOptions,
) -> dict[str, Any]:
    """Measures quality and speed of sampling; rerunning the command goes on where it stopped.

    Args:
        runs: Run directories, published folders, or other people's weights.
        out: Folder for bench.csv, .json, .md and .png.
        device: cpu, cuda, or auto: a GPU where there is one.
        precision: Number format of the networks, as for `remask sample`.
        pack: Lay the weights out for a CPU, as for `remask sample`.
        compile: Compile the networks, as for `remask sample`.
        json: Print one JSON document on standard output, and nothing else.
        options: What is measured.

    Returns the settings, the rows of bench.csv and the lines of bench.md. RemaskError for what cannot be measured, and
    where `out` holds measurements with other settings or weights; Interrupted after a Ctrl-C, all that was measured
    saved.
    """
    ways = options.named_ways()
    questions = questions_asked(options, str(usable_device(device)))
    paths = list(dict.fromkeys(str(Path(run)) for run in runs))  # by which the models are told apart
    how: dict[str, Any] = {"precision": precision, "pack": pack, "compile": compile}
    models = {path: load(path, device=device, **how) for path in paths}
    for name, model in models.items():
        for one in questions:
            one.check(model, name)
    chosen = ways_of_models(models, questions, ways)
    settings = settings_of(options, questions, how, next(iter(models.values())))
    settings |= {f"weights of {path}": fingerprint(path) for path in paths}
    jobs = [Job(name, models[name], q, way) for q in questions for name in models for way in chosen[name]]
    plan = Plan(tuple(jobs), options.batches, options.repeats, options.timed, options.temperature, options.seed)
    with locked(out, "measuring"):
        bench = Bench.open(out, settings)
        bench.families |= {name: type(model.family).__name__ for name, model in models.items()}
        for judged in questions:
            if isinstance(judged, Continuations) and bench.real is None:
                bench.real = judged.real()
        groups = plan.groups(bench)
        try:
            with progress("bench sample", plan.measurements(groups), "measurements") as tick:
                plan.measure(bench, groups, tick)
        except KeyboardInterrupt:
            write_report(bench, out, json, show=False)
            raise Interrupted(f"stopped; what is measured is in {out}, and the same command goes on") from None
        return write_report(bench, out, json)


def questions_asked(options: BenchOptions, device: str) -> list[Questions]:
    """The questions of every task under each of its templates, and the texts to continue for the judge."""
    found: list[Questions] = []
    for name in dict.fromkeys(options.tasks or []):
        found += questions_of(name, options.limit, options.seed, options.slack, options.length)
    if options.judge is not None and options.data is not None:
        prepared = open_tokens(options.data)
        critic = open_judge(options.judge, options.judge, prepared, device)
        found.append(continuations(critic, prepared, options.limit, options.prompt_tokens, options.length or 128))
    return found


def require_quotes(option: str, entries: Sequence[str]) -> None:
    """RemaskError where an entry is the second option of the one before it, which a comma has cut off."""
    for before, entry in zip(["", *entries], entries, strict=False):
        if "=" in entry.partition(":")[0]:
            whole = f"{before},{entry}" if before else f"NAME:{entry}"
            raise RemaskError(
                f"unknown {option[:-1]} {entry!r}. An entry with a comma in it stands in quotes: "
                f"--{option} '[\"{whole}\"]'"
            )


def ways_of_models(
    models: dict[str, Checkpoint], questions: Sequence[Questions], named: Sequence[Way]
) -> dict[str, list[Way]]:
    """The ways in which each model writes. Says which ones do not fit it; RemaskError where none fits any model.

    An autoregressive model that none of the named ways fits writes from left to right, so that it is in the picture.
    """
    found: dict[str, list[Way]] = {}
    left_out: dict[str, list[str]] = {}
    for name, model in models.items():
        length = max(one.length(model) for one in questions)
        usual = usual_ways(model.family, length)
        found[name], left_out[name] = fitting(named or usual, model.family, length)
    if not any(found.values()):
        every = [f"{name}, {reason}" for name, reasons in left_out.items() for reason in reasons]
        raise RemaskError(f"no way of writing is left: {'; '.join(every)}")
    for name, model in models.items():
        if not found[name] and model.family.exact:
            found[name] = usual_ways(model.family, 1)
            own = " and ".join(way.name for way in found[name])
            say(f"{name} is an autoregressive model, which none of the ways fits: it writes with {own}")
        else:
            for reason in left_out[name]:
                say(f"left out: {name}, {reason}")
    return found


def settings_of(
    options: BenchOptions, questions: Sequence[Questions], how: dict[str, Any], model: Checkpoint
) -> dict[str, Any]:
    """The options that decide the results, without those by which more is measured: ways, models, batches, rounds."""
    place = model.model.device
    device = torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu"
    names = ["limit", "temperature", "seed", "timed", *(["slack"] if options.tasks else [])]
    names += ["prompt_tokens", "judge"] if options.judge is not None else []
    settings = {name: getattr(options, name) for name in names}
    settings |= {"length": options.length, "device": device, "threads": torch.get_num_threads(), **how}
    settings |= {} if options.judge is None else {"weights of the judge": fingerprint(options.judge)}
    return settings | {f"questions of {one.name}, template {one.template}": one.fingerprint for one in questions}
