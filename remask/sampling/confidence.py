"""Writes where the network is most certain: the kind of sampler that MaskGIT, SMDM and LLaDA use."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from remask.errors import RemaskError, unknown
from remask.families.base import Family
from remask.sampling.certain import Certain
from remask.sampling.predictions import Measure, Predictions
from remask.sampling.sampler import Query, largest
from remask.sampling.state import State

Rule = Literal["probability", "margin", "entropy", "random", "left"]
Schedule = Literal["even", "linear"]


@dataclass(frozen=True, kw_only=True)
class Confidence(Certain):
    """Each step writes the k masked positions of each row whose predictions are most certain, and revises nothing.

    Certainty is that of the prediction before a token is drawn. So the choice is a function of the state, and the rule
    has an exact likelihood. Without a number of steps, each step writes one token.
    """

    rule: Rule = "probability"
    """Which positions are written. probability: those whose most probable token has the highest probability. margin:
    with the largest difference between the two highest probabilities. entropy: of lowest entropy. random: random ones.
    left: the leftmost ones."""
    schedule: Schedule = "even"
    """How many are written in a step. even: equally many, with the remainder in the first steps (LLaDA). linear:
    floor(masked (1 - s/t)) from t to s on an even grid from 1 to 1e-5, and all that are left at the end (SMDM)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule not in get_args(Rule):
            raise unknown("rule", self.rule, get_args(Rule))
        if self.schedule not in get_args(Schedule):
            raise unknown("schedule", self.schedule, get_args(Schedule))
        if self.rule in ("random", "left") and (self.prior or self.debias or self.finish):
            raise RemaskError(
                f"prior, debias and finish need a rule that looks at the predictions, and not {self.rule}"
            )

    @property
    def deterministic(self) -> bool:
        return self.rule != "random"

    @property
    def in_parts(self) -> bool:
        return super().in_parts and self.rule not in ("random", "left")  # these ask what they write, and no more

    @property
    def takes_expansion(self) -> bool:
        return self.rule not in ("random", "left")

    def query(self, state: State, family: Family) -> Query:
        active = state.active
        count = self.count(state.step, state.steps, state.block_size, active.sum(1))
        asked = (state.masked if self.finish else active) & (count > 0)[:, None]
        if self.rule in ("random", "left"):  # these need no prediction to choose, so only chosen positions are asked
            scores = state.uniforms(asked) if self.rule == "random" else -active.cumsum(1).double()
            asked = largest(scores, asked, count)
        return Query(asked, in_parts=self.in_parts, keep={"count": count})

    @property
    def measure(self) -> Measure:
        """How certainty is measured, by a rule that looks at the predictions."""
        assert self.rule not in ("random", "left")
        return self.rule

    def choose(self, seen: Predictions) -> Tensor:
        if self.rule in ("random", "left"):
            return seen.asked
        return largest(self.order(seen, self.measure), seen.asked, seen.query.keep["count"])

    def count(self, step: Tensor, steps: int, whole: Tensor, left: Tensor) -> Tensor:
        """(B,) how many positions step `step`, (B,), writes of a block of `whole`, (B,), of which `left` are masked."""
        if not steps:
            return left.clamp(max=1)
        if self.schedule == "even":
            count = torch.minimum(even_share(step, steps, whole), left)
        else:
            times = torch.linspace(1, 1e-5, steps + 1, device=left.device)  # float32, as published
            at = step.clamp(max=steps - 1)
            count = (left * (1 - times[at + 1] / times[at])).long()
        return torch.where(step >= steps - 1, left, count)


def even_share(step: Tensor, steps: int, whole: Tensor) -> Tensor:
    """(B,) how many of `whole` (B,) positions a step writes: equally many, the remainder in the first steps (LLaDA)."""
    return whole // steps + (step < whole % steps)
