"""The measurements of `remask frontier`, kept in frontier.json, and the curves and the Pareto front made from them."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from remask.evaluation.judging import Quality
from remask.evaluation.kept import read_kept
from remask.evaluation.pareto import pareto_front
from remask.files import write_atomically
from remask.likelihood import Estimate

FILE = "frontier.json"


@dataclass(frozen=True, kw_only=True)
class Point(Quality):
    """The quality and speed of the texts of one model, with one sampler, number of steps and temperature."""

    model: str
    sampler: str
    steps: int
    temperature: float
    passes: float
    """Mean number of network passes over a text."""
    tokens_per_second: float

    @property
    def key(self) -> tuple[str, str, int, float]:
        """Model, sampler, steps and temperature, by which a measurement is found again."""
        return self.model, self.sampler, self.steps, self.temperature


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One model, sampler and number of steps, over all temperatures."""

    model: str
    sampler: str
    steps: int
    tokens_per_second: float
    """Median over the temperatures."""
    matched: float | None
    """The judge's NLL where the token entropy is that of real text; None where the sweep does not reach it."""
    matched_error: float | None
    fastest: bool = False
    """Whether it is on the Pareto front."""


@dataclass
class Measurements:
    """What was measured so far, as kept in frontier.json."""

    path: Path
    settings: dict[str, Any]
    """Options that decide the results; measurements with other options are not mixed with these."""
    real: Quality | None
    """Real text under the judge; None before it is measured."""
    points: list[Point]
    rules: dict[tuple[str, str, int], Estimate | None]
    """For each model, sampler and number of steps, -log p of real text under the sampler's rule; None where the rule
    has no likelihood."""

    @staticmethod
    def open(folder: Path, settings: dict[str, Any]) -> "Measurements":
        """Reads frontier.json, if it exists. RemaskError where its settings differ from these, or it is damaged."""
        path = folder / FILE
        if not path.exists():
            return Measurements(path, settings, None, [], {})
        (real, points, rules), settings = read_kept(path, settings, parse)
        return Measurements(path, settings, real, points, rules)

    def save(self) -> None:
        """Writes frontier.json, whole or not at all."""
        rules = [
            {"model": m, "sampler": s, "steps": n, "is": None if one is None else asdict(one)}
            for (m, s, n), one in self.rules.items()
        ]
        real = None if self.real is None else asdict(self.real)
        kept = {"settings": self.settings, "real": real, "points": [asdict(p) for p in self.points], "rules": rules}
        write_atomically(self.path, json.dumps(kept, indent=1) + "\n")

    def curves(self) -> list[Curve]:
        """The curve of each model, sampler and number of steps, and which of them are on the Pareto front."""
        assert self.real is not None
        groups: dict[tuple[str, str, int], list[Point]] = {}
        for one in self.points:
            groups.setdefault(one.key[:3], []).append(one)
        curves = []
        for (model, sampler, steps), points in groups.items():
            speed = float(np.median([p.tokens_per_second for p in points]))
            matched, error = at_entropy(points, self.real.entropy)
            about = {"model": model, "sampler": sampler, "steps": steps, "tokens_per_second": speed}
            curves.append(Curve(**about, matched=matched, matched_error=error))
        compared = [c for c in curves if c.matched is not None]
        front = pareto_front([(c.tokens_per_second, -c.matched) for c in compared if c.matched is not None])
        fastest = {id(c) for c, on in zip(compared, front, strict=True) if on}
        return [replace(c, fastest=id(c) in fastest) for c in curves]


def parse(kept: dict[str, Any]) -> tuple[Quality | None, list[Point], dict[tuple[str, str, int], Estimate | None]]:
    """The measurements in the content of frontier.json: real text, points, and likelihoods of the rules."""
    real = Quality(**kept["real"]) if kept["real"] else None
    points = [Point(**one) for one in kept["points"]]
    rules = {
        (one["model"], one["sampler"], one["steps"]): Estimate(**one["is"]) if one["is"] else None
        for one in kept["rules"]
    }
    return real, points, rules


def at_entropy(points: Sequence[Point], entropy: float) -> tuple[float | None, float | None]:
    """The NLL at which a sweep of temperatures reaches `entropy`, with its standard error; None where it does not.

    It is interpolated linearly between the two temperatures on either side. The error combines those of both NLLs with
    those of both entropies, times the slope between them. Where a sweep crosses the entropy more than once, the
    crossing at the highest temperature counts.
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
