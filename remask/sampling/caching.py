"""Approximate caches for networks that see both sides.

In such a network every written token changes the keys and values of all positions, so no cache is exact. An approximate
one keeps those of an earlier step: a first step reads the whole row, the later ones only a part of it. A policy says
which part. It works with every sampler that writes masked positions, in blocks or not.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.extensions import import_files, subclasses_in
from remask.families.base import Family
from remask.model.rollout import Rollout
from remask.options import build_named
from remask.sampling.params import SamplingParams
from remask.sampling.predictions import certainty
from remask.sampling.sampler import Query, Sampler
from remask.sampling.state import CERTAINTY, State

MASKED_BEFORE = "masked_before"
"""(B, L) bool in `State.extras`: the positions that were masked when the row was last read."""

ROLLOUT = "rollout"
"""(B, L) float64 in `State.extras`: how much each position was looked at when the row was last read; 0 before."""


@dataclass(frozen=True, kw_only=True)
class CachePolicy(ABC):
    """Which positions a step reads, when a row has keys and values from an earlier step."""

    remembers: ClassVar[tuple[str, ...]] = ()
    """What it keeps in `State.extras`."""
    asks_part: ClassVar[bool] = False
    """Whether it asks only a part of what the samplers ask."""
    refresh: int = 0
    """Read the whole row again after this many steps of a block; 0: only when a block begins."""

    def __post_init__(self) -> None:
        if self.refresh < 0:
            raise RemaskError(f"refresh is {self.refresh}; it must be 0 or more steps")

    @abstractmethod
    def read(self, state: State, ask: Tensor) -> Tensor:
        """(B, L) bool, the positions that a step reads between two readings of the whole row, beside those it asks."""

    @property
    def wants_rollout(self) -> bool:
        """Whether it goes by the attention weights, which then are computed."""
        return False

    def keep(self, state: State) -> Tensor:
        """(B, L) bool, the positions whose keys and values are kept when the whole row is read."""
        return state.valid

    def ask(self, state: State, query: Query) -> Tensor:
        """(B, L) bool, the positions that are asked between two readings of the whole row; by default all that the
        samplers ask."""
        return query.ask

    def apply(self, state: State, query: Query) -> Query:
        """The query with the positions to read. Rows that begin a block, or are due, are read as a whole."""
        whole = ~state.cached.any(1)
        if self.refresh:
            whole = whole | (state.step % self.refresh == 0)
        state.cached = state.cached & ~whole[:, None]
        ask = torch.where(whole[:, None], query.ask, self.ask(state, query))
        near = visible(state) | ask
        read = torch.where(whole[:, None], near, (self.read(state, ask) | ask) & near)
        return replace(query, ask=ask, read=read, final=whole[:, None] & self.keep(state) & near)


@dataclass(frozen=True, kw_only=True)
class Prefix(CachePolicy):
    """Keeps what stands before the current block; reads the block and all after it (Wu et al. 2025, *Fast-dLLM*)."""

    def read(self, state: State, ask: Tensor) -> Tensor:
        return ~self.keep(state)

    def keep(self, state: State) -> Tensor:
        inside = state.blocks == state.block[:, None]
        return (inside.long().cumsum(1) == 0) & inside.any(1, keepdim=True) & state.valid


@dataclass(frozen=True, kw_only=True)
class Dual(CachePolicy):
    """Keeps the whole row; reads the current block, whose keys and values replace those kept (*Fast-dLLM*)."""

    def read(self, state: State, ask: Tensor) -> Tensor:
        return state.blocks == state.block[:, None]


@dataclass(frozen=True, kw_only=True)
class Delayed(CachePolicy):
    """Keeps the whole row; reads what is masked and what was masked one step ago (Ma et al. 2025, *dKV-Cache*).

    A token that has just been written is read once more, since its keys and values change most then. As published the
    second step of a block reads the whole row too; here only the first one does.
    """

    remembers: ClassVar[tuple[str, ...]] = (MASKED_BEFORE,)
    refresh: int = 8

    def read(self, state: State, ask: Tensor) -> Tensor:
        return state.masked | state.extras[MASKED_BEFORE]


def policies() -> dict[str, type[CachePolicy]]:
    """Every policy of this package by its class name. Imports the files of this folder."""
    import_files("remask.sampling")
    return {kind.__name__: kind for kind in subclasses_in("remask.sampling", CachePolicy)}


def policy_of(name: "str | CachePolicy | None") -> CachePolicy | None:
    """A policy from its name and options, such as "Dual:refresh=8"; None for "none"."""
    if name is None or isinstance(name, CachePolicy):
        return name
    if not isinstance(name, str):
        raise RemaskError(f"cache is {name!r}; it is a name, such as Dual:refresh=8, or a `CachePolicy`")
    if name == "none":
        return None
    policy: CachePolicy = build_named("cache", name, policies(), also=["none"])
    return policy


def check_policy(params: SamplingParams, sampler: Sampler, family: Family) -> None:
    """RemaskError where a policy or a window does not go with a sampler or a family."""
    given = {"cache": params.cache, "window": params.window, "grow": params.grow or None}
    names = [name for name, value in given.items() if value is not None]
    if not names:
        return
    if sampler.cached:
        raise RemaskError(f"{type(sampler).__name__} has an exact cache by itself; leave {' and '.join(names)} out")
    if family.order != "any":
        what = f"the cache {type(params.cache).__name__}" if params.cache is not None else names[0]
        raise RemaskError(
            f"{what} is for models that fill masks and see both sides, and this one is {type(family).__name__}; leave "
            f"{' and '.join(names)} out"
        )
    if is_partial(params) and params.block is None:
        raise RemaskError(f"{names[-1]} is about what stands behind the current block; give block too")


def begin(state: State) -> None:
    """Adds to new rows what their policies and constraints have to remember."""
    names = {name for p in state.params if p.cache is not None for name in p.cache.remembers}
    for name in names | ({CERTAINTY} if any(state.constraints) else set()):
        state.extras[name] = (
            state.masked.clone()
            if name == MASKED_BEFORE
            else state.masked.new_zeros(state.masked.shape, dtype=torch.float64)
        )


def visible(state: State) -> Tensor:
    """(B, L) bool: all of a row or, with a window, all but the masked positions far behind the current block.

    The last position of a row is visible, so that the network sees where the text is to end, unless the row grows.
    """
    if not any(is_partial(p) for p in state.params):
        return state.valid
    length = state.tokens.shape[1]
    reach = [(0 if p.grow else length) if p.window is None else p.window for p in state.params]
    size = torch.tensor(reach, device=state.tokens.device)[:, None]
    grows = torch.tensor([p.grow for p in state.params], device=state.tokens.device)[:, None]
    later = state.masked & (state.blocks > state.block[:, None])
    number = later.long().cumsum(1)
    return state.valid & ~(later & (number > size) & (grows | (number < number[:, -1:])))


def is_partial(params: SamplingParams) -> bool:
    """Whether the network does not see all of a row."""
    return params.window is not None or params.grow


def with_policies(state: State, query: Query, cached: bool) -> Query:
    """The query of all rows, with the positions that the windows and the policies of the rows let them read."""
    rows_of: dict[CachePolicy | None, list[int]] = {}
    for row, params in enumerate(state.params):
        rows_of.setdefault(params.cache, []).append(row)
    if set(rows_of) == {None} and not any(is_partial(p) for p in state.params):
        return query
    if set(rows_of) != {None} and not cached:
        raise RemaskError("a row asks for a cache; give step(..., cache=make_cache(denoiser, state, approximate=True))")
    if query.read is not None:
        names = {type(p.sampler).__name__ for p in state.params}
        raise RemaskError(
            f"a sampler among {', '.join(sorted(names))} says itself what to read; leave cache, window and grow out"
        )
    ask, read, final = query.ask.clone(), visible(state) | query.ask, torch.zeros_like(state.valid)
    for policy, rows in rows_of.items():
        if policy is None:
            continue
        if len(rows_of) == 1:
            return remember(state, policy.apply(state, query))
        chosen = torch.tensor(rows, device=read.device)
        part = state.rows(chosen)
        own = policy.apply(part, Query(query.ask[chosen]))
        assert own.read is not None and own.final is not None
        ask[chosen], read[chosen], final[chosen], state.cached[chosen] = own.ask, own.read, own.final, part.cached
    return remember(state, replace(query, ask=ask, read=read, final=final if cached else None))


def remember(state: State, query: Query) -> Query:
    """The same query, after noting for the rows that it reads what is masked now."""
    if MASKED_BEFORE in state.extras:
        unread = ~query.ask.any(1, keepdim=True)
        state.extras[MASKED_BEFORE] = state.masked | (state.extras[MASKED_BEFORE] & unread)
    return query


def want_rollout(state: State, query: Query, cache: Any) -> Tensor | None:
    """Has the next network call of a query note the attention weights of the rows whose policies go by them.

    Returns (R,) int64, these rows; None where there are none.
    """
    wants = [p.cache is not None and p.cache.wants_rollout for p in state.params]
    if not any(wants):
        return None
    asked = query.ask.any(1)
    rows = (torch.tensor(wants, device=asked.device) & asked).nonzero()[:, 0]
    if not len(rows):
        return None
    cache.rollout = Rollout((asked.cumsum(0) - 1)[rows])  # the call reads those rows that ask
    return rows


def note_rollout(state: State, rows: Tensor | None, cache: Any) -> None:
    """Keeps the rollout of the call that `want_rollout` prepared."""
    if rows is not None:
        found = cache.rollout.importance(state.tokens.shape[1])
        state.extras[ROLLOUT] = state.extras[ROLLOUT].index_copy(0, rows, found)
        cache.rollout = None


def note_certainty(state: State, query: Query, logits: Tensor) -> None:
    """Notes how certain the (N, V) predictions of a step are, for the policies and constraints that go by it."""
    if CERTAINTY in state.extras:
        found = certainty(logits, "probability").double()
        state.extras[CERTAINTY] = state.extras[CERTAINTY].masked_scatter(query.ask, found)
