"""What the tests of samplers share: small families and networks, prompts of every kind, and one way to fill them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from tables import Counting, tiny
from torch import Tensor

from remask.families import Denoiser, Family
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.model.transformer import Transformer
from remask.sampling import Canvas, Sampler, SamplingParams, State, Step, start, stream
from remask.sampling.adaptive import EntropyBound, Factor, LocalLeap, Runs, Threshold
from remask.sampling.ancestral import Ancestral
from remask.sampling.confidence import Confidence
from remask.sampling.credit import Credit
from remask.sampling.first_hitting import FirstHitting
from remask.sampling.klass import KLASS
from remask.sampling.left_to_right import LeftToRight
from remask.sampling.llada import LLaDA
from remask.sampling.prompt_lookup import PromptLookup
from remask.sampling.smdm import SMDM
from remask.seeds import mix_seeds
from remask.vocabulary import Vocabulary

Row = Sequence[int | None]

V, END, MASK = 9, 8, 9
ENDS = Masked().over(Vocabulary(size=7, mask=6, end=4, end_of_turn=5))
MASKED = Masked().over(Vocabulary(size=V + 1, mask=MASK, end=END))
CAUSAL = Autoregressive().over(Vocabulary(size=V, end=END))

PROMPTED: list[Row] = [
    [1, 2, *[None] * 9],
    [5, *[None] * 5],
    [3, 1, 4, 1, 5, *[None] * 8],
    [None, 4, None, None, None, None, None],
    [2, None, None, 6, None, 7, 7, None],
]


def network() -> Transformer:
    """One network for both families: whether it is causal is said in the call."""
    return tiny(V + 1, V, seed=2, sharpness=2.0)


def how(sampler: Sampler, **options: Any) -> SamplingParams:
    """Params that do not stop at the end of a text."""
    return SamplingParams(sampler=sampler, **{"stop": False, **options})


# every rule with every schedule, and every number of steps with each of them
BIDIRECTIONAL: dict[str, SamplingParams] = {
    "ancestral": how(Ancestral(), steps=7),
    "ancestral, fine": how(Ancestral()),
    "ancestral in blocks": how(Ancestral(), steps=10, block=3),
    "first hitting": how(FirstHitting()),
    "first hitting, three at once": how(FirstHitting(at_once=3)),
    "first hitting in blocks": how(FirstHitting(), steps=4, block=2),
    "probability, one a step": how(Confidence()),
    "probability, linear, 12 steps": how(Confidence(schedule="linear"), steps=12),
    "margin, 4 steps": how(Confidence(rule="margin"), steps=4),
    "margin, linear, one a step": how(Confidence(rule="margin", schedule="linear")),
    "entropy, 12 steps": how(Confidence(rule="entropy"), steps=12),
    "entropy, linear, 4 steps": how(Confidence(rule="entropy", schedule="linear"), steps=4),
    "random, 4 steps": how(Confidence(rule="random"), steps=4),
    "random, linear, 12 steps": how(Confidence(rule="random", schedule="linear"), steps=12),
    "left, 12 steps": how(Confidence(rule="left"), steps=12),
    "left, linear, 4 steps": how(Confidence(rule="left", schedule="linear"), steps=4),
    "blocks, one a step": how(Confidence(), block=3),
    "blocks, linear": how(Confidence(schedule="linear", rule="entropy"), steps=8, block=4),
    "llada": how(LLaDA()),
    "llada, late end, in blocks": how(LLaDA(late_end=True), steps=6, block=4),
    "llada, random": how(LLaDA(remasking="random", never_end=True), steps=5),
    "threshold": how(Threshold(threshold=0.4)),
    "threshold, in blocks": how(Threshold(threshold=0.3), block=3),
    "factor": how(Factor(factor=1.5)),
    "entropy bound": how(EntropyBound(bound=0.8), block=5),
    "entropy bound, by margin": how(EntropyBound(bound=1.5, measure="margin")),
    "local leap": how(LocalLeap(threshold=0.5, near=0.3)),
    "runs": how(Runs(threshold=0.7, low=0.2)),
    "klass": how(KLASS(threshold=0.3, drift=0.05, history=1), steps=5),
    "klass, in blocks": how(KLASS(threshold=0.2, drift=0.5), block=4),
    "credit": how(Credit(threshold=0.4, weight=1.5), block=6),
    "probability, near what is written": how(Confidence(prior=2.0), steps=4),
    "threshold, finished early": how(Threshold(threshold=0.8, finish=0.8), block=3),
    "smdm": how(SMDM(), steps=6),
    "smdm, origin, in blocks": how(SMDM(algorithm="origin"), steps=9, block=3),
}
EVERY: dict[str, SamplingParams] = {
    **BIDIRECTIONAL,
    "left to right": how(LeftToRight()),
    "prompt look-up": how(PromptLookup()),
}


def family_of(sampler: Sampler) -> Family:
    """The family that a sampler fits."""
    return CAUSAL if sampler.fits(CAUSAL) else MASKED


def begin(
    way: Sampler | SamplingParams,
    rows: Sequence[Row],
    *,
    family: Family | None = None,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    **options: Any,
) -> State:
    """Some rows before their first step, each with noise of its own; options are those of `SamplingParams`."""
    params = how(way, **options) if isinstance(way, Sampler) else replace(way, **options)
    seeds = [mix_seeds(seed, row) for row in range(len(rows))] if seeds is None else seeds
    return start(family or family_of(params.sampler), Canvas.of(rows), params, seeds)


def fill(
    way: Sampler | SamplingParams,
    denoiser: Denoiser,
    rows: Sequence[Row],
    *,
    family: Family | None = None,
    **options: Any,
) -> list[Step]:
    """The steps of filling some rows; options as for `begin`."""
    state = begin(way, rows, family=family, **options)
    return list(stream(denoiser, family or family_of(state.params[0].sampler), state))


def written(denoiser: Denoiser, family: Family, way: Sampler, rows: int, length: int, **options: Any) -> Tensor:
    """(rows, length) texts, all written from an empty canvas at once."""
    return fill(way, denoiser, [[None] * length] * rows, family=family, **options)[-1].tokens


def counts(sampler: Sampler, length: int, **options: Any) -> list[int]:
    """How many tokens each step writes on an empty row."""
    denoiser = tiny(V + 1, V, layers=1, context=512)
    return [int(step.changed.sum()) for step in fill(sampler, denoiser, [[None] * length], **options)]


class Script:
    """A denoiser that always writes a given row, or anything where the script has None."""

    def __init__(self, script: Row) -> None:
        self.script = script

    def __call__(
        self, tokens: Tensor, *, index: Tensor | None = None, ask: Tensor | None = None, **reading: Any
    ) -> Tensor:
        index = torch.arange(tokens.shape[1]).expand(tokens.shape) if index is None else index
        by_place = torch.zeros(len(self.script), V)
        for i, token in enumerate(self.script):
            if token is not None:
                by_place[i, token] = 1000.0
        logits = by_place[index.clamp(min=0)]
        return logits if ask is None else logits[ask]


class Fixed:
    """A network whose logits are given by position, whatever it reads."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def __call__(self, tokens: Tensor, *, ask: Tensor | None = None, **reading: Any) -> Tensor:
        every = self.logits[: tokens.shape[1]].expand(len(tokens), -1, -1)
        return every if ask is None else every[ask]


class Reading(Counting):
    """A network with a cache that notes how many tokens it reads in each call."""

    def __init__(self, model: Transformer) -> None:
        super().__init__(model)
        self.architecture = model.architecture
        self.read: list[int] = []

    def __call__(self, tokens: Tensor, *, index: Tensor | None = None, **reading: Any) -> Tensor:
        self.read.append(tokens.numel() if index is None else int((index >= 0).sum()))
        return super().__call__(tokens, index=index, **reading)
