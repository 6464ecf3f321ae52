"""What the predictions of a step say about where the network is certain."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from remask.model.logits import Logits, at_once, map_rows
from remask.sampling.sampler import Query, spread
from remask.sampling.state import State

Measure = Literal["probability", "margin", "entropy"]
"""Certainty as the highest probability, its margin over the second, or the entropy, the lowest first."""


@dataclass
class Predictions:
    """The predictions at the N asked positions, each measure of which is computed once."""

    given: Logits
    """(N, V) float32, at once or in parts; each measure then computes all parts."""
    query: Query
    state: State

    @cached_property
    def logits(self) -> Tensor:
        """(N, V) float32, all at once."""
        return at_once(self.given)

    @property
    def asked(self) -> Tensor:
        """(B, L) bool."""
        return self.query.ask

    @cached_property
    def probability(self) -> Tensor:
        """(B, L) float32, the probability of the most probable token; 0 elsewhere, as the measures below."""
        return self._measured("probability")

    @cached_property
    def margin(self) -> Tensor:
        """(B, L) float32, the probability of the most probable token less that of the second."""
        return self._measured("margin")

    @cached_property
    def negative_entropy(self) -> Tensor:
        """(B, L) float32 nats."""
        return self._measured("entropy")

    @cached_property
    def best(self) -> Tensor:
        """(B, L) int64, the most probable token."""
        return spread(map_rows(self.given, lambda x: x.argmax(-1)), self.asked)

    def _measured(self, measure: Measure) -> Tensor:
        return spread(map_rows(self.given, lambda x: certainty(x, measure)), self.asked)

    def certainty(self, measure: Measure) -> Tensor:
        """(B, L) float32, higher where the network is more certain."""
        return self.negative_entropy if measure == "entropy" else getattr(self, measure)


def certainty(logits: Tensor, measure: Measure) -> Tensor:
    """(N, V) logits -> (N,) float32, higher where the prediction is more certain."""
    if measure == "probability":
        return (logits.amax(-1) - logits.logsumexp(-1)).exp()
    p = logits.softmax(-1)
    if measure == "margin" and logits.shape[-1] < 2:
        return p[:, 0]
    if measure == "margin":
        first, second = p.topk(2, -1).values.unbind(-1)
        return first - second
    return torch.special.xlogy(p, p).sum(-1)
