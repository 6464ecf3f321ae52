"""What a sampler is: a rule that says, at each step, what to ask the network and what to write.

A sampler has no state of its own. Everything is in `State`, so that rows of one batch may have different samplers and
be at different steps. Where the published rule allows it, a sampler first chooses which positions to write, from the
predictions alone, and then draws what to write there (`State.draw`); such a rule has an exact likelihood (DUEL, Turok
et al. 2026).

A new sampler is one new file in this folder with a subclass of `Sampler`: `--sampler Name` finds it.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.extensions import import_files, subclasses_in
from remask.families.base import Family
from remask.options import build_named
from remask.sampling.state import State


@dataclass
class Query:
    """What a step asks the network. The first dimension of every field is the row."""

    ask: Tensor
    """(B, L) bool, positions whose prediction is wanted; rows without such a position are not read."""
    time: Tensor | None = None
    """(B,) noise level, for networks that are conditioned on it; None: the share of open positions still masked."""
    read: Tensor | None = None
    """(B, L) bool, positions that the network reads; None: all valid ones."""
    tokens: Tensor | None = None
    """(B, L) int64, the tokens that the network reads; None: those of the canvas."""
    rank: Tensor | None = None
    """(B, L) int64: a position sees those of the same or a lower rank; None: all of them."""
    causal: bool = False
    """Whether a position sees only itself and those before it, all of which have been read."""
    final: Tensor | None = None
    """(B, L) bool, positions whose keys and values stay valid after this call and can be cached; None: none."""
    drafts: "Drafts | None" = None
    """Other texts of the same rows that are read in the same call, unless there is a cache; their logits are then
    `keep["drafts"]`."""
    shadow: Tensor | None = None
    """(B, L) bool, positions that are read a second time, as masks that look at all but the token there. Rows with
    one are read in a call of their own; the logits there, row by row, are then `keep["shadow"]`."""
    in_parts: bool = False
    """Whether `commit` can do with `LogitsInParts`, which it then gets where all logits would take much memory."""
    keep: dict[str, Tensor] = field(default_factory=dict)
    """What `query` passes on to `commit`."""


@dataclass
class Drafts:
    """R texts in place of those of the state."""

    rows: Tensor
    """(R,) int64, the rows of the state to which they belong."""
    tokens: Tensor
    """(R, L) int64."""
    masked: Tensor
    """(R, L) bool, positions that are still to be written."""
    ask: Tensor
    """(R, L) bool, positions whose prediction is wanted."""


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """A way of filling a canvas."""

    orders: ClassVar[frozenset[str]] = frozenset({"any"})
    """Orders of writing (`Family.order`) that it can follow."""
    default_steps: ClassVar[int | None] = None
    """Steps over the whole text where the user gives no number; None: as many as the sampler needs."""
    takes_steps: ClassVar[bool] = True
    """Whether the number of steps can be chosen."""
    takes_blocks: ClassVar[bool] = True
    """Whether it can fill blocks one after another."""
    cached: ClassVar[bool] = False
    """Whether it uses an exact cache where the network has one."""
    greedy: ClassVar[bool] = False
    """Whether it needs temperature 0."""
    takes_expressions: ClassVar[bool] = True
    """Whether what it writes can be made to match an expression: a chosen position that stays masked is chosen again in
    a later step."""

    def fits(self, family: Family) -> bool:
        """Whether this sampler can write with a model of that family."""
        return family.order in self.orders

    def begin(self, state: State, family: Family) -> None:  # noqa: B027  # most samplers have nothing to prepare
        """Prepares new rows, for example by drawing an order of writing into `state.extras`."""

    @abstractmethod
    def query(self, state: State, family: Family) -> Query:
        """What this step asks the network. All rows of `state` have this sampler and the same number of steps."""

    @abstractmethod
    def commit(self, state: State, family: Family, query: Query, logits: Any) -> Tensor:
        """Writes tokens, given the (N, V) logits of the asked positions; returns (B, L) bool, the changed positions.

        The logits are a Tensor, unless the query is content with `LogitsInParts`.
        """

    def move(self, state: State, source: Tensor) -> None:  # noqa: B027  # most samplers remember nothing of positions
        """Moves what the sampler remembers of positions, after masks were inserted in some rows: `source`, (B, L)
        int64, is where each position stood before, -1 for a new one."""

    def steps_of_block(self, steps: int | None, block: int, length: int) -> int | None:
        """Steps of one block of `block` positions, where the whole text of `length` positions takes `steps`."""
        if steps is None or block >= length:
            return steps
        return max(1, math.ceil(steps * block / length))

    def block_done(self, state: State) -> Tensor:
        """(B,) bool, rows whose current block is written."""
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
    def takes_expansion(self) -> bool:
        """Whether its rows can be lengthened while they are written (`expanding.DAEDAL`): it asks all masked positions
        of a block, and writes nothing in a row where nothing is asked."""
        return False

    @property
    def deterministic(self) -> bool:
        """Whether the choice of positions depends on the state alone, so that its likelihood is exact."""
        return False


def samplers() -> dict[str, type[Sampler]]:
    """Every sampler of this package by its class name. Imports the files of this folder."""
    import_files("remask.sampling")
    return {kind.__name__: kind for kind in subclasses_in("remask.sampling", Sampler)}


def sampler_of(family: Family, name: str | Sampler | None = None) -> Sampler:
    """A sampler from its name and options, such as "LLaDA:late_end=true"; by default that of the family."""
    if isinstance(name, Sampler):
        return name
    sampler: Sampler = build_named("sampler", name or family.sampler, samplers())
    return sampler


def require_fit(sampler: Sampler, family: Family) -> None:
    """RemaskError where a sampler does not fit a family; the message names those that do."""
    if not sampler.fits(family):
        fitting = sorted(name for name, kind in samplers().items() if kind().fits(family))
        raise RemaskError(
            f"{type(sampler).__name__} does not fit {type(family).__name__} models; these do: {', '.join(fitting)}"
        )


def largest(scores: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """(B, L) bool: in each row, the positions of the `count` (B,) highest `scores` (B, L) of those `among` (B, L) bool.

    Of equal scores the one further left comes first.
    """
    order = scores.double().masked_fill(~among, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(1)
    return (rank < count[:, None]) & among


def spread(values: Tensor, asked: Tensor) -> Tensor:
    """(N,) values of the asked positions, (B, L) bool -> (B, L), 0 elsewhere."""
    return torch.zeros(asked.shape, dtype=values.dtype, device=values.device).masked_scatter(asked, values)
