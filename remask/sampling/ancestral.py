"""The reverse process on a time grid: the standard sampler of masked and of uniform-state diffusion."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.families.base import Family
from remask.sampling.sampler import Query, Sampler
from remask.sampling.state import State

Mixture = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(N,) rows and (N,) predicted probabilities of z_t -> (N,) weights of keeping z_t, of the prior and of the prediction
in the mixture q(z_s | z_t)."""


@dataclass(frozen=True, kw_only=True)
class Ancestral(Sampler):
    """Masked families: from t to s a masked position is revealed with probability (alpha_s - alpha_t)/(1 - alpha_t).

    Which positions are revealed does not depend on the prediction. It is drawn before the network runs, so that only
    these positions are asked, and a step that reveals nothing makes no network call. Source: Sahoo et al. 2024, eq. 7.

    Uniform-state families: from t to s all open positions are drawn anew from q(z_s | z_t, x), with the prediction in
    place of x; no token is final before t = 0.
    """

    orders: ClassVar[frozenset[str]] = frozenset({"any", "all"})
    default_steps: ClassVar[int | None] = 64

    def begin(self, state: State, family: Family) -> None:
        begin_at_noise(state, family)

    def query(self, state: State, family: Family) -> Query:
        t, s = times(state)
        if family.order == "all":
            return Query(state.active, time=t)
        share = (family.alpha(s) - family.alpha(t)) / (1 - family.alpha(t))
        return Query(state.active & (state.uniforms(state.active) < share[:, None]))

    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
        if family.order == "all":
            t, s = times(state)
            weights = lambda row, p: family.posterior_weights(p, s[row], t[row])  # noqa: E731
            return revise(state, family, query.ask, logits, weights, last=s == 0)
        state.write(query.ask, *state.draw(query.ask, logits))
        return query.ask


def times(state: State) -> tuple[Tensor, Tensor]:
    """(B,) float64 each: the times t and s of the current step, on an even grid from 1 to 0."""
    steps = state.steps
    grid = torch.linspace(1, 0, steps + 1, dtype=torch.float64, device=state.step.device)
    at = state.step.clamp(max=steps - 1)
    return grid[at], grid[at + 1]


def begin_at_noise(state: State, family: Family) -> None:
    """Fills open positions with tokens from the prior, in families that revise every token."""
    if family.order == "all":
        state.tokens = torch.where(state.open, family.prior(state.uniforms(state.open)), state.tokens)


def revise(state: State, family: Family, asked: Tensor, logits: Tensor, weights: Mixture, last: Tensor) -> Tensor:
    """Draws the asked positions, (B, L) bool, from q(z_s | z_t, x), with the prediction in place of x.

    The prediction is taken after temperature, top-k and top-p. q is a mixture: the token stays, or is drawn from the
    prior, or from the prediction. So a token is drawn from the prediction only where that component was chosen, and q
    is never computed over the whole vocabulary. `last` (B,) bool marks rows that are complete after this step.
    """
    row, column = asked.nonzero(as_tuple=True)
    before = state.tokens[row, column]
    own = state.log_prob_of(row, logits, before).exp()
    keep, fresh, predicted = weights(row, own)
    choice, other = (state.uniforms(asked)[row, column] for _ in range(2))
    drawn = torch.where(choice < keep, before, family.prior(other))
    new = (choice >= keep + fresh).nonzero()[:, 0]
    drawn[new] = state.draw_at(row[new], column[new], logits[new], state.next_draw(asked)[row[new]])[0]
    share = state.log_prob_of(row, logits, drawn).exp()
    q = keep * (drawn == before) + fresh / family.vocabulary.predicted + predicted * share
    state.tokens[row, column] = drawn
    state.confidence[row, column] = share.float()
    state.log_prob.index_add_(0, row, q.log())
    state.masked = state.masked & ~(asked & last[:, None])
    changed = torch.zeros_like(asked)
    changed[row, column] = drawn != before
    return changed
