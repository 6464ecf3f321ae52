"""The sampling loop, which everything that writes text shares: each step makes one network call for all rows.

Only rows whose sampler reads a block twice (`Query.shadow`) are read in a second call.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Denoiser, Family
from remask.model.cache import KeyValueCache
from remask.model.logits import LogitsInParts, at_once
from remask.sampling import caching, expanding
from remask.sampling.asking import ask_all, default_of
from remask.sampling.constraints import Constraint, check_possible, constraints_of, has_holes
from remask.sampling.params import SamplingParams
from remask.sampling.sampler import Drafts, Query, Sampler, require_fit
from remask.sampling.state import CERTAINTY, Canvas, State, blank_state, pad_to
from remask.seeds import mix_seeds


@dataclass(frozen=True)
class Step:
    """The canvas after one step."""

    tokens: Tensor
    """(B, L) int64."""
    changed: Tensor
    """(B, L) bool, positions that this step wrote or masked again."""
    masked: Tensor
    """(B, L) bool, positions that are still to be written."""
    confidence: Tensor
    """(B, L) float32, the probability with which each token was written; 1 on given text, 0 where masked."""
    log_prob: Tensor
    """(B,) float64 nats, log-probability of what has been written so far."""
    calls: Tensor
    """(B,) int64, network passes over each row so far."""
    valid: Tensor
    """(B, L) bool, False behind the end of a row; with `expand` rows become longer, and what they hold may move."""


def start(
    family: Family,
    canvas: Canvas,
    params: SamplingParams | Sequence[SamplingParams],
    seeds: Sequence[int] | None = None,
    forced: Tensor | None = None,
    constraints: Sequence[Sequence[Constraint]] | None = None,
) -> State:
    """A state with the rows of a canvas, ready for the first step.

    Args:
        family: the family of the model, with its vocabulary.
        canvas: the rows.
        params: how to write the rows: one for all, or one for each. The sampler must be a `Sampler`, not a name.
        seeds: one for each row; by default the `seed` of its params.
        forced: (B, L) int64, a text that is written in place of the tokens drawn, so that `State.log_prob` becomes the
            log-probability with which the sampler writes this text.
        constraints: what may be written in each row.

    Raises:
        RemaskError: a sampler or a cache does not fit the family, or a sampler does not take steps or blocks that are
            given; or a text is forced on a family that revises every position, or together with constraints; or a
            constraint cannot be followed by the sampler, or by any text.
    """
    if forced is not None and family.order == "all":
        raise RemaskError(
            f"{type(family).__name__} models revise what they have written, so a rule has no likelihood there; leave "
            "forced out"
        )
    every = [params] * len(canvas.tokens) if isinstance(params, SamplingParams) else list(params)
    lengths = canvas.open.sum(1).tolist()
    for sampler in {p.sampler for p in every}:
        require_fit(sampler, family)
    resolved = [resolve(p, family, length) for p, length in zip(every, lengths, strict=True)]
    columns = [row.nonzero()[:, 0].tolist() for row in canvas.open.cpu()]
    if constraints is not None and any(p.expand is not None and own for p, own in zip(resolved, constraints)):
        raise RemaskError("a constraint is about fixed columns; leave expand or the constraints out")
    given = [()] * len(every) if constraints is None else constraints
    bound = [constraints_of(p, family, own, c) for p, own, c in zip(resolved, columns, given, strict=True)]
    resolved = [replace(p, stop=False) if has_holes(own) else p for p, own in zip(resolved, bound)]
    state = blank_state(family, canvas, resolved, [p.seed for p in every] if seeds is None else seeds, forced, bound)
    if any(bound):
        check_possible(state.tokens, state.masked, bound, forced is not None)
    caching.begin(state)
    expanding.begin(state, family)
    for sampler, rows in groups(state):
        part = state if rows is None else state.rows(rows)
        sampler.begin(part, family)
        if rows is not None:
            for name, extra in part.extras.items():
                if name not in state.extras:
                    state.extras[name] = extra.new_zeros(len(every), *extra.shape[1:])
                shape = [max(sizes) for sizes in zip(state.extras[name].shape[1:], extra.shape[1:], strict=True)]
                state.extras[name] = pad_to(state.extras[name], shape)
            state.put(rows, part)
    return state


def resolve(params: SamplingParams, family: Family, length: int) -> SamplingParams:
    """The params of a row with `length` open positions: with the steps of one block, a block no larger than that, and a
    `CachePolicy` in place of its name."""
    sampler, name = params.sampler, type(params.sampler).__name__
    assert isinstance(sampler, Sampler)
    params = replace(params, cache=caching.policy_of(params.cache), expand=expanding.expansion_of(params.expand))
    caching.check_policy(params, sampler, family)
    expanding.check_expansion(params, sampler, family)
    if params.block is not None and not sampler.takes_blocks:
        raise RemaskError(f"{name} does not fill one block after another; leave block out")
    if params.block is not None and family.order == "all":
        raise RemaskError(
            f"{type(family).__name__} models revise every position until the end, so no block is final before another "
            "begins; leave block out"
        )
    if params.steps is not None and not sampler.takes_steps:
        raise RemaskError(f"the number of steps of {sampler!r} follows from the text; leave steps out")
    length = max(length, 1)
    block = min(params.block or length, length)
    steps = sampler.default_steps if params.steps is None else params.steps
    return replace(params, block=block, steps=sampler.steps_of_block(steps, block, length))


def groups(state: State) -> list[tuple[Sampler, Tensor | None]]:
    """Divides the rows of a state into groups of the same sampler and number of steps.

    Returns each group's sampler and row numbers, or None for the rows of a single group.
    """
    rows_of: dict[tuple[Sampler, int | None], list[int]] = {}
    for row, params in enumerate(state.params):
        rows_of.setdefault((params.sampler, params.steps), []).append(row)
    if len(rows_of) == 1:
        ((sampler, _),) = rows_of
        return [(sampler, None)]
    return [(sampler, torch.tensor(rows, device=state.tokens.device)) for (sampler, _), rows in rows_of.items()]


@torch.inference_mode()
def step(denoiser: Denoiser, family: Family, state: State, cache: Any = None) -> Step | None:
    """Makes one step of every row, with one network call for all of them, whatever their samplers; see above.

    Changes `state` and `cache` in place. Returns None where the step neither called the network nor changed a token.
    """
    parts = []
    for sampler, rows in groups(state):
        part = state if rows is None else state.rows(rows)
        parts.append((sampler, rows, part, sampler.query(part, family)))
    query = parts[0][3] if len(parts) == 1 else join_queries(state, [(rows, query) for _, rows, _, query in parts])
    besides = expanding.asked_besides(state, query)
    query = query if besides is None else replace(query, ask=query.ask | besides, in_parts=False)
    query = caching.with_policies(state, query, cache is not None)
    looked = caching.want_rollout(state, query, cache)
    answer, others = ask_all(denoiser, family, state, query, cache)
    caching.note_rollout(state, looked, cache)
    nothing = torch.empty(0, family.vocabulary.predicted, device=state.tokens.device)
    logits: Any = nothing if answer is None else answer
    caching.note_certainty(state, query, logits)
    decision = None
    if besides is not None:
        decision = expanding.decide(state, family, query, logits)
        query, logits = expanding.for_samplers(query, besides, decision, logits)
    changed = torch.zeros_like(state.masked)
    before = state.masked.clone() if any(state.constraints) else None
    of_row = query.ask.nonzero()[:, 0] if len(parts) > 1 else None
    for sampler, rows, part, own in parts:
        if rows is None or of_row is None:
            others.give(own)
            changed = sampler.commit(state, family, replace(own, ask=query.ask), logits)
            advance(state, sampler)
            continue
        part.calls, part.cached = state.calls[rows], state.cached[rows]
        for name in (caching.MASKED_BEFORE, CERTAINTY, caching.ROLLOUT, expanding.BEGUN):
            if name in state.extras:
                part.extras[name] = state.extras[name][rows]
        others.give(own)
        own = replace(own, ask=query.ask[rows])
        mine = torch.isin(of_row, rows)
        of_part = logits.some(mine) if isinstance(logits, LogitsInParts) else logits[mine]
        changed[rows] = sampler.commit(part, family, own, of_part if own.in_parts else at_once(of_part))
        advance(part, sampler)
        state.put(rows, part)
    if before is not None:  # a constraint may have kept chosen positions from being written
        changed = changed & ~(before & state.masked)
    if decision is not None:
        changed = expanding.lengthen(state, family, decision, [(part[0], part[1]) for part in parts], changed)
    if answer is None and not bool(changed.any()):
        return None
    return snapshot(state, changed)


def join_queries(state: State, queries: Sequence[tuple[Tensor | None, Query]]) -> Query:
    """Joins the queries of several groups of rows into one of all rows."""
    joined = Query(
        torch.zeros_like(state.masked),
        causal=any(query.causal for _, query in queries),
        in_parts=any(query.in_parts for _, query in queries),
    )
    drafts = []
    for rows, query in queries:
        joined.ask[rows] = query.ask
        for name in ("time", "read", "tokens", "rank", "final", "shadow"):
            if (given := getattr(query, name)) is not None:
                if getattr(joined, name) is None:
                    setattr(joined, name, default_of(name, state, 0))
                getattr(joined, name)[rows] = given.to(getattr(joined, name).dtype)
        if query.drafts is not None and rows is not None:
            drafts.append(replace(query.drafts, rows=rows[query.drafts.rows]))
    if drafts:
        of_all = {f.name: torch.cat([getattr(one, f.name) for one in drafts]) for f in fields(Drafts)}
        joined.drafts = Drafts(**of_all)
    return joined


def advance(state: State, sampler: Sampler) -> None:
    """Moves each row on to its next step, or to its next block where this one is written, and marks complete rows."""
    state.close()
    state.step = state.step + 1
    done = sampler.block_done(state)
    state.finished = sampler.row_done(state)
    state.block = state.block + done
    state.cached = state.cached & ~done[:, None]  # what an approximate cache kept for the block before is read anew
    state.step = state.step.masked_fill(done, 0)


def snapshot(state: State, changed: Tensor) -> Step:
    """A copy of the state as it is now, which later steps do not change."""
    now = (state.tokens, changed, state.masked, state.confidence, state.log_prob, state.calls, state.valid)
    return Step(*(x.clone() for x in now))


@torch.inference_mode()  # on a generator this is in effect while a step is made, and not between steps
def stream(denoiser: Denoiser, family: Family, state: State, cache: Any = None) -> Iterator[Step]:
    """Writes all rows, and yields each step.

    Complete rows leave the batch, but each `Step` shows all rows. Where no cache is given, one is made if a row asks
    for it, or if all samplers use an exact one, and the network has layers to cache.
    """
    cache = make_cache(denoiser, state) if cache is None else cache
    whole, own = state, torch.arange(len(state.params), device=state.tokens.device)
    while True:
        finished = state.finished.tolist()
        if all(finished):
            return
        if any(finished):
            left = torch.tensor([i for i, done in enumerate(finished) if not done], device=own.device)
            state, own = state.rows(left), own[left]
            cache = None if cache is None else cache.rows(left)
        done = step(denoiser, family, state, cache)
        if state is not whole:
            whole.put(own, state)
        if done is not None and state is whole:
            yield done
        elif done is not None:
            changed = torch.zeros_like(whole.masked)
            changed[own] = done.changed
            yield snapshot(whole, changed)


def fill(denoiser: Denoiser, family: Family, canvas: Canvas, params: SamplingParams) -> State:
    """Writes all rows of a canvas with the same params, each with a seed of its own; returns the state at the end."""
    state = start(family, canvas, params, [mix_seeds(params.seed, row) for row in range(len(canvas.tokens))])
    for _ in stream(denoiser, family, state):
        pass
    return state


def make_cache(denoiser: Denoiser, state: State, approximate: bool = False) -> KeyValueCache | None:
    """An empty cache for the rows of a state, where a row asks for one or all samplers use an exact one; None where
    they do not, or the network has no layers. With `approximate` there is one in any case, which rows can join that
    ask for one."""
    architecture = getattr(denoiser, "architecture", None)
    exact = all(p.sampler.cached for p in state.params)
    if architecture is None or not (exact or approximate or any(p.cache is not None for p in state.params)):
        return None
    branches = 2 if any(p.guidance for p in state.params) else 1
    return KeyValueCache(architecture.layers, len(state.params), state.tokens.shape[1], branches, exact=exact)
