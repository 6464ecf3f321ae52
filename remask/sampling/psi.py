"""Psi sampling (Sahoo et al. 2026, *The Diffusion Duality, chapter II*): predictor and corrector in one step.

    q = kappa q(z_s | z_t, x) + (1 - kappa) [q(z_0 | z_t, x), noised again to s]

Given the clean text each token has the marginals of the ancestral process (kappa = 1) for any kappa. Below 1, tokens
that seemed settled are drawn again, which mends early mistakes. Those drawn again in one step are drawn apart from
each other, so the joint law is exact only as kappa goes to 1 with the number of steps.

On masked families this is remasking: a written token is hidden again with probability sigma = (1 - kappa)(1 - alpha_s)
(ReMDM, Wang et al. 2025, whose rules for sigma are the schedules here).
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from remask.errors import RemaskError, unknown
from remask.families import Family
from remask.sampling.base import Sampler, Step, Writing

Tail = Literal["ancestral", "greedy"]
Schedule = Literal["constant", "sigma", "capped", "rescaled"]


@dataclass(frozen=True, kw_only=True)
class Psi(Sampler):
    """The reverse process with correction between the times `low` and `high`, and none outside.

    Its `Step.log_prob` adds up all draws, those that were taken back too: of a path, not of the text.
    """

    steps: int = 64
    """Steps of the time grid, from t = 1 to 0."""
    schedule: Schedule = "constant"
    """Of kappa while correcting. constant: `kappa`. The others give sigma, the chance that a written token is noised
    again: `eta` (sigma), at most (1 - alpha_s)/alpha_t (capped), or this share of that most (rescaled). In no case is
    it more than 1 - alpha_s, where kappa is 0."""
    kappa: float = 0.95
    """Share of the predictor, of the schedule "constant"."""
    eta: float = 0.01
    """Of the other schedules."""
    high: float = 1.0
    """Time from which on it corrects."""
    low: float = 0.0
    """Time below which it corrects no more."""
    hold: float = 0.0
    """Share of the steps during which time stands still at `high`, which is then `low` too (ReMDM's loop)."""
    tail: Tail = "ancestral"
    """The last step: draw from the prediction, or write its most probable token (the greedy tail)."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RemaskError(f"steps is {self.steps}; it must be at least 1")
        for name, known in (("schedule", Schedule), ("tail", Tail)):
            if getattr(self, name) not in get_args(known):
                raise unknown(name, getattr(self, name), get_args(known))
        for name in ("kappa", "eta"):
            if not 0 <= getattr(self, name) <= 1:
                raise RemaskError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        if not 0 <= self.low <= self.high <= 1:
            raise RemaskError(f"low and high are {self.low} and {self.high}; they must be times, 0 <= low <= high <= 1")
        if not 0 <= self.hold < 1:
            raise RemaskError(f"hold is {self.hold}; it must be at least 0 and below 1")
        if self.hold and not 0 < self.high == self.low < 1:
            raise RemaskError(f"hold is {self.hold}; it needs low = high, the time that is held, between 0 and 1")
        if self.hold and self.steps < 3:
            raise RemaskError(f"steps is {self.steps}; holding needs 3: a way down, a stop, and a way down")

    def fits(self, family: Family) -> bool:
        return family.revises or family.any_order

    @property
    def rewrites(self) -> bool:
        return True

    def fill(self, writing: Writing) -> Iterator[Step]:
        if writing.family.revises:
            writing.start()
        for t, s in self.grid():
            alpha_s, alpha_t = (writing.family.alpha(time) for time in (s, t))
            held = s == t
            kappa = self.share(alpha_s, alpha_t) if held or (not self.hold and self.low < t <= self.high) else 1.0
            greedy = s == 0 and self.tail == "greedy"
            if not writing.family.revises:
                yield from self.remask(writing, alpha_s, alpha_t, kappa, greedy)
            elif not bool(writing.todo.any()):
                return
            elif greedy:
                logits = writing.predict(writing.todo, t)
                yield writing.put(writing.todo, logits.argmax(-1), (logits.amax(-1) - logits.logsumexp(-1)).double())
            else:
                yield writing.revise(self.pen, t, s, lambda p, t=t, s=s, k=kappa: mixture(writing.family, p, s, t, k))

    def grid(self) -> list[tuple[float, float]]:
        """The times of each step: where it begins, and where it ends."""
        held = min(round(self.hold * self.steps), self.steps - 2)
        if held < 1:
            return list(itertools.pairwise(torch.linspace(1, 0, self.steps + 1, dtype=torch.float64).tolist()))
        before = min(max(1, round((self.steps - held) * (1 - self.high))), self.steps - held - 1)
        down = torch.linspace(1, self.high, before + 1, dtype=torch.float64).tolist()
        rest = torch.linspace(self.high, 0, self.steps - held - before + 1, dtype=torch.float64).tolist()
        return list(itertools.pairwise([*down[:-1], *[self.high] * held, *rest]))

    def share(self, alpha_s: float, alpha_t: float) -> float:
        """kappa of a step that corrects."""
        if self.schedule == "constant":
            return self.kappa
        if alpha_s >= 1:
            return 1.0
        most = min(1.0, (1 - alpha_s) / alpha_t) if alpha_t > 0 else 1.0
        sigma = {"sigma": self.eta, "capped": min(self.eta, most), "rescaled": self.eta * most}[self.schedule]
        return min(1.0, max(0.0, 1 - sigma / (1 - alpha_s)))

    def remask(self, writing: Writing, alpha_s: float, alpha_t: float, kappa: float, greedy: bool) -> Iterator[Step]:
        """A step of a masked family: reveals some, hides others again. Rows whose text has ended are left alone."""
        reveal, hide = revealing(alpha_s, alpha_t, kappa), (1 - kappa) * (1 - alpha_s)
        focus = writing.canvas.open if writing.focus is None else writing.canvas.open & writing.focus
        end = -1 if writing.canvas.end is None else writing.canvas.end
        ended = (focus & (writing.tokens == end)).any(1) & ~writing.masked.any(1)
        active = focus & ~ended[:, None]
        uniform = writing.uniforms(active)
        chosen, again = active & writing.masked & (uniform < reveal), active & ~writing.masked & (uniform < hide)
        if not bool((chosen | again).any()):
            return
        pen = replace(self.pen, temperature=0.0) if greedy else self.pen
        drawn = writing.draft(pen, chosen, writing.predict(chosen)) if bool(chosen.any()) else None
        writing.hide(again)
        step = writing.step(again) if drawn is None else writing.put(chosen, *drawn)
        yield replace(step, changed=chosen | again)


def revealing(alpha_s: float, alpha_t: float, kappa: float) -> float:
    """The chance that a mask is replaced by a prediction: kappa of the ancestral one, the rest of alpha_s."""
    return kappa * (alpha_s - alpha_t) / (1 - alpha_t) + (1 - kappa) * alpha_s


def mixture(family: Family, p_own: Tensor, s: float, t: float, kappa: float) -> tuple[Tensor, Tensor, Tensor]:
    """`Family.posterior_weights` with correction: probabilities (N,) of keeping, of the prior, of the prediction."""
    alpha_s = family.alpha(s)
    predictor, clean = family.posterior_weights(p_own, s, t), family.posterior_weights(p_own, 0.0, t)
    corrector = (alpha_s * clean[0], alpha_s * clean[1] + 1 - alpha_s, alpha_s * clean[2])
    keep, fresh, predicted = (kappa * a + (1 - kappa) * b for a, b in zip(predictor, corrector, strict=True))
    return keep, fresh, predicted
