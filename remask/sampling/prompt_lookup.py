"""Left to right with drafts from the text itself: several tokens for one network call where a text repeats what it has.

The draft of a step is what followed the latest earlier occurrence of the last tokens. One call reads it and predicts
the token at each of its positions and the one behind it. Each token is drawn with the noise that `LeftToRight` has
there, and is written as long as the draft before it is what was drawn. So the text, its log-probability and its draws
are those of `LeftToRight`, but for rounding, at every temperature.

Source: Saxena 2023, *Prompt Lookup Decoding*. That the law stays that of the model is the case of speculative decoding
(Leviathan et al. 2023) in which the draft is certain.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Family
from remask.sampling.constraints import forbid
from remask.sampling.sampler import Query, Sampler
from remask.sampling.state import State

LONGEST = 1024
"""The largest number of drafted tokens and of compared tokens that is accepted."""


@dataclass(frozen=True, kw_only=True)
class PromptLookup(Sampler):
    """As `LeftToRight`, with the same text, in fewer network calls where the text repeats itself or its prompt."""

    orders: ClassVar[frozenset[str]] = frozenset({"left"})
    takes_steps: ClassVar[bool] = False
    takes_blocks: ClassVar[bool] = False
    cached: ClassVar[bool] = True

    ngram: int = 3
    """Most tokens at the end of the text that are looked up; fewer where so many occur nowhere before."""
    longest: int = 10
    """Tokens of a draft."""

    def __post_init__(self) -> None:
        for name in ("ngram", "longest"):
            if not 1 <= getattr(self, name) <= LONGEST:
                raise RemaskError(f"{name} is {getattr(self, name)}; it must be at least 1, and at most {LONGEST}")

    @property
    def deterministic(self) -> bool:
        return True

    def query(self, state: State, family: Family) -> Query:
        along = torch.arange(state.tokens.shape[1], device=state.tokens.device)
        active = state.active
        place = active.int().argmax(1, keepdim=True)  # the leftmost open position
        source, known = occurrence(state.tokens, place, self.ngram)
        # behind the text the draft repeats itself, as if the repetition went on
        period = (place - source).clamp(min=1)
        copied = state.tokens.gather(1, source + (along - place) % period)
        draft = torch.where(state.masked & (along >= place), copied, state.tokens)
        ask = active & (along <= place + self.longest * known)
        last = (ask * along).amax(1, keepdim=True)
        read = state.valid & ~state.cached & (along <= last)
        keep = {"draft": draft, "first": active & (along == place)}
        return Query(ask, read=read, tokens=family.shift(draft), causal=True, final=read & (along <= place), keep=keep)

    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
        asked, draft = query.ask, query.keep["draft"]
        row, column = asked.nonzero(as_tuple=True)
        number = asked.cumsum(1) - 1  # how many tokens are written before each, had the draft been right
        if any(state.constraints):
            logits = forbid_behind_drafts(state, asked, number, draft, logits)
        drawn, log_prob = state.draw_at(row, column, logits, (state.draws[:, None] + number)[asked])
        tokens = state.tokens.masked_scatter(asked, drawn)
        ends = replace(state, tokens=tokens, masked=state.masked & ~asked).ends()
        last = asked & ((tokens != draft) | ends)  # what stands behind is not written
        chosen = asked & (last.cumsum(1) - last.long() == 0)
        written = chosen[asked]
        state.write(chosen, drawn[written], log_prob[written])
        state.draws = state.draws + chosen.sum(1)
        assert query.read is not None
        along = torch.arange(asked.shape[1], device=asked.device)
        right = query.read & (along <= (chosen * along).amax(1, keepdim=True))  # each was read behind written text
        has_cache = (state.cached & query.keep["first"]).any(1, keepdim=True)
        state.cached = state.cached | (right & has_cache)
        return chosen


def occurrence(tokens: Tensor, place: Tensor, ngram: int) -> tuple[Tensor, Tensor]:
    """Where the last tokens before a place, (B, 1), stand in the text before it: of (B, L) tokens.

    Of up to `ngram` tokens the most that occur earlier count, and of their occurrences the latest. Returns the position
    behind that, (B, 1), which is `place` where there is none, and whether there is one, (B, 1) bool.
    """
    along = torch.arange(tokens.shape[1], device=tokens.device)
    same, size = torch.ones_like(tokens, dtype=torch.bool), torch.zeros_like(tokens)
    for back in range(min(ngram, tokens.shape[1])):
        wanted = tokens.gather(1, (place - 1 - back).clamp(min=0))
        same = same & (tokens.roll(back, 1) == wanted) & (along >= back) & (along < place - 1)
        size = size + same
    score = size * len(along) + along * (size > 0)
    most, end = score.max(1, keepdim=True)
    return torch.where(most > 0, end + 1, place), most > 0


def forbid_behind_drafts(state: State, asked: Tensor, number: Tensor, draft: Tensor, logits: Tensor) -> Tensor:
    """(N, V) logits of the asked positions, (B, L) bool -> the same with -inf at tokens that a constraint of the row
    does not allow behind the `draft`, (B, L); `number` (B, L) counts the asked positions of each row from 0.
    """
    logits = logits.clone()
    for n in range(1, int(number.max()) + 1):
        now, before = asked & (number == n), asked & (number < n)
        tokens, masked = torch.where(before, draft, state.tokens), state.masked & ~before
        logits[now[asked]] = forbid(logits[now[asked]], now, tokens, masked, state.constraints)
    return logits
