"""Writes what is certain and has stopped changing: predictions are compared with those of the steps before."""

from dataclasses import dataclass

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Family
from remask.sampling.adaptive import check_probability
from remask.sampling.confidence import Confidence
from remask.sampling.predictions import Predictions
from remask.sampling.sampler import largest
from remask.sampling.state import State

BEFORE = "klass_before"
"""(B, A, V) float32 in `State.extras`, the last log-probabilities at the A positions of a block."""
SEEN = "klass_seen"
"""(B, A) int64, 0 where there are none, else 1 + how many times in succession they have hardly changed."""


@dataclass(frozen=True, kw_only=True)
class KLASS(Confidence):
    """All positions of at least `threshold` whose prediction has moved by less than `drift` in each of `history` steps.

    Where none is, the step writes as many of the most certain ones as `Confidence` does. Source: Kim et al. 2025,
    *KLASS: KL-guided fast inference in masked diffusion models*. It remembers the predictions of a whole block, so it
    needs memory for (block x vocabulary) numbers a row: give it blocks.
    """

    threshold: float = 0.9
    """The least probability of the most probable token."""
    drift: float = 0.01
    """The largest Kullback-Leibler divergence, in nats, of a prediction from that of the step before."""
    history: int = 2
    """Steps in which it must not have moved."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("threshold", self.threshold)
        if self.rule in ("random", "left"):
            raise RemaskError(f"KLASS looks at the predictions, so its rule cannot be {self.rule}")
        if not self.drift > 0:
            raise RemaskError(f"drift is {self.drift}; it must be above 0 nats")
        if self.history < 1:
            raise RemaskError(f"history is {self.history}; it must be 1 step or more")

    @property
    def in_parts(self) -> bool:  # predictions of two steps are compared
        return False

    def begin(self, state: State, family: Family) -> None:
        super().begin(state, family)
        shape = len(state.params), max(p.block or 1 for p in state.params)
        state.extras[BEFORE] = torch.zeros(*shape, family.vocabulary.predicted, device=state.tokens.device)
        state.extras[SEEN] = torch.zeros(shape, dtype=torch.int64, device=state.tokens.device)

    def move(self, state: State, source: Tensor) -> None:  # predictions of a shorter text are no measure of the new one
        same = (source == torch.arange(source.shape[1], device=source.device)).all(1, keepdim=True)
        state.extras[SEEN] = state.extras[SEEN] * same

    def choose(self, seen: Predictions) -> Tensor:
        stable = (self.compare(seen) >= self.history) & (seen.probability >= self.threshold) & seen.asked
        scheduled = largest(self.order(seen, self.measure), seen.asked, seen.query.keep["count"])
        return torch.where(stable.any(1, keepdim=True), stable, scheduled)

    def compare(self, seen: Predictions) -> Tensor:
        """(B, L) int64, for how many steps each prediction has hardly changed; remembers those of this step."""
        state = seen.state
        row, column = seen.asked.nonzero(as_tuple=True)
        place = place_in_block(state)[row, column]
        times = state.extras[SEEN].masked_fill((state.step == 0)[:, None], 0)  # a block forgets the one before it
        now, before = seen.logits.double().log_softmax(-1), state.extras[BEFORE][row, place].double()
        divergence = (now.exp() * (now - before).nan_to_num(0.0)).sum(-1)  # 0 where both are 0
        still = (times[row, place] > 0) & (divergence < self.drift)
        count = torch.where(still, times[row, place], 0)
        state.extras[BEFORE][row, place] = now.float()
        state.extras[SEEN] = times.index_put((row, place), count + 1)
        return torch.zeros_like(state.blocks).index_put((row, column), count)


def place_in_block(state: State) -> Tensor:
    """(B, L) int64, how many open positions of the same block stand before each open position."""
    number = state.open.long().cumsum(1) - 1
    size = torch.tensor([p.block or 1 for p in state.params], device=number.device)
    return (number % size[:, None]).clamp(min=0)
