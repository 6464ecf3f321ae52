"""Psi sampling (Sahoo et al. 2026, *The Diffusion Duality, chapter II*): predictor and corrector in one step.

    q = kappa q(z_s | z_t, x) + (1 - kappa) [q(z_0 | z_t, x), noised again to s]

Given the clean text, each token has the marginals of the ancestral process (kappa = 1) for every kappa. With kappa
below 1, tokens that were already written are drawn again, which corrects early mistakes. Tokens that are drawn again in
the same step are drawn independently of each other, so the joint distribution is exact only in the limit where kappa
goes to 1 as the number of steps grows.

For masked families this is remasking: a written token is masked again with probability
sigma = (1 - kappa)(1 - alpha_s) (ReMDM, Wang et al. 2025, whose rules for sigma are the schedules here).
"""

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from remask.errors import RemaskError, unknown
from remask.families.base import Family
from remask.sampling.ancestral import begin_at_noise, revise
from remask.sampling.sampler import Query, Sampler
from remask.sampling.state import State

Tail = Literal["ancestral", "greedy"]
Schedule = Literal["constant", "sigma", "capped", "rescaled"]


@dataclass(frozen=True, kw_only=True)
class Psi(Sampler):
    """The reverse process, with correction between the times `high` and `low`.

    `State.log_prob` sums over all draws, including those of tokens that were masked or drawn again later. So it is the
    log-probability of the path of the process, not of the text.
    """

    schedule: Schedule = "constant"
    """How kappa is set in steps that correct. constant: to `kappa`. The others set the probability sigma that a
    written token is noised again. sigma: to `eta`. capped: to `eta`, but at most (1 - alpha_s)/alpha_t. rescaled: to
    `eta` times that. sigma is never more than 1 - alpha_s, where kappa is 0."""
    kappa: float = 0.95
    """Weight of the predictor in the schedule "constant"."""
    eta: float = 0.01
    """Parameter of the other schedules."""
    high: float = 1.0
    """Time at which correction begins; time runs from 1 to 0."""
    low: float = 0.0
    """Time at which correction ends."""
    hold: float = 0.0
    """Share of the steps that stay at time `high`, and correct only there (ReMDM's loop); `low` must be equal to it."""
    tail: Tail = "ancestral"
    """How the last step writes. ancestral: draws from the prediction. greedy: the most probable tokens."""

    orders: ClassVar[frozenset[str]] = frozenset({"any", "all"})
    default_steps: ClassVar[int | None] = 64

    def __post_init__(self) -> None:
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

    @property
    def rewrites(self) -> bool:
        return True

    def begin(self, state: State, family: Family) -> None:
        if self.hold and min(p.steps or 0 for p in state.params) < 3:
            raise RemaskError("holding time still needs at least 3 steps: before, at and after the time that is held")
        begin_at_noise(state, family)

    def query(self, state: State, family: Family) -> Query:
        t, s, kappa = self.at(state, family)
        if family.order == "all":
            return Query(state.active, time=t)
        here = (state.blocks == state.block[:, None]) & ~has_ended(state)[:, None]
        alpha_s, alpha_t = family.alpha(s), family.alpha(t)
        uniform = state.uniforms(here)
        reveal = here & state.masked & (uniform < reveal_probability(alpha_s, alpha_t, kappa)[:, None])
        again = here & ~state.masked & (uniform < ((1 - kappa) * (1 - alpha_s))[:, None])
        return Query(reveal, keep={"again": again})

    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
        t, s, kappa = self.at(state, family)
        greedy = s == 0 if self.tail == "greedy" else torch.zeros_like(state.finished)
        if family.order == "all":
            sure = query.ask & greedy[:, None]
            rest = query.ask & ~sure
            certain, drawn = logits[sure[query.ask]], logits[rest[query.ask]]
            weights = lambda row, p: mixture(family, p, s[row], t[row], kappa[row])  # noqa: E731
            changed = revise(state, family, rest, drawn, weights, last=s == 0)
            state.write(sure, *state.draw(sure, certain, greedy))
            return changed | sure
        again, mask = query.keep["again"], family.vocabulary.mask
        tokens, log_prob = state.draw(query.ask, logits, greedy if self.tail == "greedy" else None)
        assert mask is not None
        state.hide(again, mask)
        state.write(query.ask, tokens, log_prob)
        return query.ask | again

    def block_done(self, state: State) -> Tensor:
        return (state.step >= state.steps) & ~state.active.any(1)  # a constraint may have left masks

    def row_done(self, state: State) -> Tensor:
        return (self.block_done(state) & (state.block >= state.blocks.amax(1))) | has_ended(state)

    # the time grid

    def at(self, state: State, family: Family) -> tuple[Tensor, Tensor, Tensor]:
        """(B,) float64 each: the times t and s at which the current step begins and ends, and its kappa."""
        steps = state.steps
        table = torch.tensor(self.plan(family, steps), dtype=torch.float64, device=state.step.device)
        t, s, kappa = table[state.step.clamp(max=steps - 1)].unbind(1)
        return t, s, kappa

    @lru_cache(maxsize=32)  # noqa: B019  # frozen, and small
    def plan(self, family: Family, steps: int) -> list[tuple[float, float, float]]:
        """(t, s, kappa) of each step."""
        table = []
        for t, s in self.grid(steps):
            corrects = s == t or (not self.hold and self.low < t <= self.high)
            table.append((t, s, self.corrected_kappa(family.alpha(s), family.alpha(t)) if corrects else 1.0))
        return table

    def grid(self, steps: int) -> list[tuple[float, float]]:
        """The times (t, s) at which each step begins and ends."""
        held = min(round(self.hold * steps), steps - 2)
        if held < 1:
            return list(itertools.pairwise(torch.linspace(1, 0, steps + 1, dtype=torch.float64).tolist()))
        before = min(max(1, round((steps - held) * (1 - self.high))), steps - held - 1)
        down = torch.linspace(1, self.high, before + 1, dtype=torch.float64).tolist()
        rest = torch.linspace(self.high, 0, steps - held - before + 1, dtype=torch.float64).tolist()
        return list(itertools.pairwise([*down[:-1], *[self.high] * held, *rest]))

    def corrected_kappa(self, alpha_s: float, alpha_t: float) -> float:
        """kappa of a step that corrects, by the schedule."""
        if self.schedule == "constant":
            return self.kappa
        if alpha_s >= 1:
            return 1.0
        most = min(1.0, (1 - alpha_s) / alpha_t) if alpha_t > 0 else 1.0
        sigma = {"sigma": self.eta, "capped": min(self.eta, most), "rescaled": self.eta * most}[self.schedule]
        return min(1.0, max(0.0, 1 - sigma / (1 - alpha_s)))


def has_ended(state: State) -> Tensor:
    """(B,) bool, rows with an end-of-text token and nothing masked, which are not revised any more."""
    is_end = (state.tokens == state.end[:, None]) & state.open
    return is_end.any(1) & ~state.masked.any(1)


def reveal_probability(alpha_s: Tensor, alpha_t: Tensor, kappa: Tensor) -> Tensor:
    """The probability that a mask is replaced by a predicted token.

    It is the ancestral one with weight kappa, and alpha_s with weight 1 - kappa.
    """
    return kappa * (alpha_s - alpha_t) / (1 - alpha_t) + (1 - kappa) * alpha_s


def mixture(family: Family, p_own: Tensor, s: Tensor, t: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`Family.posterior_weights` with correction: (N,) weights of keeping z_t, of the prior and of the prediction."""
    alpha_s = family.alpha(s)
    predictor, clean = family.posterior_weights(p_own, s, t), family.posterior_weights(p_own, 0 * s, t)
    corrector = (alpha_s * clean[0], alpha_s * clean[1] + 1 - alpha_s, alpha_s * clean[2])
    keep, fresh, predicted = (kappa * a + (1 - kappa) * b for a, b in zip(predictor, corrector, strict=True))
    return keep, fresh, predicted
