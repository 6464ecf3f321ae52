"""Several steps for the time of one, without changing a token: guesses of the next steps are checked all at once.

Source: Wu and Zhang 2025, *Free Draft-and-Verification: toward lossless parallel decoding for diffusion large language
models*.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Family
from remask.sampling.caching import is_partial
from remask.sampling.confidence import Confidence
from remask.sampling.predictions import Predictions
from remask.sampling.sampler import Drafts, Query, largest
from remask.sampling.state import State

GUESS, SURE = "freedave_guess", "freedave_sure"
"""(B, L) in `State.extras`: the most probable token at each masked position, and how certain it is."""
KNOWN = "freedave_known"
"""(B,) int64 in `State.extras`: 1 + the block whose guesses are those of the text as it stands; else 0."""


@dataclass(frozen=True, kw_only=True)
class FreeDave(Confidence):
    """As `Confidence` at temperature 0, with the same text, in fewer network calls.

    From the predictions at hand it guesses how the text stands after 1, 2, ... steps. One call reads all these drafts.
    A draft is right if the step that the network would make from the draft before it leads there; the text goes on
    from the last one of those. A call with K drafts costs K times the arithmetic, so this is faster where the
    processor is not busy with one row, as a GPU is, and slower on a CPU.
    """

    greedy: ClassVar[bool] = True
    takes_expressions: ClassVar[bool] = False
    drafts: int = 4
    """Steps that are guessed ahead; 1: none but the next one, which is always right."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.drafts < 1:
            raise RemaskError(f"drafts is {self.drafts}; it must be 1 or more")
        if self.rule in ("random", "left") or self.finish:
            raise RemaskError("FreeDave goes with the rules probability, margin and entropy, and without finish")

    @property
    def chooses_first(self) -> bool:
        return False

    @property
    def takes_expansion(self) -> bool:
        return False

    def begin(self, state: State, family: Family) -> None:
        super().begin(state, family)
        if any(p.temperature != 0 for p in state.params):
            raise RemaskError("FreeDave guesses the most probable tokens, so the temperature must be 0")
        if any(p.cache is not None or is_partial(p) for p in state.params):
            raise RemaskError("FreeDave compares readings of whole rows; leave cache, window and grow out")
        if state.forced is not None:
            raise RemaskError("FreeDave has no likelihood of its own: it writes what Confidence writes")
        state.extras[GUESS] = torch.zeros_like(state.tokens)
        state.extras[SURE] = torch.zeros(state.tokens.shape, dtype=torch.float64, device=state.tokens.device)
        state.extras[KNOWN] = torch.zeros_like(state.block)

    def query(self, state: State, family: Family) -> Query:
        known = state.extras[KNOWN] == state.block + 1
        rows = (known & ~state.finished).nonzero()[:, 0]
        part = state.rows(rows)
        left, count, chosen = part.active.sum(1), torch.zeros_like(part.step), []
        for ahead in range(self.drafts):
            step = self.count(part.step + ahead, part.steps, part.block_size, left) if len(rows) else count
            left, count = left - step, count + step
            chosen.append(largest(part.extras[SURE], part.active, count))
        written = torch.cat(chosen)
        of = torch.arange(len(rows), device=rows.device).repeat(self.drafts)
        tokens = torch.where(written, part.extras[GUESS][of], part.tokens[of])
        drafts = Drafts(rows[of], tokens, part.masked[of] & ~written, part.active[of] & ~written)
        return Query(state.active & ~known[:, None], drafts=drafts, keep={"rows": rows, "written": written})

    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
        asking = query.ask.any(1)
        self.note(state, Predictions(logits, query, state))
        state.extras[KNOWN] = torch.where(asking, state.block + 1, state.extras[KNOWN])
        state.step = state.step - asking.long()  # the next step writes by what this one has seen
        rows = query.keep["rows"]
        chosen = torch.zeros_like(state.masked)
        if not len(rows):
            return chosen
        written = query.keep["written"].view(self.drafts, len(rows), -1)
        number, checked = self.check(state.rows(rows), query, written)
        chosen[rows] = written[number, torch.arange(len(rows), device=rows.device)]
        guess, sure = state.extras[GUESS][chosen], state.extras[SURE][chosen]
        state.write(chosen, guess, sure * 0)
        state.step = state.step.index_add(0, rows, number)
        known = torch.zeros_like(rows)
        if checked is not None:
            known = state.block[rows] + 1
            for name in (GUESS, SURE):
                state.extras[name][rows] = checked.extras[name]
        state.extras[KNOWN] = state.extras[KNOWN].index_put((rows,), known)
        return chosen

    def check(self, part: State, query: Query, written: Tensor) -> tuple[Tensor, State | None]:
        """Which draft each of R rows goes on from, (R,) from 0, and the rows with the predictions there.

        `written` (K, R, L) bool are the positions that each draft fills. Without the drafts' predictions, as in a batch
        with a cache, it is the first one, and there are no rows.
        """
        number = torch.zeros_like(part.step)
        logits, drafts = query.keep.get("drafts"), query.drafts
        if logits is None or drafts is None:
            return number, None
        asked = drafts.ask.view(self.drafts, len(part.params), -1)
        tokens = drafts.tokens.view(asked.shape)
        best, right, place = replace(part, extras=dict(part.extras)), torch.ones_like(part.finished), 0
        for k in range(self.drafts):
            size = int(asked[k].sum())
            there = replace(part, tokens=tokens[k], masked=part.masked & ~written[k], extras=dict(part.extras))
            count = self.count(part.step + k + 1, part.steps, part.block_size, asked[k].sum(1))
            seen = Predictions(logits[place : place + size], Query(asked[k], keep={"count": count}), there)
            place += size
            self.note(there, seen)
            for name in (GUESS, SURE):
                best.extras[name] = torch.where(right[:, None], there.extras[name], best.extras[name])
            number = torch.where(right, k, number)
            if k + 1 < self.drafts:
                after = torch.where(self.choose(seen) & asked[k], seen.best, tokens[k])
                right = right & (after == tokens[k + 1]).all(1) & ~there.ends().any(1)
        return number, best

    def note(self, state: State, seen: Predictions) -> None:
        """Remembers the most probable tokens at the asked positions, and how certain they are."""
        sure = self.order(seen, self.measure).double()
        state.extras[GUESS] = torch.where(seen.asked, seen.best, state.extras[GUESS])
        state.extras[SURE] = torch.where(seen.asked, sure, state.extras[SURE])
