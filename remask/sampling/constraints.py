"""Constraints on what is written: a text that matches an expression, and a text of at least some tokens.

A constraint belongs to one row. Before a sampler sees the logits, tokens after which the row could no longer be
completed are excluded (`forbid`). For a masked position i that is exact: with F the states that the tokens before i can
lead to, and B those from which the tokens after i can lead to a match, where a masked position is any token, the token
t is allowed if it leads from a state in F to one in B. Several tokens of one step are each allowed but need not go
together; then `kept_together` keeps the most probable ones that do, and the others are not written in this step.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Family
from remask.sampling.expressions import Automaton, States
from remask.sampling.params import SamplingParams

Tokens = Sequence[int | None]
"""What stands in the columns of a constraint; None is a mask."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Constraint(ABC):
    """What may be written in some columns of one row."""

    columns: tuple[int, ...]
    """The columns, from left to right."""

    @abstractmethod
    def allowed(self, tokens: Tokens, places: Sequence[int], size: int) -> NDArray[np.bool_]:
        """(P, size) bool: which of `size` tokens may stand at each of P places, numbers of columns."""

    def possible(self, tokens: Tokens) -> bool:
        """Whether what is masked can still be written."""
        return True


@dataclass(frozen=True, eq=False, kw_only=True)
class LateEnd(Constraint):
    """No token that ends a text in the given columns."""

    ends: tuple[int, ...]
    """The tokens that end a text."""

    def allowed(self, tokens: Tokens, places: Sequence[int], size: int) -> NDArray[np.bool_]:
        found = np.ones((len(places), size), bool)
        found[:, [end for end in self.ends if end < size]] = False
        return found


@dataclass(frozen=True, eq=False, kw_only=True)
class OneOf(Constraint):
    """Some tokens only in the given columns."""

    ids: NDArray[np.bool_]
    """(V,) which tokens."""

    def allowed(self, tokens: Tokens, places: Sequence[int], size: int) -> NDArray[np.bool_]:
        found = np.zeros((len(places), max(size, len(self.ids))), bool)
        found[:, : len(self.ids)] = self.ids
        return found[:, :size]


@dataclass(frozen=True, eq=False, kw_only=True)
class Matching(Constraint):
    """A text that matches an expression, and after it only tokens that end a text."""

    automaton: Automaton
    ends: tuple[int, ...] = ()
    """The tokens that end a text. Without any, all columns hold the text."""
    min_length: int = 0
    """Columns at the beginning that are no end."""

    def allowed(self, tokens: Tokens, places: Sequence[int], size: int) -> NDArray[np.bool_]:
        before, after = self.before(tokens), self.after(tokens)
        found = np.zeros((len(places), max(size, self.automaton.size)), bool)
        for line, place in zip(found, places):
            line[: self.automaton.size] = self.automaton.between(before[place], after[place + 1])
            if self.may_end(place):
                line[list(self.ends)] = (self.automaton.after_end(before[place]) & after[place + 1]).any()
        return found[:, :size]

    def possible(self, tokens: Tokens) -> bool:
        return bool((self.before(tokens)[-1] & self.automaton.accepting).any())

    def may_end(self, place: int) -> bool:
        """Whether a place may hold a token that ends the text."""
        return bool(self.ends) and place >= self.min_length

    def before(self, tokens: Tokens) -> list[States]:
        """For each place, and behind the last, the states that the tokens before it can lead to."""
        found = [self.automaton.start]
        for place, token in enumerate(tokens):
            states = np.zeros_like(found[-1]) if token in self.ends else self.automaton.after(found[-1], token)
            if self.may_end(place) and (token is None or token in self.ends):
                states |= self.automaton.after_end(found[-1])
            found.append(states)
        return found

    def after(self, tokens: Tokens) -> list[States]:
        """For each place, and behind the last, the states from which it and the tokens after it can lead to a match."""
        found = [self.automaton.accepting]
        for place in reversed(range(len(tokens))):
            token = tokens[place]
            states = np.zeros_like(found[-1]) if token in self.ends else self.automaton.before(found[-1], token)
            if self.may_end(place) and (token is None or token in self.ends):
                states |= self.automaton.before_end(found[-1])
            found.append(states)
        return found[::-1]


def constraints_of(
    params: SamplingParams, family: Family, columns: Sequence[int], given: Sequence[Constraint]
) -> tuple[Constraint, ...]:
    """The constraints of a row whose open positions are `columns`: those that are given, and a `LateEnd`.

    RemaskError where the family or the sampler cannot follow them, or an expression is not among those given.
    """
    matching = [constraint for constraint in given if isinstance(constraint, Matching)]
    name = type(family).__name__
    if params.matching is not None and not matching:
        raise RemaskError("matching needs a tokenizer, which remask.sample has; start(...) takes constraints")
    if (given or params.min_length) and family.order == "all":
        raise RemaskError(
            f"{name} models revise every position until the end, so what they write can match no expression and has no "
            "min_length; masked and autoregressive models can"
        )
    if matching and not params.sampler.takes_expressions:
        raise RemaskError(
            f"{type(params.sampler).__name__} draws beforehand when each position is written, so what it writes can "
            "match no expression; masked and autoregressive models can"
        )
    ends = ends_of(family)
    if params.min_length and ends and not matching:
        given = [*given, LateEnd(columns=tuple(columns[: params.min_length]), ends=ends)]
    return tuple(given)


def ends_of(family: Family) -> tuple[int, ...]:
    """The tokens that end a text."""
    known = family.vocabulary.end, family.vocabulary.end_of_turn
    return tuple(i for i in known if i is not None)


def has_holes(constraints: Sequence[Constraint]) -> bool:
    """Whether there are columns that match an expression to their last one, so that no end of the text fills them."""
    return any(isinstance(constraint, Matching) and not constraint.ends for constraint in constraints)


def check_possible(
    tokens: Tensor, masked: Tensor, constraints: Sequence[Sequence[Constraint]], forced: bool = False
) -> None:
    """RemaskError where a row cannot be written under its constraints, from what stands in it, (B, L) each, or where a
    text is `forced` on a row that has to match an expression."""
    for row, own in enumerate(constraints):
        written = written_in(tokens[row], masked[row])
        for constraint in own:
            if forced and isinstance(constraint, Matching):
                raise RemaskError("a rule has no likelihood under an expression; leave forced or the expression out")
            if not constraint.possible(standing(written, constraint)):
                raise impossible(constraint, standing(written, constraint))


def impossible(constraint: Constraint, tokens: Tokens) -> RemaskError:
    """An error for what cannot be written; it names the numbers of tokens that would do."""
    assert isinstance(constraint, Matching)
    n, expression = len(tokens), constraint.automaton.expression
    if any(token is not None for token in tokens):
        return RemaskError(f"what is given of {n} tokens cannot be completed to match the expression {expression!r}")
    count = f"from {constraint.min_length} to {n}" if constraint.ends else str(n)
    lengths = constraint.automaton.lengths(2 * n + 64)
    near = sorted(sorted(lengths, key=lambda length: (abs(length - n), length))[:5])
    hint = f"; texts of {', '.join(map(str, near))} tokens do" if near else ""
    return RemaskError(f"no text of {count} tokens matches the expression {expression!r}{hint}")


def forbid(
    logits: Tensor, ask: Tensor, tokens: Tensor, masked: Tensor, constraints: Sequence[Sequence[Constraint]]
) -> Tensor:
    """(N, V) logits of the asked positions, (B, L) bool -> the same with -inf where a token is not allowed.

    `tokens` (B, L) int64 and `masked` (B, L) bool are what is written; every row has its constraints.
    """
    number = ask.flatten().cumsum(0).view(ask.shape) - 1
    for row, own in enumerate(constraints):
        if not own:
            continue
        asked, line, written = ask[row].tolist(), number[row].tolist(), written_in(tokens[row], masked[row])
        for constraint in own:
            places = [place for place, column in enumerate(constraint.columns) if asked[column]]
            if places:
                allowed = constraint.allowed(standing(written, constraint), places, logits.shape[-1])
                at = torch.tensor([line[constraint.columns[place]] for place in places], device=logits.device)
                barred = torch.from_numpy(~allowed).to(logits.device)
                logits[at] = logits[at].masked_fill(barred, -torch.inf)
    return logits


def kept_together(
    chosen: Tensor,
    drawn: Tensor,
    sure: Tensor,
    tokens: Tensor,
    masked: Tensor,
    constraints: Sequence[Sequence[Constraint]],
) -> Tensor:
    """(N,) bool: which of the (N,) tokens, drawn for the chosen positions, (B, L) bool, are written together.

    Of those that do not go together, the surest ones are kept, one after another, each if it goes with what is kept
    before it. `sure` (N, 2) are the log-probability with which each was drawn and, for equal ones such as greedy
    tokens, the certainty of its prediction; of equally sure tokens the one further left comes first. One token alone is
    always kept.
    """
    keep = torch.ones_like(drawn, dtype=torch.bool)
    number = chosen.flatten().cumsum(0).view(chosen.shape) - 1
    for row, own in enumerate(constraints):
        if not own:
            continue
        here, line, written = chosen[row].tolist(), number[row].tolist(), written_in(tokens[row], masked[row])
        for constraint in own:
            new = {place: line[column] for place, column in enumerate(constraint.columns) if here[column]}
            if len(new) < 2:
                continue
            at = torch.tensor(list(new.values()), device=drawn.device)
            ids, keys = drawn[at].tolist(), map(tuple, sure[at].tolist())
            found = together(constraint, standing(written, constraint), dict(zip(new, ids)), dict(zip(new, keys)))
            keep[at] &= torch.tensor([place in found for place in new], device=keep.device)
    return keep


def together(
    constraint: Constraint, tokens: list[int | None], new: dict[int, int], sure: dict[int, tuple[float, ...]]
) -> set[int]:
    """The places of those `new` tokens, by place, that can be written together; the surest ones first, by the first
    number that differs."""

    def fits(places: set[int]) -> bool:
        return constraint.possible([new[i] if i in places else token for i, token in enumerate(tokens)])

    kept: set[int] = set(new)
    if fits(kept):
        return kept
    kept = set()
    for place in sorted(new, key=lambda place: (*(-x for x in sure[place]), place)):
        if fits(kept | {place}):
            kept.add(place)
    return kept or {min(new)}  # where the network predicts nan nothing fits, and the row has to end all the same


def written_in(tokens: Tensor, masked: Tensor) -> list[int | None]:
    """What stands in a row of (L,) tokens; None where it is masked, (L,) bool."""
    return [None if hidden else token for token, hidden in zip(tokens.tolist(), masked.tolist())]


def standing(row: Sequence[int | None], constraint: Constraint) -> list[int | None]:
    """What stands in the columns of a constraint."""
    return [row[column] for column in constraint.columns]
