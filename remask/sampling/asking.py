"""What a step asks the network: the canvas, and besides it drafts and shadows, which some samplers want to be read."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Denoiser, Family
from remask.model.attention import Attention
from remask.model.logits import Logits, at_once
from remask.sampling.constraints import forbid
from remask.sampling.network_call import noise_level, positions_of, predict, without_mask
from remask.sampling.sampler import Query
from remask.sampling.state import State


@dataclass
class Besides:
    """The logits of drafts and shadows, which the samplers of a step take one after another."""

    drafts: Tensor | None = None
    """(N, V), draft by draft."""
    shadow: Tensor | None = None
    """(N, V), row by row."""

    def give(self, query: Query) -> None:
        """Puts the logits that belong to a query into its `keep`; they are not given again."""
        if self.drafts is not None and query.drafts is not None:
            size = int(query.drafts.ask.sum())
            query.keep["drafts"], self.drafts = self.drafts[:size], self.drafts[size:]
        if self.shadow is not None and query.shadow is not None:
            size = int(query.shadow.sum())
            query.keep["shadow"], self.shadow = self.shadow[:size], self.shadow[size:]


def ask_all(
    denoiser: Denoiser, family: Family, state: State, query: Query, cache: Any
) -> tuple[Logits | None, Besides]:
    """(N, V) logits at the asked positions, row by row, and those of drafts and shadows; None where nothing is asked.

    One call for all rows, and one more for those with a shadow.
    """
    shadowed = None if query.shadow is None else query.shadow.any(1)
    if shadowed is None or not bool(shadowed.any()):
        answer, drafts = predict_with_drafts(denoiser, family, state, query, cache)
        return answer, Besides(drafts)
    others = replace(query, ask=query.ask & ~shadowed[:, None])
    answer, drafts = predict_with_drafts(denoiser, family, state, others, cache)
    own, shadow = read_shadow(denoiser, family, state, query, shadowed.nonzero()[:, 0])
    row = query.ask.nonzero()[:, 0]
    logits = own.new_empty(len(row), own.shape[-1])
    logits[shadowed[row]] = own
    if answer is not None:
        logits[~shadowed[row]] = at_once(answer)
    return logits, Besides(drafts, shadow)


@dataclass(frozen=True)
class Shadowed(Attention):
    """A canvas, and behind it masks that look at all of it but the token at their own place; it sees none of them.

    The masks see each other too, as published.
    """

    valid: Tensor
    """(B, L) bool, False on padding."""
    place: Tensor
    """(B, A) int64, the position on the canvas of each mask; -1 for a hole."""

    def may_see(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        length = self.valid.shape[1]
        behind_query, behind_key = query >= length, key >= length
        own = self.place[row, (query - length).clamp(min=0)]
        on_canvas = self.valid[row, key.clamp(max=length - 1)] & ~(behind_query & (own == key))
        mask = behind_query & (self.place[row, (key - length).clamp(min=0)] >= 0)
        return torch.where(behind_key, mask, on_canvas) | (query == key)

    def rows(self, index: Tensor) -> "Shadowed":
        return Shadowed(self.valid[index], self.place[index])

    def to(self, device: Any) -> "Shadowed":
        return Shadowed(self.valid.to(device), self.place.to(device))


def read_shadow(denoiser: Denoiser, family: Family, state: State, query: Query, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The logits of some rows, R of them, at the asked positions, and those at their shadows, each row by row."""
    assert query.shadow is not None
    if getattr(getattr(denoiser, "architecture", None), "shifted", False):
        raise RemaskError(
            "WINO needs a network that predicts a token at its own position; this one does so at the one before"
        )
    ask, shadow, valid = query.ask[rows], query.shadow[rows], state.valid[rows]
    length, most = torch.stack([valid.sum(1), shadow.sum(1)]).amax(1).tolist()
    place = positions_of(shadow, most)
    tokens = torch.cat([state.tokens[rows, :length], torch.full_like(place, family.mask)], 1)
    along = torch.arange(length, device=place.device).expand(len(rows), -1)
    logits = denoiser(
        tokens,
        ask=torch.cat([ask[:, :length], place >= 0], 1),
        time=noise_level(family, state, query, rows),
        attention=Shadowed(valid[:, :length], place),
        positions=torch.cat([along, place.clamp(min=0)], 1),
    )
    state.calls = state.calls.index_add(0, rows, torch.ones_like(rows))
    behind = torch.cat([ask[:, :length], place >= 0], 1).nonzero()[:, 1] >= length
    logits = without_mask(logits, family)
    own, hindsight = logits[~behind], logits[behind]
    if any(state.constraints[i] for i in rows.tolist()):
        part = state.rows(rows)
        own = forbid(own, ask, part.tokens, part.masked, part.constraints)
    return own, hindsight


def predict_with_drafts(
    denoiser: Denoiser, family: Family, state: State, query: Query, cache: Any
) -> tuple[Logits | None, Tensor | None]:
    """The logits at the asked positions, and those of the drafts; None where nothing is asked, or no draft is read.

    Drafts are rows like the others, and are read in the same call."""
    drafts = query.drafts
    if drafts is None or cache is not None or not len(drafts.rows):
        return predict(denoiser, family, state, query, cache), None
    rows = len(state.params)
    own = torch.arange(rows, device=state.tokens.device)
    wide = state.rows(torch.cat([own, drafts.rows]))
    wide.tokens[rows:], wide.masked[rows:] = drafts.tokens, drafts.masked
    join = {"ask": torch.cat([query.ask, drafts.ask])}
    for name in ("time", "tokens", "rank", "read"):
        if (given := getattr(query, name)) is not None:
            join[name] = torch.cat([given, default_of(name, wide, rows).to(given.dtype)])
    answer = predict(denoiser, family, wide, replace(query, **join, drafts=None), None)
    state.calls = wide.calls[:rows].index_add(0, drafts.rows, wide.calls[rows:] - state.calls[drafts.rows])
    if answer is None:
        return None, None
    size, every = int(query.ask.sum()), at_once(answer)
    return every[:size], every[size:]


def default_of(name: str, state: State, first: int) -> Tensor:
    """What a query means where it leaves a field out, for the rows of a state from `first` on."""
    blanks = {
        "time": lambda: state.masked.sum(1) / state.open.sum(1),
        "read": lambda: state.valid.clone(),
        "tokens": lambda: state.tokens.clone(),
        "rank": lambda: torch.zeros_like(state.tokens),
        "final": lambda: torch.zeros_like(state.masked),
        "shadow": lambda: torch.zeros_like(state.masked),
    }
    return blanks[name]()[first:]
