"""The network call of a step: one call for all rows of a state, whatever their samplers ask."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from remask.families.base import Denoiser, Family
from remask.model.attention import CAUSAL, FULL, Attention, Padded, Ranked
from remask.model.logits import Logits, LogitsInParts, at_once, rows_of_part
from remask.model.transformer import Transformer
from remask.sampling.constraints import forbid
from remask.sampling.guidance import NEGATIVE, add_guidance
from remask.sampling.sampler import Query
from remask.sampling.state import CERTAINTY, State


@dataclass
class NetworkInput:
    """The R rows that the network reads in a step, Q positions of each."""

    rows: Tensor | None
    """(R,) numbers of these rows in the state; None: all of them."""
    tokens: Tensor
    """(R, Q) int64."""
    index: Tensor | None
    """(R, Q) canvas positions, -1 for a hole; None: 0 to Q - 1."""
    ask: Tensor
    """(R, Q) bool, the positions at which a prediction is wanted."""
    attention: Attention
    """Which canvas position may see which."""
    asked: int
    """How many predictions are wanted in all."""


def predict(denoiser: Denoiser, family: Family, state: State, query: Query, cache: Any = None) -> Logits | None:
    """(N, V) float32 logits at the asked positions, row by row and from left to right; None where nothing is asked.

    They are in parts where the query can do with that, and they are many.
    The mask is never predicted, nor what a constraint of the row does not allow. The network reads only rows with an
    asked position and, without a cache, only as many positions as the longest of these rows has. With a cache,
    `State.cached` afterwards includes the positions that the query calls final.
    """
    inputs = compose(state, query, cache)
    if inputs is None:
        return None
    rows = inputs.rows
    denoiser, passes = with_guidance(denoiser, family, state, rows)
    if cache is not None and rows is not None:
        cache = cache.choose(rows)
    conditions: dict[str, Any] = dict(
        index=inputs.index,
        ask=inputs.ask,
        time=noise_level(family, state, query, rows),
        attention=inputs.attention,
        cache=cache,
    )
    mask = family.vocabulary.mask
    in_parts = query.in_parts and not any(state.constraints) and CERTAINTY not in state.extras
    many = inputs.asked > rows_of_part(family.vocabulary.predicted, inputs.tokens.device)
    if in_parts and many and isinstance(denoiser, Transformer):
        logits: Logits = LogitsInParts(denoiser.lm_head, denoiser.hidden_states(inputs.tokens, **conditions), mask)
    else:
        logits = without_mask(denoiser(inputs.tokens, **conditions), family)
    asked = query.ask.any(1)
    state.calls += asked * passes
    if cache is not None and query.final is not None:
        state.cached = state.cached | (query.final & asked[:, None])
    if any(state.constraints):
        logits = forbid(at_once(logits), query.ask, state.tokens, state.masked, state.constraints)
    return logits


def compose(state: State, query: Query, cache: Any) -> NetworkInput | None:
    """The rows and positions that the network reads for a query; None where nothing is asked."""
    ask, read = query.ask, query.read
    counts = [ask.sum(1), state.valid.sum(1)] + ([] if read is None else [read.sum(1)])
    counts = torch.stack(counts).tolist()  # one transfer to the host for all that it has to know
    asking = [i for i, n in enumerate(counts[0]) if n]
    if not asking:
        return None
    rows = None if len(asking) == len(ask) else torch.tensor(asking, device=ask.device)
    length = ask.shape[1]
    if cache is None:  # with a cache the length stays that of the canvas, since other rows may have filled all of it
        length = max(counts[1][i] for i in asking)

    def some(x: Tensor) -> Tensor:
        return x[:, :length] if rows is None else x[rows, :length]

    tokens = some(state.tokens if query.tokens is None else query.tokens)
    attention: Attention = CAUSAL if query.causal else FULL if query.rank is None else Ranked(some(query.rank))
    if read is None:
        if any(counts[1][i] < length for i in asking):
            attention = attention & Padded(some(state.valid))
        return NetworkInput(rows, tokens, None, some(ask), attention, sum(counts[0]))
    if cache is not None and not query.causal:
        attention = attention & Padded(some(state.cached | read))
    index = positions_of(some(read), max(counts[2][i] for i in asking))
    place = index.clamp(min=0)
    asked = some(ask).gather(1, place) & (index >= 0)
    return NetworkInput(rows, tokens.gather(1, place), index, asked, attention, sum(counts[0]))


def positions_of(chosen: Tensor, size: int) -> Tensor:
    """(R, L) bool -> (R, size) int64, the chosen positions of each row from left to right, padded with -1."""
    order = chosen.long().argsort(dim=1, descending=True, stable=True)[:, :size]
    return order.masked_fill(~chosen.gather(1, order), -1)


def noise_level(family: Family, state: State, query: Query, rows: Tensor | None) -> Tensor | None:
    """(R,) the noise time that the network is given; None in families whose networks are not given it."""
    if family.time == "none":
        return None
    if query.time is not None:
        time = query.time.float()
    else:
        time = state.masked.sum(1) / state.open.sum(1)
    return time if rows is None else time[rows]


def with_guidance(
    denoiser: Denoiser, family: Family, state: State, rows: Tensor | None
) -> tuple[Denoiser, int | Tensor]:
    """The denoiser with the guidance of each row, and how many passes a call makes: a number, or (B,) for each row."""
    weight = state.option("guidance")
    if not isinstance(weight, Tensor):
        if weight == 0:
            return denoiser, 1
        passes: int | Tensor = 2
    else:
        passes = 1 + (weight != 0).long()
        weight = weight if rows is None else weight[rows]
    prompt, negative = ~state.open & state.valid, state.extras.get(NEGATIVE)
    if rows is not None:
        prompt, negative = prompt[rows], None if negative is None else negative[rows]
    return add_guidance(denoiser, family, weight, prompt, None if negative is None else negative - 1), passes


def without_mask(logits: Tensor, family: Family) -> Tensor:
    """(N, V) logits in which the mask has probability 0, where the head has a row for it."""
    mask = family.vocabulary.mask
    if mask is not None and mask < logits.shape[-1]:
        logits[:, mask] = -torch.inf
    return logits
