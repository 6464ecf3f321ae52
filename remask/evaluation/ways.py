"""Ways of writing: a sampler with its options, a cache, a block length and a number of steps.

A way is written in one word, as "Threshold:threshold=0.9,block=32,cache=Dual:refresh=8". An option of that name which
the sampler has is the sampler's; any other is one of `Decoding`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

from remask.api import sampler_of
from remask.errors import RemaskError, unknown
from remask.families.base import Family
from remask.options import parse_options
from remask.sampling import Sampler, SamplingParams, samplers
from remask.sampling.caching import policy_of
from remask.sampling.loop import resolve
from remask.sampling.sampler import require_fit

SHARES = (1, 2, 4, 8)
"""Tokens a step, on average, in the sweep that is made where nothing is named."""
LONG = 32
"""Texts of more tokens than this are written in blocks of this many by the ways with a cache of that sweep."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How a text is written, apart from the sampler."""

    steps: int | None = None
    """Steps over the whole text; by default the sampler's own number."""
    tokens_per_step: int | None = None
    """In place of steps: as many of them as write this many tokens each, for texts of any length."""
    block: int | None = None
    """Fill blocks of this many tokens from left to right."""
    cache: str = "none"
    """An approximate cache, such as Dual:refresh=8."""
    temperature: float | None = None
    """Divides the logits before each draw; by default that of the whole benchmark."""
    top_p: float = 1.0
    top_k: int = 0
    guidance: float = 0.0

    def __post_init__(self) -> None:
        if self.steps is not None and self.tokens_per_step is not None:
            raise RemaskError("give steps or tokens_per_step, not both")
        if self.tokens_per_step is not None and self.tokens_per_step < 1:
            raise RemaskError(f"tokens_per_step is {self.tokens_per_step}; it must be at least 1")
        policy_of(self.cache)


@dataclass(frozen=True)
class Way:
    """A sampler and how it is used."""

    name: str
    """As it is written on the command line, in one order of the options."""
    sampler: Sampler
    decoding: Decoding

    @property
    def rule(self) -> str:
        """The name of the sampler."""
        return type(self.sampler).__name__

    def params(self, length: int, temperature: float, **more: Any) -> SamplingParams:
        """The options of a generation of `length` tokens."""
        own = self.decoding
        steps = -(-length // own.tokens_per_step) if own.tokens_per_step else own.steps
        return SamplingParams(
            sampler=self.sampler,
            length=length,
            steps=steps,
            block=own.block,
            cache=own.cache,
            temperature=temperature if own.temperature is None else own.temperature,
            top_p=own.top_p,
            top_k=own.top_k,
            guidance=own.guidance,
            **more,
        )

    def check(self, family: Family, length: int) -> None:
        """RemaskError, with the reason, where a model of that family cannot write in this way."""
        require_fit(self.sampler, family)
        resolve(self.params(length, 0.0), family, length)


def way_of(text: str) -> Way:
    """Reads a way; RemaskError for an unknown sampler, cache or option, naming the known ones."""
    name, _, given = text.strip().partition(":")
    known = samplers()
    if name not in known:
        raise unknown("sampler", name, known)
    kind = known[name]
    own = {f.name for f in fields(kind)}
    others = [f.name for f in fields(Decoding)]
    parts = [part.strip() for part in given.split(",") if part.strip()]
    of_sampler = [part for part in parts if part.partition("=")[0].strip() in own]
    of_decoding = [part for part in parts if part not in of_sampler]
    for part in of_decoding:
        if (key := part.partition("=")[0].strip()) not in others:
            raise unknown(f"option of the way {name}", key, [*own, *others])
    sampler = kind(**parse_options(kind, ",".join(of_sampler)))
    decoding = Decoding(**parse_options(Decoding, ",".join(of_decoding)))
    return Way(":".join(filter(None, [name, ",".join([*sorted(of_sampler), *sorted(of_decoding)])])), sampler, decoding)


def product_of(rules: Sequence[str], caches: Sequence[str], steps: Sequence[int], blocks: Sequence[int]) -> list[Way]:
    """Every sampler with every cache, number of steps and block; 0 is a block of the whole text.

    Steps, and blocks, are left to the samplers that take them, so that the others come once.
    """
    found: dict[str, Way] = {}
    for spec, cache, n, block in product(rules, caches or ["none"], steps or [0], blocks or [0]):
        base = way_of(spec)
        options = [spec.partition(":")[2]]
        options += [f"steps={n}"] if n and base.sampler.takes_steps else []
        options += [f"block={block}"] if block and base.sampler.takes_blocks else []
        options += [f"cache={cache}"] if cache != "none" else []
        way = way_of(f"{base.rule}:{','.join(filter(None, options))}")
        found.setdefault(way.name, way)
    return list(found.values())


def usual_ways(family: Family, length: int) -> list[Way]:
    """The sweep of a family where nothing is named, for texts of `length` tokens.

    Masked models: `Confidence` at several numbers of steps, and the rules that write what is certain, without a cache
    and with two kinds of one. Other families: their own sampler, at several numbers of steps where it takes any.
    """
    shares = [n for n in SHARES if n < length or n == 1]
    if family.order != "any":
        own = sampler_of(family)
        name = type(own).__name__
        return [way_of(f"{name}:tokens_per_step={n}") for n in shares] if own.takes_steps else [way_of(name)]
    block = f"block={LONG}" if length > LONG else ""
    caches = ("", "cache=Dual", "cache=Prefix")
    rules = product(("Threshold", "Factor", "EntropyBound"), caches)
    adaptive = [f"{rule}:{','.join(filter(None, [block, cache]))}" for rule, cache in rules]
    return [way_of(text) for text in [*(f"Confidence:tokens_per_step={n}" for n in shares), *adaptive]]


def fitting(ways: Iterable[Way], family: Family, length: int) -> tuple[list[Way], list[str]]:
    """The ways in which a family can write, and for each of the others why it cannot."""
    fit, reasons = [], []
    for way in ways:
        try:
            way.check(family, length)
            fit.append(way)
        except RemaskError as error:
            reasons.append(f"{way.name}: {error}")
    return fit, reasons
