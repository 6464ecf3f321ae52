"""What a sampler is: a rule that says, at each step, what to ask of the network and what to write of the answer.

A sampler has no state of its own: `State` holds all, so rows of one batch may have different samplers and be at
different steps. Which positions to write (selection, from the predictions alone) is kept apart from what to write
there (`State.draw`) wherever the published rule allows it; such a rule has an exact likelihood (DUEL,
Turok et al. 2026).

A new sampler is one new file in this folder with a subclass of `Sampler`: `--sampler Name` finds it.
"""

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Family
from remask.sampling.state import State


@dataclass
class Query:
    """What a step asks of the network. Every field has the row first."""

    ask: Tensor
    """(B, L) bool, positions whose prediction is wanted; rows without one are not read."""
    time: Tensor | None = None
    """(B,) noise level, for networks that are told it; by default the share of open positions still masked."""
    read: Tensor | None = None
    """(B, L) bool, positions that are read; every valid one when None."""
    tokens: Tensor | None = None
    """(B, L) int64, what is read there, where it is not the canvas itself."""
    rank: Tensor | None = None
    """(B, L) int64: a position sees those of no higher rank; all of them when None."""
    causal: bool = False
    """Whether a position sees those before it, all of which have been read."""
    final: Tensor | None = None
    """(B, L) bool, positions whose keys and values never change once they are read now; none when None."""
    keep: dict[str, Tensor] = field(default_factory=dict)
    """What the sampler wants to find again when the answer is there."""


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """A way of filling a canvas."""

    orders: ClassVar[frozenset[str]] = frozenset({"any"})
    """Orders of writing (`Family.order`) that it can follow."""
    default_steps: ClassVar[int | None] = None
    """Steps over the whole text where none are asked for; None: as many as the sampler needs."""
    takes_steps: ClassVar[bool] = True
    """Whether the number of steps can be chosen."""
    takes_blocks: ClassVar[bool] = True
    """Whether it can fill blocks one after another."""
    cached: ClassVar[bool] = False
    """Whether it uses an exact cache where the network has one."""

    def fits(self, family: Family) -> bool:
        """Whether this sampler can write with a model of that family."""
        return family.order in self.orders

    def begin(self, state: State, family: Family) -> None:  # noqa: B027  # most samplers have nothing to prepare
        """Prepares new rows: draws what is drawn beforehand, and puts it into `state.extras`."""

    @abstractmethod
    def query(self, state: State, family: Family) -> Query:
        """What this step asks of the network. All rows have this sampler, and as many steps as each other."""

    @abstractmethod
    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
        """Writes what this step writes, from (N, V) logits of the asked positions; (B, L) bool, what was changed."""

    def steps_of_block(self, steps: int | None, block: int, length: int) -> int | None:
        """Steps of one block of at most `block` positions, of `steps` over `length` positions in all."""
        if steps is None or block >= length:
            return steps
        return max(1, math.ceil(steps * block / length))

    def block_done(self, state: State) -> Tensor:
        """(B,) bool, rows whose block at hand is written."""
        return ~state.active.any(1)

    def row_done(self, state: State) -> Tensor:
        """(B,) bool, rows that are complete."""
        return ~state.masked.any(1)

    @property
    def chooses_first(self) -> bool:
        """Whether positions are chosen before tokens are drawn, so that the rule has a likelihood."""
        return True

    @property
    def rewrites(self) -> bool:
        """Whether a position may be written more than once."""
        return False

    @property
    def deterministic(self) -> bool:
        """Whether the choice of positions depends on the state alone, so that its likelihood is exact."""
        return False


def samplers() -> dict[str, type[Sampler]]:
    """Every sampler of this package by class name. Imports the files of this folder."""
    import remask.sampling as folder

    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
    found: dict[str, type[Sampler]] = {}
    todo = list(Sampler.__subclasses__())
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if kind.__module__.startswith("remask.sampling."):
            found[kind.__name__] = kind
    return found


def require_fit(sampler: Sampler, family: Family) -> None:
    """RemaskError, naming samplers that fit, where this one does not fit the family."""
    if not sampler.fits(family):
        fitting = sorted(name for name, kind in samplers().items() if kind().fits(family))
        raise RemaskError(
            f"{type(sampler).__name__} does not fit {type(family).__name__} models; these do: {', '.join(fitting)}"
        )


def largest(scores: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """(B, L) bool: in each row the `count` (B,) highest `scores` (B, L) of those `among` (B, L).

    Of equal scores the left one counts as the higher.
    """
    order = scores.double().masked_fill(~among, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(1)
    return (rank < count[:, None]) & among


def spread(values: Tensor, asked: Tensor) -> Tensor:
    """(N,) values of the asked positions -> (B, L), 0 elsewhere."""
    return torch.zeros(asked.shape, dtype=values.dtype, device=values.device).masked_scatter(asked, values)
