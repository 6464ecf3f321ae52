"""What `remask frontier` measures, kept in frontier.json, and how it is compared."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from remask.errors import RemaskError
from remask.files import differences, write_atomically
from remask.likelihood import Estimate

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
    """Whether it is on the Pareto front."""


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
        known = {name: value for name, value in settings.items() if name in before}  # the others are added to the file
        other = differences(before, {**before, **known})
        if other:
            raise RemaskError(f"{path} was measured otherwise: {'; '.join(other)}. Choose another --out")
        return Found(path, {**before, **settings}, real, points, rules)

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
    """Whether nothing is at least as fast and as good, and better in one of the two."""
    if one.matched is None:
        return False
    own = (one.tokens_per_second, -one.matched)
    others = [(x.tokens_per_second, -x.matched) for x in every if x.matched is not None]
    return not any(x[0] >= own[0] and x[1] >= own[1] and x != own for x in others)
