"""Speed against quality across families: texts of every checkpoint at many step counts, judged by one model.

    remask scale frontier runs --judge ar --data data/novels

Neither number of a text's quality means anything alone: a judge likes repetition, and noise has entropy. So the
temperature is swept, and models are compared by the judge's NLL where their texts have the token entropy of real text
(generative frontiers, arXiv 2604.02718). Token entropy is that of the ids within one text, a stand-in for the model's.
"""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from remask import machine
from remask.api import sampler_from
from remask.checkpoints.checkpoint import Checkpoint, load
from remask.data.batches import Rows
from remask.data.tokens import open_tokens
from remask.errors import RemaskError
from remask.likelihood import Estimate, Text, score
from remask.locking import locked
from remask.sampling import Canvas, Dice, Pen, Sampler
from remask.terminal import progress

FILE = "frontier.json"


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What a judge makes of some texts: means over them, with their standard errors."""

    nll: float
    """Nats a token under the judge."""
    nll_error: float
    entropy: float
    """Nats; of how often each id stands in one text."""
    entropy_error: float


@dataclass(frozen=True, kw_only=True)
class Point(Quality):
    """The texts of one model, written in one way."""

    model: str
    sampler: str
    steps: int
    temperature: float
    passes: float
    """Network passes over a text."""
    tokens_per_second: float

    @property
    def key(self) -> tuple[str, str, int, float]:
        """What it is a measurement of."""
        return self.model, self.sampler, self.steps, self.temperature


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One model and step count, over all temperatures."""

    model: str
    sampler: str
    steps: int
    tokens_per_second: float
    """Median over the temperatures."""
    matched: float | None
    """The judge's NLL at the entropy of real text; None where no temperature comes to it."""
    matched_error: float | None
    fastest: bool = False
    """Whether no other curve is as fast and better: on the Pareto front."""


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
        json: Print one JSON document on standard output, and nothing else.
    """
    from remask.scaling import frontier_report

    check(steps, temperatures, texts, length, rule_texts)
    source, folder = Path(source), out or Path(source) / "frontier"
    known = checkpoints(source)
    critic = load(known.get(judge, Path(judge)))
    if not critic.family.exact:
        raise RemaskError(f"{judge} is no autoregressive model: a judge's likelihood must be exact and that of a text")
    prepared = open_tokens(data)
    rows = Rows(prepared.valid, length)
    if len(rows) < texts:
        raise RemaskError(f"the validation split of {data} has {len(rows)} texts of {length} tokens; {texts} are asked")
    models = {name: path for name, path in known.items() if only in name}
    if not models:
        raise RemaskError(f"no model in {source} has {only!r} in its name; it holds {', '.join(known)}")
    settings = {"judge": judge, "corpus": prepared.manifest["fingerprint"], "texts": texts, "length": length}
    settings |= {"seed": seed, "rule_texts": rule_texts}
    with locked(folder, "judging"):
        found = Found.open(folder, settings)
        real = torch.stack([rows.stack([i * len(rows) // texts])[0] for i in range(texts)])
        if found.real is None:
            found.real = judged(critic, real)
            found.save()
        for name, path in models.items():
            model = load(path)
            if not prepared.tokenizer.agrees(model.tokenizer):
                raise RemaskError(f"{path} has another tokenizer than {data}: its texts cannot be judged by their ids")
            ways = [(spec, n, made) for spec in samplers or [""] for n, made in written(model, spec, steps, length)]
            with progress(name, len(ways) * (len(temperatures) + 1), "measurements") as tick:
                for spec, n, made in ways:
                    way = name, spec or model.family.sampler, n
                    measure(found, way, model, made, critic, temperatures, real[:rule_texts], tick)
        return frontier_report.told(found, folder, json)


def measure(
    found: "Found",
    way: tuple[str, str, int],
    model: Checkpoint,
    sampler: Sampler,
    critic: Checkpoint,
    temperatures: Sequence[float],
    real: torch.Tensor,
    tick: Callable[..., None],
) -> None:
    """What is missing of one model and step count; each number is kept as soon as it is there."""
    texts, length, seed = (found.settings[name] for name in ("texts", "length", "seed"))
    if way not in found.rules:
        found.rules[way] = likelihood(model, sampler, real, seed)
        found.save()
    tick(1)
    known = {p.key: p for p in found.points}
    for t in temperatures:
        if (*way, t) not in known:
            about: dict[str, Any] = dict(zip(("model", "sampler", "steps", "temperature"), (*way, t), strict=True))
            hot = sampler.writing_with(replace(sampler.written_with, temperature=t))
            known[*way, t] = point(model, hot, critic, texts, length, seed, about)
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


def written(model: Checkpoint, spec: str, steps: Sequence[int], length: int) -> list[tuple[int, Sampler]]:
    """(steps, sampler) for each count; (0, sampler) for one that takes none. None where it does not fit."""
    made = sampler_from(model, spec or None)
    if not made.fits(model.family):
        return []
    if not {"steps", "at_once"} & {f.name for f in fields(made)}:
        return [(0, made)]
    return [(n, sampler_from(model, spec or None, n, length=length)) for n in steps]


def judged(critic: Checkpoint, rows: torch.Tensor) -> Quality:
    """The quality of (B, L) texts of the judge's own ids."""
    found = score(critic.model, critic.family, [Text(row) for row in rows.tolist()], rows=16)
    nats = torch.tensor([one.nats_per_token for one in found], dtype=torch.float64)
    entropy = torch.tensor([entropy_of(row) for row in rows], dtype=torch.float64)
    of = {"nll": nats, "entropy": entropy}
    errors = {f"{name}_error": float(x.std() / math.sqrt(len(x))) for name, x in of.items()}
    return Quality(**{name: float(x.mean()) for name, x in of.items()}, **errors)


def entropy_of(row: torch.Tensor) -> float:
    """Nats, of how often each id stands in one text."""
    share = row.unique(return_counts=True)[1].double() / len(row)
    return -float((share * share.log()).sum())


def point(
    model: Checkpoint, sampler: Sampler, critic: Checkpoint, texts: int, length: int, seed: int, about: dict[str, Any]
) -> Point:
    """Texts without a prompt: their quality, and how fast they were written."""
    device = model.model.device
    canvas = Canvas.of([[None] * length] * texts, None, device)
    start = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=machine.fast_bf16(device)):
        *_, last = sampler.stream(model.model, model.family, canvas, Dice(seed, texts, device))
    tokens = last.tokens.cpu()
    seconds = time.perf_counter() - start
    passes = float(last.evaluations.double().mean())
    quality = asdict(judged(critic, tokens))
    return Point(**quality, **about, passes=passes, tokens_per_second=texts * length / seconds)


def likelihood(model: Checkpoint, sampler: Sampler, rows: torch.Tensor, seed: int) -> Estimate | None:
    """-log p of real texts under the rule by which a sampler writes at temperature 1; None where it has none."""
    made = sampler.writing_with(Pen())
    if not len(rows) or made.rewrites or not (model.family.exact or (made.chooses_first and made.deterministic)):
        return None
    texts = [Text(row) for row in rows.tolist()]
    if model.family.exact:
        return Estimate.total(score(model.model, model.family, texts))
    return Estimate.total(score(model.model, model.family, texts, estimator="rule", sampler=made, seed=seed))


@dataclass
class Found:
    """What was measured so far, kept in frontier.json."""

    path: Path
    settings: dict[str, Any]
    real: Quality | None
    points: list[Point]
    rules: dict[tuple[str, str, int], Estimate | None]

    @staticmethod
    def open(folder: Path, settings: dict[str, Any]) -> "Found":
        """Reads what is there. RemaskError where it was measured otherwise, or is damaged."""
        path = folder / FILE
        if not path.exists():
            return Found(path, settings, None, [], {})
        try:
            kept = json.loads(path.read_text())
            real = Quality(**kept["real"]) if kept["real"] else None
            points = [Point(**one) for one in kept["points"]]
            rules = {
                (one["model"], one["sampler"], one["steps"]): Estimate(**one["is"]) if one["is"] else None
                for one in kept["rules"]
            }
            before = dict(kept["settings"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RemaskError(f"{path} is damaged: {error!r}; remove it, or choose another --out") from None
        other = [f"{k} {before.get(k)} there, {v} now" for k, v in settings.items() if before.get(k) != v]
        if other:
            raise RemaskError(f"{path} was measured otherwise: {'; '.join(other)}. Choose another --out")
        return Found(path, settings, real, points, rules)

    def save(self) -> None:
        """Writes frontier.json, whole or not at all."""
        rules = [
            {"model": m, "sampler": s, "steps": n, "is": None if one is None else asdict(one)}
            for (m, s, n), one in self.rules.items()
        ]
        real = None if self.real is None else asdict(self.real)
        kept = {"settings": self.settings, "real": real, "points": [asdict(p) for p in self.points], "rules": rules}
        fresh = self.path.with_suffix(".tmp")
        fresh.write_text(json.dumps(kept, indent=1) + "\n")
        os.replace(fresh, self.path)

    def curves(self) -> list[Curve]:
        """Each model and step count at the entropy of real text, and which are on the Pareto front."""
        assert self.real is not None
        groups: dict[tuple[str, str, int], list[Point]] = {}
        for one in self.points:
            groups.setdefault(one.key[:3], []).append(one)
        found = []
        for (model, sampler, steps), points in groups.items():
            speed = float(np.median([p.tokens_per_second for p in points]))
            matched, error = at_entropy(points, self.real.entropy)
            about = {"model": model, "sampler": sampler, "steps": steps, "tokens_per_second": speed}
            found.append(Curve(**about, matched=matched, matched_error=error))
        return [replace(one, fastest=on_front(one, found)) for one in found]


def at_entropy(points: Sequence[Point], entropy: float) -> tuple[float | None, float | None]:
    """The NLL of a sweep where its entropy is as given, between the two temperatures around it; with its error.

    The error holds those of the NLL at both, and of the entropies by the slope between them. Where entropy rises and
    falls with temperature the hottest crossing counts, which is the one that real text's temperature is nearest to.
    """
    ordered = sorted(points, key=lambda p: p.temperature)
    for cold, hot in reversed(list(pairwise(ordered))):
        if min(cold.entropy, hot.entropy) <= entropy <= max(cold.entropy, hot.entropy) and cold.entropy != hot.entropy:
            share = (entropy - cold.entropy) / (hot.entropy - cold.entropy)
            slope = (hot.nll - cold.nll) / (hot.entropy - cold.entropy)
            parts = [(1 - share) * cold.nll_error, share * hot.nll_error]
            parts += [slope * (1 - share) * cold.entropy_error, slope * share * hot.entropy_error]
            return (1 - share) * cold.nll + share * hot.nll, math.sqrt(sum(x**2 for x in parts))
    return None, None


def on_front(one: Curve, every: Sequence[Curve]) -> bool:
    """Whether nothing is both faster and better."""
    if one.matched is None:
        return False
    return not any(
        other.matched is not None and other.tokens_per_second > one.tokens_per_second and other.matched < one.matched
        for other in every
    )
