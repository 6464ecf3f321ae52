"""A canvas that is lengthened while it is written, by what the network predicts (Li et al. 2025, *DAEDAL*).

A row begins with few masked positions. Before anything is written masks are appended to it, until the network predicts
enough end-of-text tokens at its end. While it is written, a position whose prediction is very uncertain becomes several
masked positions, unless the network is sure where the text ends. What a row becomes depends on the row alone: it is
lengthened by its own predictions, and its noise is that of its own positions as they stand when they are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from remask.errors import RemaskError, unknown
from remask.families.base import Family
from remask.options import LARGEST, parse_options
from remask.sampling.params import SamplingParams
from remask.sampling.predictions import certainty
from remask.sampling.sampler import Query, Sampler, largest, samplers, spread
from remask.sampling.state import State, block_numbers, moved

ROOM = "room"
"""(B,) int64 in `State.extras`: how many positions a row can still be lengthened by; 0 in rows that are not."""
BEGUN = "begun"
"""(B,) bool: whether the length at the beginning is found, so that the row is being written."""


@dataclass(frozen=True, kw_only=True)
class DAEDAL:
    """When a row is lengthened, and by how much.

    Its end-of-text confidence is the sum of the probabilities of end-of-text, over the last `ends` positions at which
    that is the most probable token, divided by `ends`. An end-of-text token that is written counts as 1.
    """

    initial: int = 64
    """Masked positions at first; as many as `min_length` where that is more."""
    add: int = 8
    """Masks that are appended at a time, and masks that one position becomes."""
    ends: int = 32
    """Predictions of end-of-text that count. A row of fewer positions is never confident of its end."""
    append_below: float = 0.5
    """Before anything is written, masks are appended while the end-of-text confidence is below this."""
    insert_below: float = 0.9
    """While the row is written, masks are inserted only where the end-of-text confidence is below this."""
    low: float = 0.1
    """A masked position of the current block can become several if its most probable token has less than this. In a
    step this happens to one position at most, the one with the least."""

    def __post_init__(self) -> None:
        for name, least in (("initial", 1), ("add", 2), ("ends", 1)):
            given = getattr(self, name)
            if not least <= given <= LARGEST:
                raise RemaskError(f"{name} is {given}; it must be at least {least}, and at most {LARGEST}")
        for name in ("append_below", "insert_below", "low"):
            given = getattr(self, name)
            if not 0 <= given <= 1:
                raise RemaskError(f"{name} is {given}; it is a probability, from 0 to 1")


def expansion_of(name: "str | DAEDAL | None") -> DAEDAL | None:
    """How a row is lengthened, from a name with options such as "DAEDAL:initial=32"; None for "none"."""
    if name is None or isinstance(name, DAEDAL):
        return name
    if not isinstance(name, str):
        raise RemaskError(f"expand is {name!r}; it is a name, such as DAEDAL:initial=32, or a `DAEDAL`")
    if name == "none":
        return None
    name, _, given = name.partition(":")
    if name != "DAEDAL":
        raise unknown("expansion", name, ["DAEDAL", "none"])
    return DAEDAL(**parse_options(DAEDAL, given))


def check_expansion(params: SamplingParams, sampler: Sampler, family: Family) -> None:
    """RemaskError where a row cannot be lengthened with a sampler, a family or other options."""
    if params.expand is None:
        return
    if family.order != "any":
        raise RemaskError(
            f"expand is for models that fill masks and see both sides, and this one is {type(family).__name__}; leave "
            "expand out"
        )
    if not sampler.takes_expansion:
        fitting = sorted(name for name, kind in samplers().items() if kind().fits(family) and kind().takes_expansion)
        raise RemaskError(
            f"expand goes by the prediction of every masked position, which {sampler!r} does not choose by; these do: "
            f"{', '.join(fitting)}"
        )
    if params.cache is not None or params.window is not None or params.grow:
        raise RemaskError(
            "expand looks at all masked positions in every step, and moves what stands behind a new one; leave cache, "
            "window and grow out"
        )
    if params.matching is not None:
        raise RemaskError("an expression is matched by a fixed number of positions; leave expand or matching out")
    if family.vocabulary.end is None:
        raise RemaskError("expand goes by predictions of an end-of-text token, which this model has not; leave it out")


def begin(state: State, family: Family) -> None:
    """Shortens new rows that are lengthened while they are written: their canvas is the longest that they can become.

    RemaskError where a row has given text behind an open position, or is to be written with a forced text or under a
    constraint other than `min_length`.
    """
    expansions = [p.expand for p in state.params]
    if not any(expansions):
        return
    if state.forced is not None:
        raise RemaskError(
            "a text of given length has no likelihood where the length is found; leave forced or expand out"
        )
    open_ = state.open.sum(1)
    room = []
    for row, (params, size) in enumerate(zip(state.params, open_.tolist(), strict=True)):
        if params.expand is None:
            room.append(0)
            continue
        first = int(state.valid[row].sum()) - size
        if bool(state.open[row, :first].any()):
            raise RemaskError("expand is for a text that goes on to its end, with nothing given behind; leave it out")
        room.append(max(0, size - max(params.expand.initial, params.min_length)))
    state.extras[ROOM] = torch.tensor(room, device=state.tokens.device)
    state.extras[BEGUN] = state.extras[ROOM] == 0
    length = state.valid.sum(1) - state.extras[ROOM]
    there = torch.arange(state.tokens.shape[1], device=length.device) < length[:, None]
    for name in ("open", "masked", "valid"):
        setattr(state, name, getattr(state, name) & there)
    state.tokens = state.tokens.masked_fill(~state.valid, 0)
    state.blocks = block_numbers(state.open, state.params)


def asked_besides(state: State, query: Query) -> Tensor | None:
    """(B, L) bool, the positions that are asked besides those of a query: all that are masked, in rows that may become
    longer; None where no row may."""
    room = state.extras.get(ROOM)
    if room is None or not bool((room > 0).any()):
        return None
    return state.masked & ~query.ask & (room > 0)[:, None] & query.ask.any(1, keepdim=True)


@dataclass
class Decision:
    """What becomes of the length of each row in a step."""

    append: Tensor
    """(B,) bool, rows that are lengthened at their end; nothing is written in them."""
    unsure: Tensor
    """(B, L) bool, positions that may become several, if they are still masked when the step has written."""
    probability: Tensor
    """(B, L) float64, that of the most probable token at the asked positions."""


def decide(state: State, family: Family, query: Query, logits: Tensor) -> Decision:
    """Decides by the (N, V) logits of a step at the asked positions, and notes which rows begin to be written."""
    asked, room = query.ask, state.extras[ROOM]
    judged = (room > 0) & asked.any(1)
    sure = spread(certainty(logits, "probability").double(), asked)
    confidence = end_confidence(state, family, asked, logits)
    append = judged & ~state.extras[BEGUN] & (confidence < numbers(state, "append_below"))
    state.extras[BEGUN] = state.extras[BEGUN] | (judged & ~append)
    insert = judged & ~append & (confidence < numbers(state, "insert_below"))
    unsure = insert[:, None] & asked & state.active & (sure < numbers(state, "low")[:, None])
    return Decision(append, unsure, sure)


def end_confidence(state: State, family: Family, asked: Tensor, logits: Tensor) -> Tensor:
    """(B,) float64, the end-of-text confidence of each row, as `DAEDAL` defines it."""
    end = family.vocabulary.end
    if end is None:
        return torch.ones_like(state.log_prob)
    likely = spread(logits.argmax(-1) == end, asked)
    chance = spread((logits[:, end] - logits.logsumexp(-1)).exp().double(), asked)
    written = state.open & ~state.masked & (state.tokens == end)
    counts = numbers(state, "ends", 1)
    here = likely | written
    last = here & (here.flip(1).cumsum(1).flip(1) <= counts[:, None])
    return torch.where(last, chance + written, 0.0).sum(1) / counts


def numbers(state: State, name: str, otherwise: float = 0) -> Tensor:
    """(B,) float64, an option of `DAEDAL` of each row; `otherwise` in rows that are not lengthened."""
    values = [otherwise if p.expand is None else getattr(p.expand, name) for p in state.params]
    return torch.tensor(values, dtype=torch.float64, device=state.tokens.device)


def lengthen(
    state: State,
    family: Family,
    decision: Decision,
    groups: Sequence[tuple[Sampler, Tensor | None]],
    changed: Tensor,
) -> Tensor:
    """Lengthens the rows after a step has written; returns (B, L) bool, where the `changed` positions stand now.

    `groups` are the samplers and the rows of each, None for all.
    """
    place = largest(-decision.probability, decision.unsure & state.masked, torch.ones_like(state.step))
    inserting = place.any(1)
    length, at = state.valid.sum(1), place.byte().argmax(1) + 1
    at = torch.where(inserting, at, length)
    count = numbers(state, "add").long() - inserting.long()
    count = torch.minimum(count, state.extras[ROOM]) * (inserting | decision.append)
    if not bool(count.any()):
        return changed
    along = torch.arange(state.tokens.shape[1], device=at.device)
    new = (along >= at[:, None]) & (along < (at + count)[:, None])
    source = torch.where(along < at[:, None], along, along - count[:, None]).masked_fill(new, -1)
    for name in ("tokens", "open", "masked", "valid", "confidence"):
        setattr(state, name, moved(getattr(state, name), source))
    state.tokens = state.tokens.masked_fill(new, family.mask)
    state.open, state.masked, state.valid = state.open | new, state.masked | new, state.valid | new
    state.blocks = block_numbers(state.open, state.params)
    state.extras[ROOM] = state.extras[ROOM] - count
    state.step = state.step - decision.append.long()  # a step that only finds the length is none of the sampler's
    for sampler, rows in groups:
        part = state if rows is None else state.rows(rows)
        sampler.move(part, source if rows is None else source[rows])
        if rows is not None:
            state.put(rows, part)
    return moved(changed, source)


def for_samplers(query: Query, besides: Tensor, decision: Decision, logits: Tensor) -> tuple[Query, Tensor]:
    """The query and the logits without the positions that were asked `besides`, and without the rows that only became
    longer."""
    keep = ~besides & ~decision.append[:, None]
    return replace(query, ask=query.ask & keep), logits[keep[query.ask]]
