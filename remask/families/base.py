"""The contracts: what a family of text destruction is, and what passes between it and a denoiser.

Symbols: B batch, L positions of a row, S positions the network reads, N asked positions,
V ids that can be predicted. Time `t` is in [0, 1], 0 clean; `alpha(t)` is the chance that a token
is still clean. Losses are in nats.

A new family is one new file in this folder with a subclass of `Family`: `--family Name`, the
contract tests and the checkpoint reader find it by its class name.
"""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Protocol, Self

import torch
from torch import Tensor

from remask.batch import Batch
from remask.errors import RemaskError, unknown
from remask.model.attention import FULL, Attention
from remask.model.sizes import Architecture
from remask.model.soft import Soft
from remask.vocabulary import Vocabulary


@dataclass(frozen=True)
class Noisy:
    """All that the denoiser reads, and what it is asked."""

    tokens: Tensor
    """(B, S) int64."""
    ask: Tensor
    """(B, S) bool: positions whose prediction is needed."""
    target: Tensor
    """(N,) int64, the clean token wanted at each asked position, row by row."""
    weight: Tensor
    """(N,) float32, weight of that position in the bound."""
    time: Tensor | None = None
    """(B,) or (B, S) noise level, for time-conditioned denoisers."""
    attention: Attention = FULL
    """Who may look at whom."""
    positions: Tensor | None = None
    """(B, S) rotary positions, when they are not 0..S-1."""
    soft: Soft | None = None
    """(B, S) soft tokens that the network reads in place of `tokens`."""

    @property
    def seen(self) -> Tensor | Soft:
        """What the network reads."""
        return self.tokens if self.soft is None else self.soft

    def reading(self) -> dict[str, Any]:
        """The keyword arguments of the denoiser beside `tokens` and `ask`."""
        return {"time": self.time, "attention": self.attention, "positions": self.positions}


Order = Literal["left", "any", "block", "drawn", "all"]


class Denoiser(Protocol):
    """Predicts clean tokens. `remask.model.transformer.Transformer` is one, a table in a test another."""

    def __call__(
        self,
        tokens: Any,
        *,
        index: Tensor | None = None,
        ask: Tensor | None = None,
        target: Tensor | None = None,
        time: Tensor | None = None,
        attention: Attention = FULL,
        positions: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """(B, Q) ids -> logits at the asked positions only, (N, V) float32; (B, Q, V) when `ask` is None.

        With a target, (N,) ids: (N,) float32 nats, -log p(target) at the asked positions. `index` (B, Q) says which
        canvas positions are read, where these are not all of them. For the curriculum of `Uniform` the denoiser must
        read `Soft` tokens too.
        """
        ...


@dataclass(frozen=True)
class Loss:
    """What training minimises, as sums over the rows at hand.

    The loss of a step is the sum of the totals of all processes and micro-batches, divided by the scored tokens of the
    global batch. A mean of means would be another number wherever rows have different numbers of scored tokens.
    """

    total: Tensor
    """Scalar, the sum of nats over the scored tokens of these rows, with gradient."""
    tokens: int
    """Scored tokens of these rows."""

    def per_token(self, global_tokens: int | None = None, shares: int = 1) -> Tensor:
        """Scalar, nats per scored token of the global batch; its mean over all `shares` of that batch is the loss.

        For a trainer that averages the gradients of processes and micro-batches, as Lightning does. Without
        `global_tokens` these rows are the whole batch, as with `Batch.global_tokens`.
        """
        tokens = self.tokens if global_tokens is None else global_tokens
        return self.total / (max(tokens, 1) / shares)


@dataclass(frozen=True, kw_only=True)
class Family(ABC):
    """One way of destroying text and learning to undo it. Never owns the network.

    Options are dataclass fields; the vocabulary is bound later with `over`, since the same family
    serves every tokenizer.
    """

    order: ClassVar[Order] = "any"
    """The order in which it writes. left: left to right. any: any hidden positions from any others. block: block by
    block. drawn: an order drawn beforehand (`writing_order`). all: every position is revised at every step."""

    def over(self, vocabulary: Vocabulary) -> Self:
        """This family bound to the ids of a tokenizer."""
        bound = copy.copy(self)
        object.__setattr__(bound, "_vocabulary", vocabulary)
        return bound

    @property
    def vocabulary(self) -> Vocabulary:
        """The ids this family was bound to."""
        found = getattr(self, "_vocabulary", None)
        if found is None:
            raise RemaskError(f"{type(self).__name__} knows no vocabulary yet: call .over(vocabulary)")
        return found

    @abstractmethod
    def inputs_for(self, batch: Batch, ask: Tensor, weight: Tensor) -> Noisy:
        """What the network reads when exactly the positions `ask`, (B, L) bool, are wanted of it.

        `weight` (B,) is that of each row's positions in the bound.
        """

    @abstractmethod
    def corrupt(self, batch: Batch, rng: torch.Generator, levels: Tensor | None = None) -> Noisy:
        """Destroys a batch. `levels` (B,) in [0, 1) places each row on the noise axis; drawn if None."""

    @abstractmethod
    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        """What training minimises, in nats per scored token."""

    @abstractmethod
    def bound(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator, levels: Tensor | None = None) -> Tensor:
        """(B,) float64 nats: one unbiased draw of the bound on -log p of each row; exact for AR."""

    @property
    def exact(self) -> bool:
        """Whether `bound` is -log p itself."""
        return False

    @property
    def any_order(self) -> bool:
        """Whether it predicts any hidden positions from any others, and so can be sampled in any order."""
        return False

    @property
    def revises(self) -> bool:
        """Whether sampling draws every open token anew at each step, from `prior` through `posterior_weights`."""
        return False

    @property
    def reads_masks(self) -> bool:
        """Whether hidden tokens are read as the mask id."""
        return self.any_order

    @property
    def timed(self) -> bool:
        """Whether the network has to be told the time: the noisy text alone does not show it."""
        return False

    @property
    def tells_time(self) -> bool:
        """Whether it gives the network a time, for one that is conditioned on it."""
        return False

    @property
    def paced(self) -> bool:
        """Whether its loss depends on `Batch.progress`, so that a run's first steps depend on how many will follow."""
        return False

    @property
    def estimators(self) -> tuple[str, ...]:
        """Estimators of -log p that fit it; see `remask.likelihood`."""
        return ("auto",)

    @property
    def causal(self) -> bool:
        """Whether a position sees only those before it; for counting FLOPs."""
        return False

    @property
    def asked(self) -> float:
        """Mean share of the positions at which training asks for a prediction; for counting FLOPs."""
        return 1.0

    @property
    def reads(self) -> float:
        """Mean number of positions the network reads per token in training; for counting FLOPs."""
        return 1.0

    def flops(self, architecture: Architecture, length: int) -> float:
        """FLOPs of training per token of rows of `length`: exact for the matrix products of what the network reads."""
        return architecture.flops(length, asked=self.asked, causal=self.causal)

    @property
    def bos(self) -> list[int]:
        """What stands before the tokens of a prompt on the canvas: the vocabulary's start, where it has one."""
        return [] if self.vocabulary.start is None else [self.vocabulary.start]

    @property
    def sampler(self) -> str:
        """Name of the sampler that fits this family when none is asked for."""
        return "Ancestral"

    @property
    def known_see_each_other(self) -> bool:
        """Whether, of a drawn order, all that is known sees all of it, so that it is read anew while it grows."""
        return False

    def writing_order(self, hidden: Tensor, uniform: Tensor) -> Tensor:
        """(B, L) float64 that sorts a text as it is written, known positions first, for families of order "drawn".

        `hidden` (B, L) bool is what is to be written; `uniform` (B, L) float64 in [0, 1) draws the order.
        """
        raise RemaskError(f"{type(self).__name__} draws no order beforehand")

    def alpha(self, t: float) -> float:
        """The chance that a token is still clean at time t; falls to 0 at t = 1, from 1 but for `Interpolating`."""
        raise RemaskError(f"{type(self).__name__} has no noise process, so this sampler does not fit it")

    def prior(self, uniform: Tensor) -> Tensor:
        """Uniforms in [0, 1) -> ids as noise leaves them at time 1."""
        raise RemaskError(f"{type(self).__name__} has no prior over tokens")

    def posterior_weights(self, p_own: Tensor, s: float, t: float) -> tuple[Tensor, Tensor, Tensor]:
        """q(z_s | z_t, x) as a mixture, the prediction in place of x; s < t.

        `p_own` (N,) is the prediction's probability of the token at hand. Returns the probabilities, each (N,), of
        keeping that token, of drawing from the prior, and of drawing from the prediction.
        """
        raise RemaskError(f"{type(self).__name__} does not revise tokens")

    def token_loss(self, denoiser: Denoiser, noisy: Noisy) -> Tensor:
        """(N,) nats at the asked positions: weight * -log p(target)."""
        return noisy.weight * cross_entropy(denoiser, noisy)


def cross_entropy(denoiser: Denoiser, noisy: Noisy) -> Tensor:
    """(N,) float32 nats, -log p(target) at the asked positions."""
    return denoiser(noisy.seen, ask=noisy.ask, target=noisy.target, **noisy.reading())


def per_row(values: Tensor, ask: Tensor) -> Tensor:
    """(B,) float64 sums of (N,) values over the asked positions of each of the (B, S) rows."""
    rows = ask.nonzero()[:, 0]
    return torch.zeros(ask.shape[0], dtype=torch.float64, device=ask.device).index_add_(0, rows, values.double())


def families() -> dict[str, type[Family]]:
    """Every family of this package by class name."""
    found: dict[str, type[Family]] = {}
    todo = list(Family.__subclasses__())
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if kind.__module__.startswith("remask.families."):
            found[kind.__name__] = kind
    return found


def describe(family: Family) -> dict[str, Any]:
    """A family as plain data: its name and options. `build` reads it back."""
    return {"name": type(family).__name__, **{f.name: getattr(family, f.name) for f in fields(family)}}


RENAMED = {"Uniform": {"least": "t_min", "top_k": "soft_top_k"}}
"""Options of families by the names that older checkpoints have, and the names of today."""


def build(description: dict[str, Any]) -> Family:
    """The family that `describe` described. Only names of this package are looked up; no code is loaded."""
    if not isinstance(description, dict):
        raise RemaskError(f"a family is described by its name and options, not by {description!r}")
    known, options = families(), dict(description)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in known:
        raise unknown("family", name, known)
    for old, new in RENAMED.get(name, {}).items():
        if old in options:
            options[new] = options.pop(old)
    try:
        return known[name](**options)
    except TypeError as error:
        raise RemaskError(f"family {name}: {error}") from None
