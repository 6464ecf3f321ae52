"""Speed against quality across families: texts of every checkpoint at many step counts, judged by one model.

    remask frontier runs --judge ar --data data/novels

Neither number of a text's quality means anything alone: a judge likes repetition, and noise has entropy. So the
temperature is swept, and models are compared by the judge's NLL where their texts have the token entropy of real text
(generative frontiers, arXiv 2604.02718). Token entropy is that of the ids within one text, a stand-in for the model's.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from remask import machine
from remask.api import sampler_of
from remask.checkpoints.checkpoint import Checkpoint, load
from remask.data.batches import Rows
from remask.data.tokens import open_tokens
from remask.errors import RemaskError
from remask.evaluation.frontier_points import Found, Point, Quality
from remask.evaluation.frontier_report import told
from remask.likelihood import Estimate, Request, score
from remask.locking import locked
from remask.sampling import Canvas, SamplingParams, fill
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
    """Draws speed against quality for checkpoints of several families; goes on where it was cut off.

    Args:
        source: Folder of run directories or published folders.
        judge: The autoregressive model that judges: the name of one of them, or a path.
        data: Folder made by `remask prepare`; its validation split is the real text. Of the models' tokenizer.
        out: Folder of frontier.json, .md and .png; SOURCE/frontier by default.
        only: Models whose name contains this.
        samplers: As for `remask sample`; each writes with every model it fits. By default each family's own.
        steps: Step counts; models that write one token a pass have just one.
        temperatures: Swept, so that models can be compared at equal entropy.
        texts: Texts of each measurement, without a prompt; they are one batch.
        length: Tokens of a text.
        rule_texts: Validation texts scored by the exact likelihood of each sampler's rule, where it has one.
        seed: Of the texts.
        device: cpu or cuda.
        json: Print one JSON document on standard output, and nothing else.
    """
    check(steps, temperatures, texts, length, rule_texts)
    source, folder = Path(source), out or Path(source) / "frontier"
    known = checkpoints(source)
    prepared = open_tokens(data)
    critic = load(known.get(judge, Path(judge)), device=device)
    if not prepared.tokenizer.agrees(critic.tokenizer):
        raise RemaskError(f"{judge} has another tokenizer than {data}: it cannot judge texts by their ids")
    if not critic.family.exact:
        raise RemaskError(f"{judge} is no autoregressive model: a judge's likelihood must be exact and that of a text")
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
        found = Found.open(folder, settings)
        real = torch.stack([rows.stack([i * len(rows) // texts])[0] for i in range(texts)])
        if found.real is None:
            found.real = judged(critic, real)
            found.save()
        for name, path in models.items():
            model = load(path, device=device)
            ways = [(spec, n, made) for spec in samplers or [""] for n, made in ways_of(model, spec, steps)]
            with progress(name, len(ways) * (len(temperatures) + 1), "measurements") as tick:
                for spec, n, made in ways:
                    way = name, spec or model.family.sampler, n
                    measure(found, way, model, made, critic, temperatures, real[:rule_texts], tick)
        return told(found, folder, json)


def measure(
    found: Found,
    way: tuple[str, str, int],
    model: Checkpoint,
    params: SamplingParams,
    critic: Checkpoint,
    temperatures: Sequence[float],
    real: torch.Tensor,
    tick: Callable[..., None],
) -> None:
    """What is missing of one model and step count; each number is kept as soon as it is there."""
    texts, length, seed = (found.settings[name] for name in ("texts", "length", "seed"))
    if way not in found.rules:
        found.rules[way] = likelihood(model, params, real, seed)
        found.save()
    tick(1)
    known = {p.key: p for p in found.points}
    for t in temperatures:
        if (*way, t) not in known:
            about: dict[str, Any] = dict(zip(("model", "sampler", "steps", "temperature"), (*way, t), strict=True))
            known[*way, t] = point(model, replace(params, temperature=t), critic, texts, length, seed, about)
            found.points.append(known[*way, t])
            found.save()
        last = known[*way, t]
        tick(1, steps=way[2], temperature=t, nll=last.nll, entropy=last.entropy)


def check(steps: list[int], temperatures: list[float], texts: int, length: int, rule_texts: int) -> None:
    """Raises for numbers that are out of range."""
    for name, value, least in (("texts", texts, 2), ("length", length, 2), ("rule_texts", rule_texts, 0)):
        if value < least:
            raise RemaskError(f"{name} is {value}; it must be at least {least}")
    for name, values in (("steps", steps), ("temperatures", temperatures)):
        if not values or len(set(values)) < len(values) or not all(0 < x < math.inf for x in values):
            raise RemaskError(f"{name} are {values}; they must be above 0, finite, and each another")


def checkpoints(source: Path) -> dict[str, Path]:
    """The models under a folder, by name: run directories, published folders, or a study's runs."""
    if not source.is_dir():
        raise RemaskError(f"{source} is no folder of runs")
    inside = source / "runs" if (source / "plan.json").exists() else source
    found = {p.parents[1].name: p.parents[1] for p in inside.glob("*/latest/config.json")}
    found |= {p.parent.name: p.parent for p in inside.glob("*/config.json")}
    if not found:
        raise RemaskError(f"{source} holds no model: a folder NAME/latest/ or NAME/ with a config.json")
    return dict(sorted(found.items()))


def fingerprint(path: Path) -> str:
    """Of a model's weights, so that a measurement is known to be theirs."""
    folder = next(p for p in (path / "latest", path) if (p / "model.safetensors").exists())
    with open(folder / "model.safetensors", "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def ways_of(model: Checkpoint, spec: str, steps: Sequence[int]) -> list[tuple[int, SamplingParams]]:
    """(steps, params) for each count; (0, params) for a sampler that takes none. None where it does not fit."""
    sampler = sampler_of(model.family, spec or None)
    if not sampler.fits(model.family):
        return []
    if not sampler.takes_steps:
        return [(0, SamplingParams(sampler=sampler, stop=False))]
    return [(n, SamplingParams(sampler=sampler, steps=n, stop=False)) for n in steps]


def judged(critic: Checkpoint, rows: torch.Tensor) -> Quality:
    """The quality of (B, L) texts of the judge's own ids."""
    texts = [Request(row) for row in rows.tolist()]
    found = score(critic.model, critic.family, texts, device=critic.model.device)
    nats = torch.tensor([estimate.nats_per_token for _, estimate in found], dtype=torch.float64)
    entropy = torch.tensor([entropy_of(row) for row in rows], dtype=torch.float64)
    of = {"nll": nats, "entropy": entropy}
    errors = {f"{name}_error": float(x.std() / math.sqrt(len(x))) for name, x in of.items()}
    return Quality(**{name: float(x.mean()) for name, x in of.items()}, **errors)


def entropy_of(row: torch.Tensor) -> float:
    """Nats, of how often each id stands in one text."""
    share = row.unique(return_counts=True)[1].double() / len(row)
    return -float((share * share.log()).sum())


def point(
    model: Checkpoint,
    params: SamplingParams,
    critic: Checkpoint,
    texts: int,
    length: int,
    seed: int,
    about: dict[str, Any],
) -> Point:
    """Texts without a prompt: their quality, and how fast they were written."""
    device = model.model.device
    canvas = Canvas.of([[None] * length] * texts, device)
    begun = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=machine.fast_bf16(device)):
        state = fill(model.model, model.family, canvas, replace(params, seed=seed))
    tokens = state.tokens.cpu()
    seconds = time.perf_counter() - begun
    passes = float(state.calls.double().mean())
    quality = asdict(judged(critic, tokens))
    return Point(**quality, **about, passes=passes, tokens_per_second=texts * length / seconds)


def likelihood(model: Checkpoint, params: SamplingParams, rows: torch.Tensor, seed: int) -> Estimate | None:
    """-log p of real texts under the rule by which a sampler writes at temperature 1; None where it has none."""
    sampler = params.sampler
    scored = model.family.exact or (sampler.chooses_first and sampler.deterministic)
    if not len(rows) or sampler.rewrites or not scored:
        return None
    texts = [Request(row) for row in rows.tolist()]
    options: dict[str, Any] = {} if model.family.exact else {"estimator": "rule", "params": params, "seed": seed}
    found = score(model.model, model.family, texts, device=model.model.device, **options)
    return Estimate.total(estimate for _, estimate in found)
