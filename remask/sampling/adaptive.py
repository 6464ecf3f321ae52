"""Writes as many positions in a step as the network is certain of: few where the text is hard, many where it is easy.

Each rule looks at the predictions of the masked positions of the current block, before any token is drawn. So the
choice is a function of the state, and every rule has an exact likelihood. How many steps a text takes follows from the
text.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from remask.errors import RemaskError, unknown
from remask.sampling.certain import Certain
from remask.sampling.predictions import Measure, Predictions
from remask.sampling.sampler import largest


@dataclass(frozen=True, kw_only=True)
class Adaptive(Certain):
    """The base of these rules: each step writes the positions that are certain enough, and at least one."""

    takes_steps: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class Threshold(Adaptive):
    """All positions whose most probable token has at least this probability (Wu et al. 2025, *Fast-dLLM*)."""

    threshold: float = 0.9
    """The least probability."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("threshold", self.threshold)

    def choose(self, seen: Predictions) -> Tensor:
        return self.at_least_one(seen.probability >= self.threshold, seen)


@dataclass(frozen=True, kw_only=True)
class Factor(Adaptive):
    """The n most certain positions, with the largest n for which (n + 1) (1 - p_n) is at most `factor` up to n.

    p_n is the probability of the most probable token at the n-th of them. Where that of the last is above n / (n + 1),
    the most probable tokens together are also the most probable text (Wu et al. 2025, *Fast-dLLM*).
    """

    factor: float = 1.0
    """The larger, the more positions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.factor < math.inf:
            raise RemaskError(f"factor is {self.factor}; it must be above 0, and finite")

    def choose(self, seen: Predictions) -> Tensor:
        p = seen.probability
        ordered = p.double().masked_fill(~seen.asked, -1).sort(dim=1, descending=True).values
        n = torch.arange(1, p.shape[1] + 1, device=p.device)
        passes = ordered >= 1 - self.factor / (n + 1)
        return self.at_least_one(largest(p, seen.asked, passes.long().cumprod(1).sum(1)), seen)


@dataclass(frozen=True, kw_only=True)
class EntropyBound(Adaptive):
    """The most certain positions, as many as keep sum H - max H of their entropies at most `bound`.

    That difference bounds how much their joint distribution can differ from independent draws (Ben-Hamu et al. 2025,
    *Accelerated Sampling from Masked Diffusion Models via Entropy Bounded Unmasking*).
    """

    bound: float = 0.1
    """In nats."""
    measure: Measure = "entropy"
    """What certainty is: the entropy of a prediction, the highest probability, or its margin over the second."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.bound < math.inf:
            raise RemaskError(f"bound is {self.bound}; it must be 0 nats or more, and finite")
        if self.measure not in get_args(Measure):
            raise unknown("measure", self.measure, get_args(Measure))

    def choose(self, seen: Predictions) -> Tensor:
        score = self.order(seen, self.measure)
        order = score.double().masked_fill(~seen.asked, -torch.inf).argsort(dim=1, descending=True, stable=True)
        entropy = (-seen.negative_entropy).double().clamp(min=0).gather(1, order)
        fits = entropy.cumsum(1) - entropy.cummax(1).values <= self.bound
        fits[:, 0] = True  # one position is written even where the network predicts nan
        return largest(score, seen.asked, fits.long().cumprod(1).sum(1))


@dataclass(frozen=True, kw_only=True)
class LocalLeap(Adaptive):
    """All positions above a threshold, and those near them above a lower one (*LocalLeap*)."""

    threshold: float = 0.9
    """The least probability of an anchor."""
    near: float = 0.75
    """The least probability within `radius` of an anchor."""
    radius: int = 4
    """Positions on either side of an anchor."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("threshold", self.threshold)
        check_probability("near", self.near)
        if self.radius < 0:
            raise RemaskError(f"radius is {self.radius}; it must be 0 or more")
        if self.near > self.threshold:
            raise RemaskError(f"near is {self.near}, above the threshold of {self.threshold}; it is the lower one")

    def choose(self, seen: Predictions) -> Tensor:
        p = seen.probability
        anchors = (p >= self.threshold) & seen.asked
        width = 2 * self.radius + 1
        around = torch.nn.functional.max_pool1d(anchors.float()[:, None], width, stride=1, padding=self.radius)[:, 0]
        return self.at_least_one(anchors | ((p >= self.near) & (around > 0) & seen.asked), seen)


@dataclass(frozen=True, kw_only=True)
class Runs(Adaptive):
    """The most certain position of each run of adjacent masks, if it is above `low`, and all above `threshold`.

    What is written in one step then stands far apart, so that it depends on each other less (*dInfer*'s hierarchical
    rule).
    """

    threshold: float = 0.9
    """The least probability anywhere."""
    low: float = 0.5
    """The least probability of the most certain position of a run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("threshold", self.threshold)
        check_probability("low", self.low)
        if self.low > self.threshold:
            raise RemaskError(f"low is {self.low}, above the threshold of {self.threshold}; it is the lower one")

    def choose(self, seen: Predictions) -> Tensor:
        p, asked = seen.probability, seen.asked
        starts = asked & ~torch.nn.functional.pad(asked, (1, -1))
        run = starts.long().cumsum(1)  # 1, 2, ... along a row; 0 before the first
        best = torch.zeros(len(p), p.shape[1] + 1, dtype=p.dtype, device=p.device)
        best.scatter_reduce_(1, run, p.masked_fill(~asked, 0), "amax")
        first = asked & (p == best.gather(1, run))
        count = first.long().cumsum(1) - torch.where(starts, first.long().cumsum(1) - first.long(), 0).cummax(1).values
        return self.at_least_one((p >= self.threshold) | (first & (count == 1) & (p > self.low)), seen)


def check_probability(name: str, value: float) -> None:
    """RemaskError where an option is no probability."""
    if not 0 <= value <= 1:
        raise RemaskError(f"{name} is {value}; it is a probability, from 0 to 1")
