"""What the samplers share that write where the network is most certain, and what can change their order.

Three modifiers go with each of them. Written alone, a threshold decides without them; they order the positions where a
rule takes the most certain ones.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Family
from remask.sampling.caching import visible
from remask.sampling.predictions import Measure, Predictions
from remask.sampling.sampler import Query, Sampler, largest
from remask.sampling.state import State


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
        for name in ("prior", "finish"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RemaskError(f"{name} is {getattr(self, name)}; it must be 0 or more, and finite")

    @property
    def deterministic(self) -> bool:
        return True

    def begin(self, state: State, family: Family) -> None:
        if self.debias and len(log_frequencies(self.debias)) != family.vocabulary.size:
            raise RemaskError(f"the corpus of debias, {self.debias}, has another vocabulary than the model")

    def adjust(self, state: State, query: Query, logits: Tensor) -> Tensor:
        """(N, V) the logits by which positions are chosen and tokens drawn; by default those of the network."""
        return logits

    @abstractmethod
    def choose(self, seen: Predictions) -> Tensor:
        """(B, L) bool, the positions to write, given the predictions."""

    def query(self, state: State, family: Family) -> Query:
        return Query(self.asked(state))

    def asked(self, state: State) -> Tensor:
        """(B, L) bool, the positions that a step asks about."""
        return state.masked & visible(state) if self.finish else state.active

    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
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
            surprise = -log_frequencies(self.debias).to(scores.device)
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
        two = seen.logits.topk(2, -1).values.double()
        margin = torch.zeros(seen.asked.shape, dtype=torch.float64, device=two.device)
        margin = margin.masked_scatter(seen.asked, two[:, 0] - two[:, 1])
        left = seen.asked.sum(1)
        share = left / seen.state.open.sum(1).clamp(min=1)
        return (left > 0) & (margin.sum(1) >= self.finish * share * left)


def density(written: Tensor, valid: Tensor, deviation: float) -> Tensor:
    """(B, L) float64 in [0, 1], the share of written positions around each one, with Gaussian weights.

    `written` and `valid` are (B, L) bool. What would stand before the row counts as written, and what would stand
    behind it as its last position does.
    """
    last = (valid.sum(1) - 1).clamp(min=0)[:, None]
    behind = written.gather(1, last)
    known = torch.where(valid, written, behind).double()
    reach = math.ceil(4 * deviation)
    weight = torch.arange(-reach, reach + 1, device=known.device, dtype=torch.float64)
    weight = (-0.5 * (weight / deviation).square()).exp()
    sides = known.new_ones(len(known), reach), behind.double().expand(-1, reach)
    around = torch.cat([sides[0], known, sides[1]], 1).unfold(1, 2 * reach + 1, 1)
    return around @ (weight / weight.sum())


@lru_cache(8)
def log_frequencies(folder: str) -> Tensor:
    """(V,) float64, log of (the share of each id in a corpus + 1e-10)."""
    import numpy as np

    from remask.data.tokens import open_tokens

    corpus = open_tokens(Path(folder))
    counts = np.bincount(np.asarray(corpus.train.ids), minlength=corpus.tokenizer.size)
    return (torch.from_numpy(counts / counts.sum()) + 1e-10).log()
