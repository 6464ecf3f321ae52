"""Reveal what the network is surest of: the sampler of MaskGIT, SMDM and LLaDA."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from remask.errors import RemaskError, unknown
from remask.sampling.base import Sampler, Step, Writing, largest

Rule = Literal["probability", "margin", "entropy", "random", "left"]
Schedule = Literal["even", "linear"]


@dataclass(frozen=True, kw_only=True)
class Confidence(Sampler):
    """Each step writes the k most certain masked positions of each row; nothing is ever revised.

    Certainty is read from the prediction before a token is drawn, so the rule is a function of the
    state and has an exact likelihood. k counts per row: which texts share a batch changes nothing.
    """

    steps: int | None = None
    """Steps; None writes one token a step."""
    rule: Rule = "probability"
    """probability: the highest top probability. margin: of first over second. entropy: the lowest.
    random: any. left: the leftmost."""
    schedule: Schedule = "even"
    """even: equal shares, the remainder in the first steps (LLaDA). linear: floor(masked (1 - s/t)) on
    t from 1 to 1e-5, all that is left at the last (SMDM)."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise RemaskError(f"steps is {self.steps}; it must be at least 1")
        if self.rule not in get_args(Rule):
            raise unknown("rule", self.rule, get_args(Rule))
        if self.schedule not in get_args(Schedule):
            raise unknown("schedule", self.schedule, get_args(Schedule))

    @property
    def deterministic(self) -> bool:
        return self.rule != "random"

    def fill(self, writing: Writing) -> Iterator[Step]:
        start = writing.todo.sum(1)
        steps = int(start.max()) if self.steps is None else self.steps
        for i in range(steps):
            todo = writing.todo
            count = self.count(i, steps, start, todo.sum(1))
            asked = todo & (count > 0)[:, None]
            if not bool(todo.any()):
                return
            if not bool(asked.any()):
                continue
            if self.rule in ("random", "left"):  # needs no prediction: ask only what is written
                scores = writing.uniforms(asked) if self.rule == "random" else -todo.cumsum(1).double()
                chosen = largest(scores, asked, count)
                yield writing.write(self.pen, chosen, writing.predict(chosen))
                continue
            logits = writing.predict(asked)
            scores = torch.zeros(todo.shape, dtype=torch.float32, device=todo.device)
            scores[asked] = certainty(logits, self.rule)
            chosen = largest(scores, asked, count)
            yield writing.write(self.pen, chosen, logits[chosen[asked]])

    def count(self, step: int, steps: int, start: Tensor, left: Tensor) -> Tensor:
        """(B,) how many to write in this step, of `start` (B,) at first and `left` (B,) now."""
        if self.steps is None:
            return left.clamp(max=1)
        if step == steps - 1:
            return left
        if self.schedule == "even":
            return torch.minimum(start // steps + (step < start % steps), left)
        t, s = torch.linspace(1, 1e-5, steps + 1)[step : step + 2].to(left.device)  # float32, as published
        return (left * (1 - s / t)).long()


def certainty(logits: Tensor, rule: Rule) -> Tensor:
    """(N, V) logits -> (N,) float32, higher where the prediction is surer."""
    if rule == "probability":
        return (logits.amax(-1) - logits.logsumexp(-1)).exp()
    p = logits.softmax(-1)
    if rule == "margin":
        first, second = p.topk(2, -1).values.unbind(-1)
        return first - second
    return torch.special.xlogy(p, p).sum(-1)
