"""Reveal what the network is surest of: the sampler of MaskGIT, SMDM and LLaDA."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from remask.errors import unknown
from remask.families.base import Family
from remask.sampling.sampler import Query, Sampler, largest, spread
from remask.sampling.state import State

Rule = Literal["probability", "margin", "entropy", "random", "left"]
Schedule = Literal["even", "linear"]


@dataclass(frozen=True, kw_only=True)
class Confidence(Sampler):
    """Each step writes the k most certain masked positions of each row; nothing is ever revised.

    Certainty is read from the prediction before a token is drawn, so the rule is a function of the state and has an
    exact likelihood. k counts per row. Without a number of steps one token a step is written.
    """

    rule: Rule = "probability"
    """probability: the highest top probability. margin: of first over second. entropy: the lowest.
    random: any. left: the leftmost."""
    schedule: Schedule = "even"
    """even: equal shares, the remainder in the first steps (LLaDA). linear: floor(masked (1 - s/t)) on
    t from 1 to 1e-5, all that is left at the last (SMDM)."""

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise unknown("rule", self.rule, get_args(Rule))
        if self.schedule not in get_args(Schedule):
            raise unknown("schedule", self.schedule, get_args(Schedule))

    @property
    def deterministic(self) -> bool:
        return self.rule != "random"

    def query(self, state: State, family: Family) -> Query:
        active = state.active
        count = self.count(state.step, state.steps, state.whole_block, active.sum(1))
        asked = active & (count > 0)[:, None]
        if self.rule in ("random", "left"):  # needs no prediction: ask only what is written
            scores = state.uniforms(asked) if self.rule == "random" else -active.cumsum(1).double()
            asked = largest(scores, asked, count)
        return Query(asked, keep={"count": count})

    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
        chosen = query.ask
        if self.rule not in ("random", "left"):
            chosen = largest(spread(certainty(logits, self.rule), query.ask), query.ask, query.keep["count"])
            logits = logits[chosen[query.ask]]
        state.write(chosen, *state.draw(chosen, logits))
        return chosen

    def count(self, step: Tensor, steps: int, whole: Tensor, left: Tensor) -> Tensor:
        """(B,) how many to write in a step, (B,), of `whole` (B,) in the block and `left` (B,) still masked."""
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
    """(B,) the share of a step of `whole` (B,) positions, the remainder in the first steps (LLaDA)."""
    return whole // steps + (step < whole % steps)


def certainty(logits: Tensor, rule: Rule) -> Tensor:
    """(N, V) logits -> (N,) float32, higher where the prediction is surer."""
    if rule == "probability":
        return (logits.amax(-1) - logits.logsumexp(-1)).exp()
    p = logits.softmax(-1)
    if rule == "margin":
        first, second = p.topk(2, -1).values.unbind(-1)
        return first - second
    return torch.special.xlogy(p, p).sum(-1)
