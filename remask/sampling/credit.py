"""Trusts a prediction that has been repeated: what was predicted in earlier steps counts for a token."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Family
from remask.model.logits import Logits, at_once
from remask.sampling.adaptive import Threshold, check_probability
from remask.sampling.sampler import Query
from remask.sampling.state import State, moved

TOKENS = "credit_tokens"
"""(B, L, 8) int64 in `State.extras`, tokens that have been the most probable ones of a position."""
AMOUNTS = "credit_amounts"
"""(B, L, 8) float64, their credit, 0 where there is no token."""
KEPT = 8
"""Tokens of a position whose credit is remembered; of more, that with the least is forgotten. As published a position
has a credit for each id of the vocabulary."""


@dataclass(frozen=True, kw_only=True)
class Credit(Threshold):
    """As `Threshold`, after adding weight x ln(1 + credit) to the logits (*dInfer*'s credit decoding).

    In each step the credit of all tokens of a masked position is multiplied by `decay`, and its most probable token
    gains its probability to the power `power`.
    """

    weight: float = 0.7
    """What credit counts, in logits."""
    decay: float = 0.8
    """The share of its credit that a token keeps from one step to the next."""
    power: float = 0.2
    """The smaller, the less it matters how probable the most probable token was."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("decay", self.decay)
        for name in ("weight", "power"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RemaskError(f"{name} is {getattr(self, name)}; it must be 0 or more, and finite")

    def begin(self, state: State, family: Family) -> None:
        super().begin(state, family)
        shape = (*state.tokens.shape, KEPT)
        state.extras[TOKENS] = torch.zeros(shape, dtype=torch.int64, device=state.tokens.device)
        state.extras[AMOUNTS] = torch.zeros(shape, dtype=torch.float64, device=state.tokens.device)

    def move(self, state: State, source: Tensor) -> None:
        for name in (TOKENS, AMOUNTS):
            state.extras[name] = moved(state.extras[name], source)

    def adjust(self, state: State, query: Query, logits: Logits) -> Logits:
        logits = at_once(logits)
        where = query.ask.nonzero(as_tuple=True)
        tokens, amounts = state.extras[TOKENS][where], state.extras[AMOUNTS][where] * self.decay  # (N, 8)
        highest, best = logits.double().max(-1)
        same = (tokens == best[:, None]) & (amounts > 0)
        slot = torch.where(same.any(-1), same.byte().argmax(-1), amounts.argmin(-1))[:, None]
        gained = (highest - logits.double().logsumexp(-1)).exp().pow(self.power)[:, None]
        amounts = amounts.scatter(
            -1, slot, torch.where(same.any(-1, keepdim=True), amounts.gather(-1, slot), 0) + gained
        )
        tokens = tokens.scatter(-1, slot, best[:, None])
        state.extras[TOKENS] = state.extras[TOKENS].index_put(where, tokens)
        state.extras[AMOUNTS] = state.extras[AMOUNTS].index_put(where, amounts)
        return logits.scatter_add(-1, tokens, (self.weight * amounts.log1p()).to(logits.dtype))
