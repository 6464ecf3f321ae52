"""Speed against quality: every model writes texts at several step counts, and an autoregressive model judges them.

    remask frontier runs --judge ar --data data/novels

The judge's NLL alone says little, since a judge likes repetition; nor does entropy alone, since noise has entropy. So
temperatures are swept, and models are compared by the judge's NLL where their texts have the token entropy of real text
(generative frontiers, arXiv 2604.02718). Token entropy is that of the frequencies of the ids within one text; it stands
in for the entropy of the model.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from remask import machine
from remask.checkpoints.checkpoint import Checkpoint, load
from remask.data.batches import Rows
from remask.data.tokens import open_tokens
from remask.errors import RemaskError
from remask.evaluation.frontier_points import Measurements, Point
from remask.evaluation.frontier_report import write_report
from remask.evaluation.judging import fingerprint, judge_texts, open_judge
from remask.likelihood import Estimate, Request, score
from remask.locking import locked
from remask.sampling import Canvas, SamplingParams, fill
from remask.sampling.sampler import sampler_of
from remask.terminal import progress


def frontier(
    source: Path,
    judge: str,
    data: Path,
    out: Path | None = None,
    only: str = "",
    samplers: list[str] = [],  # noqa: B006
    steps: list[int] = [8, 32, 128],  # noqa: B006
    temperatures: list[float] = [0.7, 0.8, 0.9, 1.0, 1.1, 1.2],  # noqa: B006
    texts: int = 64,
    length: int = 256,
    rule_texts: int = 8,
    seed: int = 0,
    device: str = "cpu",
    json: bool = False,
) -> dict[str, Any]:
    """Measures speed and quality of the samples of several models; rerunning the command goes on where it stopped.

    Args:
        source: Folder of run directories or published folders.
        judge: The autoregressive model that judges: the name of one of them, or a path.
        data: Folder made by `remask prepare` with the tokenizer of the models; its validation split is the real text.
        out: Folder for frontier.json, .md and .png; by default SOURCE/frontier.
        only: Measure only models whose name contains this.
        samplers: Samplers, as for `remask sample`; each is used with every model that it fits. By default, that of the
            family.
        steps: Numbers of steps; not for models that write one token in each pass.
        temperatures: Temperatures; models are compared where their texts have the entropy of real text.
        texts: Texts of each measurement, without a prompt, written as one batch.
        length: Tokens of each text.
        rule_texts: Validation texts that are scored by the exact likelihood of each sampler's rule, where it has one.
        seed: Seed of the texts.
        device: cpu or cuda.
        json: Print one JSON document on standard output, and nothing else.
    """
    check_numbers(steps, temperatures, texts, length, rule_texts)
    source, folder = Path(source), out or Path(source) / "frontier"
    known = checkpoints(source)
    prepared = open_tokens(data)
    critic = open_judge(judge, known.get(judge, Path(judge)), prepared, device)
    rows = Rows(prepared.valid, length)
    if len(rows) < texts:
        raise RemaskError(f"the validation split of {data} has {len(rows)} texts of {length} tokens; {texts} are asked")
    models = {name: path for name, path in known.items() if only in name}
    if not models:
        raise RemaskError(f"no model in {source} has {only!r} in its name; it holds {', '.join(known)}")
    settings = {"judge": judge, "corpus": prepared.manifest["fingerprint"], "texts": texts, "length": length}
    settings |= {"seed": seed, "rule_texts": rule_texts, "device": device, "threads": torch.get_num_threads()}
    for name, path in {judge: known.get(judge, Path(judge)), **models}.items():
        model = load(path)  # maps the file
        if not prepared.tokenizer.agrees(model.tokenizer):
            raise RemaskError(f"{name} has another tokenizer than {data}; leave it out with --only")
        if (context := model.model.architecture.context) < length:
            raise RemaskError(f"length is {length}, and the context of {name} {context}")
        settings[f"weights of {name}"] = fingerprint(path)
    if not any(ways_of(load(path), spec, steps) for path in models.values() for spec in samplers or [""]):
        raise RemaskError(f"none of the samplers {samplers} fits any of {', '.join(models)}")
    with locked(folder, "judging"):
        measured = Measurements.open(folder, settings)
        real = torch.stack([rows.stack([i * len(rows) // texts])[0] for i in range(texts)])
        if measured.real is None:
            measured.real = judge_texts(critic, real.tolist())
            measured.save()
        for name, path in models.items():
            model = load(path, device=device)
            ways = [(spec, n, params) for spec in samplers or [""] for n, params in ways_of(model, spec, steps)]
            with progress(name, len(ways) * (len(temperatures) + 1), "measurements") as tick:
                for spec, n, params in ways:
                    way = name, spec or model.family.sampler, n
                    measure(measured, way, model, params, critic, temperatures, real[:rule_texts], tick)
        return write_report(measured, folder, json)


def measure(
    measured: Measurements,
    way: tuple[str, str, int],
    model: Checkpoint,
    params: SamplingParams,
    critic: Checkpoint,
    temperatures: Sequence[float],
    real: torch.Tensor,
    tick: Callable[..., None],
) -> None:
    """Makes the missing measurements of one way of writing: (model, sampler, steps). Each is saved at once."""
    texts, length, seed = (measured.settings[name] for name in ("texts", "length", "seed"))
    if way not in measured.rules:
        measured.rules[way] = likelihood(model, params, real, seed)
        measured.save()
    tick(1)
    known = {p.key: p for p in measured.points}
    for t in temperatures:
        if (*way, t) not in known:
            about: dict[str, Any] = dict(zip(("model", "sampler", "steps", "temperature"), (*way, t), strict=True))
            known[*way, t] = point(model, replace(params, temperature=t), critic, texts, length, seed, about)
            measured.points.append(known[*way, t])
            measured.save()
        last = known[*way, t]
        tick(1, steps=way[2], temperature=t, nll=last.nll, entropy=last.entropy)


def check_numbers(steps: list[int], temperatures: list[float], texts: int, length: int, rule_texts: int) -> None:
    """RemaskError for numbers that are out of range."""
    for name, value, least in (("texts", texts, 2), ("length", length, 2), ("rule_texts", rule_texts, 0)):
        if value < least:
            raise RemaskError(f"{name} is {value}; it must be at least {least}")
    for name, values in (("steps", steps), ("temperatures", temperatures)):
        if not values or len(set(values)) < len(values) or not all(0 < x < math.inf for x in values):
            raise RemaskError(f"{name} are {values}; they must be above 0, finite, and all different")


def checkpoints(source: Path) -> dict[str, Path]:
    """The models under a folder, by name: run directories, published folders, or a study's runs."""
    if not source.is_dir():
        raise RemaskError(f"{source} is no folder of runs")
    inside = source / "runs" if (source / "plan.json").exists() else source
    models = {p.parents[1].name: p.parents[1] for p in inside.glob("*/latest/config.json")}
    models |= {p.parent.name: p.parent for p in inside.glob("*/config.json")}
    if not models:
        raise RemaskError(f"{source} holds no model: a folder NAME/latest/ or NAME/ with a config.json")
    return dict(sorted(models.items()))


def ways_of(model: Checkpoint, spec: str, steps: Sequence[int]) -> list[tuple[int, SamplingParams]]:
    """(steps, params) for each number of steps; (0, params) for a sampler that takes none.

    Empty for a sampler that does not fit the model.
    """
    sampler = sampler_of(model.family, spec or None)
    if not sampler.fits(model.family):
        return []
    if not sampler.takes_steps:
        return [(0, SamplingParams(sampler=sampler, stop=False))]
    return [(n, SamplingParams(sampler=sampler, steps=n, stop=False)) for n in steps]


def point(
    model: Checkpoint,
    params: SamplingParams,
    critic: Checkpoint,
    texts: int,
    length: int,
    seed: int,
    about: dict[str, Any],
) -> Point:
    """Writes texts without a prompt, and measures their quality and the speed of writing."""
    device = model.model.device
    canvas = Canvas.of([[None] * length] * texts, device)
    begun = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=machine.fast_bf16(device)):
        state = fill(model.model, model.family, canvas, replace(params, seed=seed))
    tokens = state.tokens.cpu()
    seconds = time.perf_counter() - begun
    passes = float(state.calls.double().mean())
    quality = asdict(judge_texts(critic, tokens.tolist()))
    return Point(**quality, **about, passes=passes, tokens_per_second=texts * length / seconds)


def likelihood(model: Checkpoint, params: SamplingParams, rows: torch.Tensor, seed: int) -> Estimate | None:
    """-log p of real texts under the rule by which a sampler writes at temperature 1; None where that has no exact
    likelihood."""
    sampler = params.sampler
    scored = model.family.exact or (sampler.chooses_first and sampler.deterministic)
    if not len(rows) or sampler.rewrites or not scored:
        return None
    texts = [Request(row) for row in rows.tolist()]
    options: dict[str, Any] = {} if model.family.exact else {"estimator": "rule", "params": params, "seed": seed}
    scores = score(model.model, model.family, texts, device=model.model.device, **options)
    return Estimate.total(estimate for _, estimate in scores)
