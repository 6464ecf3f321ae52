"""What a family is: one way of destroying text, and the loss from which a network learns to undo it.

`Family` itself is masked diffusion with the schedule alpha(t) = 1 - t: each token turns into the mask with probability
1 - alpha(t), and the network predicts masked tokens from the others, in any order. A subclass says what differs. So a
masked family with another schedule is one file with one method,

    @dataclass(frozen=True, kw_only=True)
    class Quadratic(Family):
        def alpha(self, t):
            return 1 - t**2

and `--family Quadratic` trains, samples and is scored; the contract tests find it by its class name.

Symbols: t in [0, 1] is noise time, 0 clean; alpha(t) is the probability that a token is still clean. B rows of a batch,
L positions of a row, N asked positions. Losses are in nats.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from remask.batch import Batch, Noise
from remask.errors import RemaskError
from remask.families.denoiser import Denoiser, Noisy, cross_entropy, per_row
from remask.model.attention import FULL
from remask.model.sizes import Architecture
from remask.vocabulary import Vocabulary

Order = Literal["left", "any", "block", "drawn", "all"]
Time = Literal["none", "optional", "required"]


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
    measured: dict[str, float] = field(default_factory=dict)
    """What an objective has measured besides, as means over these rows: columns of metrics.csv."""

    def per_token(self, global_tokens: int | None = None, shares: int = 1) -> Tensor:
        """Scalar, nats per scored token of the global batch; its mean over all `shares` of that batch is the loss.

        For a trainer that averages the gradients of processes and micro-batches, as Lightning does. Without
        `global_tokens` these rows are the whole batch, as with `Batch.global_tokens`.
        """
        tokens = self.tokens if global_tokens is None else global_tokens
        return self.total / (max(tokens, 1) / shares)


@dataclass(frozen=True, kw_only=True)
class Family:
    """A way of destroying text and learning to undo it. It never owns the network.

    Options are dataclass fields. The vocabulary is bound later, with `over`, since the same family serves every
    tokenizer.
    """

    order: ClassVar[Order] = "any"
    """The order in which it writes. left: left to right. any: any hidden positions from any others. block: block by
    block. drawn: an order drawn beforehand (`writing_order`). all: every position is revised at every step."""
    time: ClassVar[Time] = "optional"
    """Whether the network is given the noise level. none: never. optional: where its architecture is conditioned on
    it. required: always, since the noisy text does not show it."""
    sampler: ClassVar[str] = "Ancestral"
    """The sampler that is used where none is asked for."""
    estimators: ClassVar[tuple[str, ...]] = ("enumeration", "count", "chain", "rule", "smdm", "llada")
    """Names of the estimators of -log p that fit it (`remask.likelihood`), the default first."""
    asked: ClassVar[float] = 0.5
    """Mean share of the positions at which training needs a prediction; for counting FLOPs."""
    reads: ClassVar[float] = 1.0
    """Mean number of positions that the network reads in training for each token of a row; for counting FLOPs."""

    _vocabulary: Vocabulary | None = field(default=None, repr=False, compare=False)

    def over(self, vocabulary: Vocabulary) -> Self:
        """This family with the ids of a tokenizer."""
        return replace(self, _vocabulary=vocabulary)

    @property
    def vocabulary(self) -> Vocabulary:
        """The ids of the tokenizer. RemaskError before `over`."""
        if self._vocabulary is None:
            raise RemaskError(f"{type(self).__name__} knows no vocabulary yet: call .over(vocabulary)")
        return self._vocabulary

    @property
    def mask(self) -> int:
        """The mask id. RemaskError where the vocabulary has none."""
        if self.vocabulary.mask is None:
            raise RemaskError(f"the family {type(self).__name__} needs a vocabulary with a mask id")
        return self.vocabulary.mask

    @property
    def bos(self) -> list[int]:
        """The ids that stand before the tokens of a prompt: the start of a text, where the vocabulary has one."""
        return [] if self.vocabulary.start is None else [self.vocabulary.start]

    # what it is, as follows from the constants above

    @property
    def exact(self) -> bool:
        """Whether `bound` is -log p itself."""
        return self.order == "left"

    @property
    def reads_masks(self) -> bool:
        """Whether hidden tokens are read as the mask id, which the vocabulary then needs."""
        return self.order in ("any", "block", "drawn")

    @property
    def has_curriculum(self) -> bool:
        """Whether the loss depends on `Batch.progress`: then runs of different length cannot share a prefix."""
        return False

    def flops(self, architecture: Architecture, length: int) -> float:
        """FLOPs of training per token of rows of `length`: exact for the matrix products of what the network reads."""
        return architecture.flops(length, asked=self.asked, causal=self.order == "left")

    # the noise

    def alpha(self, t: Any) -> Any:
        """The probability that a token is still clean at time t, a number or a tensor.

        It falls from 1 at t = 0 to 0 at t = 1; `Interpolating` and `Uniform` begin or end elsewhere.
        """
        return 1.0 - t

    def masks(self, scored: Tensor, levels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Independent masks at times `levels`, (B,) in [0, 1): (B, L) bool, True where masked, and (B,) weights.

        `uniform` (B, L) in [0, 1) says which of the `scored` (B, L) positions. The weight -alpha'(t)/(1 - alpha(t))
        makes the mean of the weighted sum the bound (Sahoo et al. 2024, eq. 10; Shi et al. 2024, eq. 5).
        """
        with torch.inference_mode(False), torch.enable_grad():
            t = levels.detach().double().clone().requires_grad_()
            alpha = self.alpha(t)
            (slope,) = torch.autograd.grad(alpha.sum(), t)
        rate = 1 - alpha.detach()
        return (uniform < rate[:, None]) & scored, (-slope / rate).float()

    def inputs_for(self, batch: Batch, ask: Tensor, weight: Tensor) -> Noisy:
        """What the network reads when the positions `ask`, (B, L) bool, are hidden and asked for: masks in their place.

        `weight` is that of each row, (B,), or of each position, (B, L).
        """
        return Noisy(
            tokens=batch.tokens.masked_fill(ask, self.mask),
            ask=ask,
            target=batch.tokens[ask],
            weight=batch.weigh(weight)[ask],
            time=ask.sum(1) / batch.scored.sum(1).clamp(min=1),
            attention=batch.visible(FULL),
            positions=batch.positions(),
        )

    def corrupt(self, batch: Batch, rng: Noise, levels: Tensor | None = None) -> Noisy:
        """A batch with noise, and the weights of the loss.

        `levels` (B,) in [0, 1) are the times of the rows; by default drawn, stratified over the global batch.
        """
        levels = batch.levels(rng) if levels is None else levels
        hidden, weight = self.masks(batch.scored, levels, batch.draw((batch.tokens.shape[1],), rng))
        return self.inputs_for(batch, hidden, weight)

    # losses

    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        """What training minimises: the weighted nats of the asked tokens, over all scored tokens, asked or not."""
        return Loss(self.token_loss(denoiser, self.corrupt(batch, rng)).sum(), int(batch.scored.sum()))

    def bound(self, denoiser: Denoiser, batch: Batch, rng: Noise, levels: Tensor | None = None) -> Tensor:
        """(B,) float64 nats: one unbiased draw of an upper bound on -log p of each row; -log p itself where `exact`.

        All noise is drawn by `batch.draw` where `levels` are given. Here with exactly k tokens masked, which has the
        same mean for every schedule and the least variance:

            -log p(x) <= E_{k ~ 1..L} (L/k) sum_{i masked} -log p(x_i | z)
        """
        levels = batch.levels(rng) if levels is None else levels
        hidden, weight = exact_counts(batch.scored, levels, batch.draw((batch.tokens.shape[1],), rng))
        noisy = self.inputs_for(batch, hidden, weight)
        return per_row(self.token_loss(denoiser, noisy), noisy.ask)

    def token_loss(self, denoiser: Denoiser, noisy: Noisy) -> Tensor:
        """(N,) nats at the asked positions: weight times -log p(target)."""
        return noisy.weight * cross_entropy(denoiser, noisy)

    # for families of order "drawn"

    @property
    def known_see_each_other(self) -> bool:
        """Whether, of a drawn order, all that is known sees all of it, so that it is read anew while it grows."""
        return False

    def writing_order(self, hidden: Tensor, uniform: Tensor) -> Tensor:
        """(B, L) float64 that sorts a text as it is written, known positions first.

        `hidden` (B, L) bool is what is to be written; `uniform` (B, L) float64 in [0, 1) draws the order.
        """
        raise RemaskError(f"{type(self).__name__} draws no order beforehand")

    def in_order(self, denoiser: Denoiser, batch: Batch, uniform: Tensor) -> Tensor:
        """(B,) float64 nats, -log p(x | the order that `uniform`, (B, L), gives), one token at a time."""
        raise RemaskError(f"{type(self).__name__} draws no order beforehand, so no order has a likelihood of its own")

    def shift(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens as they are read for the prediction of each position, for families of order "left"."""
        raise RemaskError(f"{type(self).__name__} does not predict the next token from those before it")

    # for families of order "all"

    def prior(self, uniform: Tensor) -> Tensor:
        """Uniforms in [0, 1) -> ids as noise leaves them at time 1."""
        raise RemaskError(f"{type(self).__name__} has no prior over tokens")

    def posterior_weights(self, p_own: Tensor, s: Any, t: Any) -> tuple[Tensor, Tensor, Tensor]:
        """q(z_s | z_t, x) as a mixture, with the prediction in place of x, for s < t.

        `p_own` (N,) is the predicted probability of the token z_t. Returns three probabilities, (N,) each: of keeping
        that token, of drawing from the prior, and of drawing from the prediction.
        """
        raise RemaskError(f"{type(self).__name__} does not revise tokens")

    def gammas(self, gamma: tuple[float, float] | None, most: float, least: float) -> tuple[float, float]:
        """The range of Gaussian noise: `gamma`, or from where `most` of the tokens are clean to where `least` are."""
        raise RemaskError(
            f"{type(self).__name__} models have no path of Gaussian noise for distillation to follow; "
            "uniform-state models have one"
        )

    def inputs_at(self, batch: Batch, z: Tensor, alpha: Tensor) -> Noisy:
        """What the network reads when the scored tokens are `z`, (B, L), at the times of `alpha`, (B,)."""
        raise RemaskError(f"{type(self).__name__} models are not conditioned on a path of Gaussian noise")


def exact_counts(scored: Tensor, levels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Exactly k of the L scored tokens of each row masked: (B, L) bool, and (B,) weights L/k.

    `levels` (B,) in [0, 1) give k, evenly from 1 to L; `uniform` (B, L) in [0, 1) say which tokens.
    """
    length = scored.sum(1).clamp(min=1)
    k = 1 + (levels.double() * length).long().clamp(max=length - 1)
    rank = uniform.masked_fill(~scored, 2.0).argsort(1).argsort(1)
    return (rank < k[:, None]) & scored, length / k
