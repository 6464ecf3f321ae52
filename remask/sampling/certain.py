"""What the samplers share that write where the network is most certain, and what can change their order.

Three modifiers go with each of them. `prior` and `debias` order the positions where a rule takes the most certain ones,
and leave alone what passes a threshold; `finish` ends a text early.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from remask.errors import RemaskError
from remask.families.base import Family
from remask.model.logits import Logits
from remask.sampling.caching import is_partial
from remask.sampling.predictions import Measure, Predictions
from remask.sampling.sampler import Query, Sampler, largest, spread
from remask.sampling.state import State

WIDEST = 1000
"""Positions; the largest standard deviation of the Gaussian weights of a certainty prior."""
LEAST = math.log(1e-10)
"""Log of the frequency of an id that a corpus does not have."""


@dataclass(frozen=True, kw_only=True)
class Certain(Sampler):
    """The base of these samplers: `choose` says which positions a step writes, from the predictions alone."""

    prior: float = 0.0
    """Prefer positions near what is written: certainty is multiplied by the share of written positions around, with
    Gaussian weights of this standard deviation in positions (the certainty prior of *d2Cache*, which has 10); 0: no."""
    debias: str = ""
    """A folder made by `remask prepare`: certainty is multiplied by -log of the frequency that the most probable token
    has there, at most to 10, so that frequent tokens do not come first for their frequency only (*PC-sampler*)."""
    finish: float = 0.0
    """Write all that is masked as soon as the mean difference of the two highest logits there is at least this much
    times the share that is still masked (*SchED*'s early exit; try 5 to 10); 0: no."""

    def __post_init__(self) -> None:
        if not 0 <= self.prior <= WIDEST:
            raise RemaskError(f"prior is {self.prior}; it must be from 0 to {WIDEST} positions")
        if not 0 <= self.finish < math.inf:
            raise RemaskError(f"finish is {self.finish}; it must be 0 or more, and finite")

    @property
    def deterministic(self) -> bool:
        return True

    @property
    def takes_expansion(self) -> bool:
        return True

    def begin(self, state: State, family: Family) -> None:
        if self.debias and len(log_frequencies(self.debias)) > family.vocabulary.size:
            raise RemaskError(f"the corpus of debias, {self.debias}, has more ids than the model")
        for p in state.params if self.finish else ():
            if is_partial(p) or (p.cache is not None and p.cache.asks_part):
                raise RemaskError("finish looks at all that is masked; leave window, grow and the cache Selective out")

    def adjust(self, state: State, query: Query, logits: Logits) -> Logits:
        """(N, V) the logits by which positions are chosen and tokens drawn; by default those of the network."""
        return logits

    @abstractmethod
    def choose(self, seen: Predictions) -> Tensor:
        """(B, L) bool, the positions to write, given the predictions."""

    def query(self, state: State, family: Family) -> Query:
        return Query(state.masked if self.finish else state.active, in_parts=self.in_parts)

    @property
    def in_parts(self) -> bool:
        """Whether a step judges by measures of the predictions alone, which take no logits held at once."""
        return not self.finish and type(self).adjust is Certain.adjust

    def commit(self, state: State, family: Family, query: Query, logits: Logits) -> Tensor:
        logits = self.adjust(state, query, logits)
        active = query.ask & state.active
        of_block = logits[active[query.ask]] if self.finish else logits
        chosen = self.choose(Predictions(of_block, replace(query, ask=active), state)) & active
        if self.finish:
            chosen = chosen | (query.ask & self.is_settled(Predictions(logits, query, state))[:, None])
        state.write(chosen, *state.draw(chosen, logits[chosen[query.ask]]))
        return chosen

    def order(self, seen: Predictions, measure: Measure = "probability") -> Tensor:
        """(B, L) certainty with the modifiers; higher comes first."""
        scores = seen.certainty(measure)
        if self.prior or self.debias:
            scores = scores.double().exp() if measure == "entropy" else scores.double()
        if self.debias:
            known = log_frequencies(self.debias)
            more = max(0, int(seen.best.max()) + 1 - len(known))  # ids with which a model fills up its vocabulary
            surprise = -pad(known, (0, more), value=LEAST).to(scores.device)
            scores = (scores * surprise[seen.best]).clamp(max=10)
        if self.prior:
            scores = scores * density(~seen.state.masked, seen.state.valid, self.prior)
        return scores

    def first(self, seen: Predictions) -> Tensor:
        """(B, L) bool: in each row the asked position that comes first in the order."""
        return largest(self.order(seen), seen.asked, seen.asked.any(1).long())

    def at_least_one(self, passing: Tensor, seen: Predictions) -> Tensor:
        """(B, L) bool: the positions that pass, and in rows without any the one that comes first in the order."""
        return passing | (self.first(seen) & ~passing.any(1, keepdim=True))

    def is_settled(self, seen: Predictions) -> Tensor:
        """(B,) bool, rows whose predictions are clear enough to write all that is left."""
        if seen.logits.shape[-1] < 2:
            return seen.asked.any(1)
        two = seen.logits.topk(2, -1).values.double()
        margin = two[:, 0] - two[:, 1]
        count = spread((margin < math.inf).double(), seen.asked).sum(1)  # no other token may stand where it is infinite
        mean = spread(margin.masked_fill(margin == math.inf, 0), seen.asked).sum(1) / count.clamp(min=1)
        share = seen.state.masked.sum(1) / seen.state.open.sum(1).clamp(min=1)
        return seen.asked.any(1) & ((mean >= self.finish * share) | (count == 0))


def density(written: Tensor, valid: Tensor, deviation: float) -> Tensor:
    """(B, L) float64 in [0, 1], the share of written positions around each one, with Gaussian weights.

    `written` and `valid` are (B, L) bool. What would stand before the row counts as written, and what would stand
    behind it as its last position does.
    """
    last = (valid.sum(1) - 1).clamp(min=0)[:, None]
    behind = written.gather(1, last)
    known = torch.where(valid, written, behind)
    reach = math.ceil(4 * deviation)
    weight = torch.arange(-reach, reach + 1, device=known.device, dtype=torch.float64)
    weight = ((-0.5 * (weight / deviation).square()).exp() * 2**40).round().long()
    around = torch.cat([known.new_ones(len(known), reach), known, behind.expand(-1, reach)], 1)
    share = (around.unfold(1, 2 * reach + 1, 1) * weight).sum(-1)  # whole numbers, so that no order of a sum matters
    return share.double() / weight.sum()


@lru_cache(8)
def log_frequencies(folder: str) -> Tensor:
    """(V,) float64, log of (the share of each id in a corpus + 1e-10), as published."""
    import numpy as np

    from remask.data.tokens import open_tokens

    corpus = open_tokens(Path(folder))
    counts = np.bincount(np.asarray(corpus.train.ids), minlength=corpus.tokenizer.size)
    return (torch.from_numpy(counts / counts.sum()) + math.exp(LEAST)).log()
