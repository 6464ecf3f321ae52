"""The reverse process on a time grid: the plain sampler of masked and of uniform-state diffusion."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from remask.errors import RemaskError
from remask.families import Family
from remask.sampling.base import Sampler, Step, Writing


@dataclass(frozen=True, kw_only=True)
class Ancestral(Sampler):
    """Masked families: from t to s a masked position is revealed with probability (alpha_s - alpha_t)/(1 - alpha_t).

    Which positions is decided before the network runs, by draws of their own (the float32 Gumbel fault
    of Zheng et al. 2024 cannot occur), so only those are asked, and a step that reveals nothing costs
    nothing. Source: Sahoo et al. 2024, eq. 7.

    Families that revise every token (uniform-state): from t to s all open positions are drawn anew from
    q(z_s | z_t, x), x replaced by what the pen makes of the prediction; nothing is final before t = 0.
    """

    steps: int = 64
    """Points of the time grid, from t = 1 to 0."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RemaskError(f"steps is {self.steps}; it must be at least 1")

    def fits(self, family: Family) -> bool:
        return family.any_order or family.revises

    def fill(self, writing: Writing) -> Iterator[Step]:
        times = torch.linspace(1, 0, self.steps + 1, dtype=torch.float64).tolist()
        if writing.family.revises:
            writing.start()
            yield from (
                writing.revise(self.pen, t, s) for t, s in itertools.pairwise(times) if bool(writing.todo.any())
            )
            return
        for t, s in itertools.pairwise(times):
            if not bool(writing.todo.any()):
                return
            now, then = writing.family.alpha(t), writing.family.alpha(s)
            chosen = writing.todo & (writing.uniforms(writing.todo) < (then - now) / (1 - now))
            if bool(chosen.any()):
                yield writing.write(self.pen, chosen, writing.predict(chosen))
