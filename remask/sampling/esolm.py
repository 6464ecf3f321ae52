"""The sampler of interpolating models (Eso-LM): an order drawn beforehand, and an exact key-value cache.

Each pass reads the tokens that the pass before wrote, whose keys and values it caches, and the masks that it fills. So
the network reads every position twice in all, however many passes there are. Passes that would fill nothing are left
out. Source: Sahoo et al. 2025, *Esoteric Language Models*.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Family
from remask.sampling.sampler import Query, Sampler
from remask.sampling.state import State


@dataclass(frozen=True, kw_only=True)
class EsoLM(Sampler):
    """The reverse process on a time grid, then left to right.

    Each position draws a uniform u, which decides when it is written: in the diffusion step in which alpha(t) rises
    above u or, where no step does, after diffusion from left to right. So each step writes a binomial number of tokens.

    `State.extras` holds three tensors. `pass_of` (B, L) is the pass that writes each position (-1 for given text, -2
    for padding), `rank` (B, L) its place in the order of writing, and `diffusion` (B,) the number of diffusion passes.
    """

    parallel_blocks: int = 0
    """Cut the text into this many parts, and write one token of every part in each pass, from left to right, instead of
    tokens at random positions (block order); 0: random positions."""
    cache: bool = True
    """Whether keys and values are cached. Without a cache every pass reads all known tokens, with the same result."""

    orders: ClassVar[frozenset[str]] = frozenset({"drawn"})
    default_steps: ClassVar[int | None] = 64
    takes_blocks: ClassVar[bool] = False
    takes_expressions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.parallel_blocks < 0:
            raise RemaskError(f"parallel_blocks is {self.parallel_blocks}; it must be 0 (random places) or more")

    @property
    def cached(self) -> bool:  # type: ignore[override]
        return self.cache

    @property
    def takes_steps(self) -> bool:  # type: ignore[override]
        return not self.parallel_blocks

    def begin(self, state: State, family: Family) -> None:
        """Draws the order of writing and divides it into passes."""
        hidden, known = state.masked, ~state.masked & state.valid
        uniform, steps = state.uniforms(hidden), state.steps
        if self.parallel_blocks:
            uniform = step = in_parallel(hidden, self.parallel_blocks)
        else:
            times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)[1:]
            reached = torch.tensor([family.alpha(t) for t in times.tolist()], dtype=torch.float64).to(uniform)
            step = torch.searchsorted(reached, uniform, right=True).double()
        diffused = uniform < family.alpha(0.0)
        step = torch.where(diffused, step, steps + torch.arange(hidden.shape[1]).to(uniform))
        order = (
            family.writing_order(hidden, uniform).masked_fill(~known & ~hidden, torch.inf).argsort(dim=1, stable=True)
        )
        step, hidden, known, diffused = (x.gather(1, order) for x in (step, hidden, known, diffused))
        first = hidden.clone()  # where a pass begins, in the order of writing
        first[:, 1:] &= (step[:, 1:] != step[:, :-1]) | ~hidden[:, :-1]
        number = torch.where(hidden, first.cumsum(1) - 1, torch.where(known, -1, -2))
        along = torch.arange(order.shape[1], device=order.device).expand_as(order)
        state.extras["pass_of"] = torch.empty_like(order).scatter_(1, order, number)
        state.extras["rank"] = torch.empty_like(order).scatter_(1, order, along)
        state.extras["diffusion"] = (first & diffused).sum(1)

    def query(self, state: State, family: Family) -> Query:
        pass_of, rank, diffusion = (state.extras[name] for name in ("pass_of", "rank", "diffusion"))
        number = state.step
        now = state.masked & (pass_of == number[:, None])
        known = ~state.masked & state.valid
        if family.known_see_each_other:  # variant A: known tokens see each other, so all are read again in each pass
            front = (pass_of >= -1) & (pass_of < torch.minimum(number, diffusion)[:, None])
            rank = torch.where(front, 0, rank + 1)
            state.cached = state.cached & (number > diffusion)[:, None]
        return Query(now, read=(known & ~state.cached) | now, rank=rank, final=known)

    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
        state.write(query.ask, *state.draw(query.ask, logits))
        return query.ask


def in_parallel(hidden: Tensor, parts: int) -> Tensor:
    """(B, L) float64 in [0, 1): divides the hidden positions into `parts`; the i-th positions of all have one value."""
    place, count = hidden.cumsum(1) - 1, hidden.sum(1, keepdim=True)
    size = (count + parts - 1).div(parts, rounding_mode="floor").clamp(min=1)
    return torch.where(hidden, (place % size).double() / size, 0.0)
