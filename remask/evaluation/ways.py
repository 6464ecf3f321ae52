"""Ways of writing: a sampler with its options, a cache, a block length and a number of steps.

A way is written in one word, as "Threshold:threshold=0.8,block=32,cache=Selective:candidates=16,gap=2". Behind
`cache=NAME` an option that the cache has is the cache's, and so behind `expand=NAME`. Any other that the sampler has is
the sampler's, and the rest are options of `remask sample`, or `tokens_per_step`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from typing import Any

from remask.errors import RemaskError, unknown
from remask.families.base import Family
from remask.options import parse_options
from remask.sampling import Sampler, SamplingParams, samplers
from remask.sampling.caching import policy_of
from remask.sampling.expanding import expansion_of
from remask.sampling.loop import resolve
from remask.sampling.sampler import require_fit, sampler_of

SHARES = (1, 2, 4, 8)
"""Tokens a step, on average, in the sweep that is made where nothing is named."""
LONG = 32
"""Texts of more tokens than this are written in blocks of this many by the ways with a cache of that sweep."""


@dataclass(frozen=True, kw_only=True)
class Decoding(SamplingParams):
    """How a text is written, apart from the sampler: the options of `remask sample`, and one more."""

    tokens_per_step: int | None = None
    """In place of steps: as many of them as write this many tokens each, for texts of any length."""


OPTIONS = [f.name for f in fields(Decoding) if f.name not in ("sampler", "length", "seed", "stop", "matching")]
"""What a way says of them; the others are of the questions, and the same for all ways."""


@dataclass(frozen=True)
class Way:
    """A sampler and how it is used."""

    name: str
    """As it can be written on the command line: one spelling for each way, without what is the default."""
    sampler: Sampler
    options: dict[str, Any] = field(default_factory=dict)
    """Those of `Decoding` that were given; the temperature is by default that of the whole benchmark."""

    @property
    def rule(self) -> str:
        """The name of the sampler."""
        return type(self.sampler).__name__

    @property
    def cache(self) -> str:
        """The approximate cache with its options, or none."""
        return self.options.get("cache", "none")

    def params(self, length: int, temperature: float, **more: Any) -> SamplingParams:
        """The options of a generation of `length` tokens."""
        own = {"temperature": temperature, **self.options}
        if each := own.pop("tokens_per_step", None):
            own["steps"] = -(-length // each)
        return SamplingParams(sampler=self.sampler, length=length, **own, **more)

    def check(self, family: Family, length: int) -> None:
        """RemaskError, with the reason, where a model of that family cannot write in this way."""
        require_fit(self.sampler, family)
        resolve(self.params(length, 0.0), family, length)


@dataclass
class Parts:
    """The options of a way, as KEY=VALUE, by what they are options of."""

    sampler: list[str] = field(default_factory=list)
    decoding: list[str] = field(default_factory=list)
    cache: list[str] = field(default_factory=list)
    expand: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """Those of the cache and the expansion, where they are given."""


NAMED = {"cache": policy_of, "expand": expansion_of}
"""The options of `Decoding` that are names with options of their own, and what makes of one what it names."""


def way_of(text: str) -> Way:
    """Reads a way; RemaskError for an unknown sampler, cache or option, naming the known ones, and for one twice."""
    name, _, given = text.strip().partition(":")
    known = samplers()
    if name not in known:
        raise unknown("sampler", name, known)
    parts = divided(known[name], given)
    of_sampler = parse_options(known[name], ",".join(parts.sampler))
    options = parse_options(Decoding, ",".join(parts.decoding))
    if options.get("steps") is not None and options.get("tokens_per_step") is not None:
        raise RemaskError("give steps or tokens_per_step, not both")
    if options.get("tokens_per_step") == 0:
        raise RemaskError("tokens_per_step is 0; it must be at least 1")
    words = [*spelled(known[name], of_sampler), *spelled(Decoding, options, always="temperature")]
    for key, make in NAMED.items():
        named = parts.names.get(key, "none")
        if named != "none":
            kind = type(make(named))
            own = spelled(kind, parse_options(kind, ",".join(getattr(parts, key))))
            options[key] = ":".join(filter(None, [named, ",".join(own)]))
            make(options[key])  # which says what is wrong with a value
            words.append(f"{key}={options[key]}")
    return Way(":".join(filter(None, [name, ",".join(words)])), known[name](**of_sampler), options)


def divided(kind: type[Sampler], text: str) -> Parts:
    """The options of a way of a sampler, by what they belong to; RemaskError for one that is unknown or given twice."""
    found, inner = Parts(), dict[str, str]()  # options of a cache or an expansion, and of which of the two
    own = {f.name for f in fields(kind)}
    seen = set[tuple[str, str]]()
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = (piece.strip() for piece in part.partition("="))
        place = inner.get(key, "sampler" if key in own else "decoding")
        if place == "decoding" and key not in OPTIONS:
            raise unknown(f"option of the way {kind.__name__}", key, [*own, *OPTIONS, *inner])
        keys = [(place, key)]
        if place == "decoding" and key in NAMED:
            place = key
            found.names[key], _, part = (piece.strip() for piece in value.partition(":"))
            made = NAMED[key](found.names[key])
            inner |= dict.fromkeys((f.name for f in fields(made)) if made else (), key)
            keys += [(key, part.partition("=")[0].strip())] if part else []
        for one in keys:
            if one in seen:
                raise RemaskError(f"the way {kind.__name__}:{text} gives {one[1]} twice; give it once")
            seen.add(one)
        getattr(found, place).extend([part] if part else [])
    return found


def spelled(kind: Any, given: dict[str, Any], always: str = "") -> list[str]:
    """Options of a dataclass as KEY=VALUE in one order and one spelling, without those that are the default."""
    default = {f.name: f.default for f in fields(kind)}
    return [f"{key}={word(value)}" for key, value in sorted(given.items()) if key == always or value != default[key]]


def word(value: Any) -> str:
    """A value as `read_value` reads it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


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
    Autoregressive models also `PromptLookup`, their fast way to the same text.
    """
    shares = [n for n in SHARES if n < length or n == 1]
    if family.order != "any":
        own = sampler_of(family)
        name = type(own).__name__
        if own.takes_steps:
            return [way_of(f"{name}:tokens_per_step={n}") for n in shares]
        return [way_of(name), way_of("PromptLookup")] if family.order == "left" else [way_of(name)]
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
