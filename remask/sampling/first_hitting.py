"""The first-hitting sampler: the reverse process in continuous time, without a time grid."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from remask.errors import RemaskError
from remask.sampling.base import Sampler, Step, Writing, largest


@dataclass(frozen=True, kw_only=True)
class FirstHitting(Sampler):
    """Reveals masked positions in uniformly random order (Zheng et al. 2024, section 4).

    The times at which positions are hit are order statistics of uniforms, and a network without time
    does not see them: what remains of the exact reverse process is the order. One at a time it is
    exact; several at once trade exactness for fewer network calls.
    """

    at_once: int = 1
    """Positions revealed from one prediction."""

    def __post_init__(self) -> None:
        if self.at_once < 1:
            raise RemaskError(f"at_once is {self.at_once}; it must be at least 1")

    def fill(self, writing: Writing) -> Iterator[Step]:
        while bool((todo := writing.todo).any()):
            count = torch.full(todo.shape[:1], self.at_once, device=todo.device)
            chosen = largest(writing.uniforms(todo), todo, count)
            yield writing.write(self.pen, chosen, writing.predict(chosen))
