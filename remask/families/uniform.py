"""Uniform-state diffusion (Duo): any token turns into any other, and the network predicts what they were.

With alpha(t) = 1 - (1 - eps) t a token is still clean with probability alpha, else drawn evenly from the K ids. The
bound is the Rao-Blackwellised one of Sahoo et al. 2025 (*The Diffusion Duality*), in a closed form in which the
prediction is the only vector over the ids: see `nelbo`. The network is conditioned on the noise level.

`posterior_weights` takes the prediction of x_i from all of z. With the exact distribution of x_i given the *other*
positions (leave-one-out) the reverse process is exact; with that given all of z it is not. For masked noise the two
are the same, since a masked position says nothing about its own token.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from remask.batch import Batch, Noise
from remask.errors import RemaskError
from remask.families.base import Family, Loss, Order, Time
from remask.families.denoiser import Denoiser, Noisy, per_row
from remask.families.latent import Latent, check_gamma_range, gamma_of, operator_of, soft_and_label
from remask.families.nelbo import Nelbo
from remask.model.attention import FULL
from remask.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Uniform(Family):
    """Uniform-state diffusion on a bidirectional network."""

    order: ClassVar[Order] = "all"
    time: ClassVar[Time] = "required"
    estimators: ClassVar[tuple[str, ...]] = ("draws",)
    asked: ClassVar[float] = 1.0

    eps: float = 1e-3
    """Share of tokens that are still clean at time 1."""
    t_min: float = 1e-3
    """Smallest time in training, as published; the bound is drawn at all times."""
    curriculum: float = 0.0
    """Share of the training, from its beginning, in which the network reads soft tokens: one-hot tokens blurred by
    Gaussian noise instead of replaced ones."""
    tau: float = 1e-3
    """Temperature of the blur."""
    soft_top_k: int = 2
    """Number of other ids in a soft token; 0: all of them, which draws (B, L, K) float64 noise for the global batch and
    so is for small vocabularies."""
    gamma: tuple[float, float] | None = None
    """Range of the log noise-to-signal ratio of the blur; by default where tokens are clean with probability 0.95 to
    0.05."""

    def __post_init__(self) -> None:
        if not 0 < self.eps < 1:
            raise RemaskError(f"eps is {self.eps}; it must be above 0 and below 1")
        if not 0 <= self.t_min < 1:
            raise RemaskError(f"t_min is {self.t_min}; it must be at least 0 and below 1")
        if not 0 <= self.curriculum <= 1:
            raise RemaskError(f"curriculum is {self.curriculum}; it must be from 0 (none) to 1 (all of the training)")
        if not 1e-6 <= self.tau < math.inf:
            raise RemaskError(f"tau is {self.tau}; it must be at least 1e-6 (where it is as good as 0), and finite")
        if self.soft_top_k < 0:
            raise RemaskError(f"soft_top_k is {self.soft_top_k}; it must be 0 (all) or more")
        object.__setattr__(self, "gamma", check_gamma_range(self.gamma))
        if self.gamma is not None and not self.curriculum:
            raise RemaskError(f"gamma is {list(self.gamma)}, and there is no curriculum that it is the range of")

    def over(self, vocabulary: Vocabulary) -> Self:
        bound = super().over(vocabulary)
        if self.curriculum:
            bound.gammas(self.gamma, 0.95, 0.05)  # raises here, before a run begins
        return bound

    def alpha(self, t: Any) -> Any:
        """The linear schedule, 1 - (1 - eps) t; of a number or a tensor."""
        return 1 - (1 - self.eps) * t

    def inputs_for(self, batch: Batch, ask: Tensor, weight: Tensor) -> Noisy:
        """The rows as they are, at time 0: no position can be hidden, since any id may stand anywhere."""
        time = torch.zeros(len(batch.tokens), device=batch.tokens.device)
        return self._noisy(batch, batch.tokens, ask, time, weight)

    def corrupt(self, batch: Batch, rng: Noise, levels: Tensor | None = None) -> Noisy:
        """Replaces scored tokens by any ids; all of them are asked, the unchanged ones too."""
        t = batch.levels(rng) if levels is None else levels
        length = batch.tokens.shape[1]
        return self.replace_tokens(
            batch, t, batch.draw((length,), rng), self.prior(batch.draw((length,), rng, torch.float64))
        )

    def replace_tokens(self, batch: Batch, t: Tensor, uniform: Tensor, ids: Tensor) -> Noisy:
        """`corrupt` with its noise given: levels (B,), uniforms that decide where, (B, L), and ids for there."""
        hidden = (uniform < 1 - self.alpha(t)[:, None]) & batch.scored
        return self._noisy(batch, torch.where(hidden, ids, batch.tokens), batch.scored, t)

    @property
    def has_curriculum(self) -> bool:
        return self.curriculum > 0

    def prior(self, uniform: Tensor) -> Tensor:
        """Uniform over all ids; where the mask is the last id, without it."""
        return (uniform.double() * self.vocabulary.predicted).long().clamp(max=self.vocabulary.predicted - 1)

    def _noisy(self, batch: Batch, tokens: Tensor, ask: Tensor, t: Tensor, weight: Tensor | None = None) -> Noisy:
        return Noisy(
            tokens=tokens,
            ask=ask,
            target=batch.tokens[ask],
            weight=batch.weigh(torch.ones(len(tokens), device=ask.device) if weight is None else weight)[ask],
            time=t,
            attention=batch.visible(FULL),
            positions=batch.positions(),
        )

    def token_loss(self, denoiser: Denoiser, noisy: Noisy) -> Tensor:
        """(N,) nats, the bound's integrand at each asked position."""
        assert noisy.time is not None
        logits = denoiser(noisy.inputs, ask=noisy.ask, **noisy.conditions)
        alpha = self.alpha(noisy.time)[:, None].expand_as(noisy.ask)[noisy.ask]
        alpha = alpha.clamp(max=1 - 2**-24)  # so that the loss is finite at time 0 too
        z = noisy.tokens[noisy.ask]
        return noisy.weight * Nelbo.apply(logits, noisy.target, z, alpha.to(logits.dtype), -(1 - self.eps))

    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        """The bound's integrand per scored token, times drawn from `t_min` on; blurred under the curriculum."""
        if batch.progress < self.curriculum:
            noisy = self.blur(batch, rng)
        else:
            noisy = self.corrupt(batch, rng, self.t_min + (1 - self.t_min) * batch.levels(rng))
        return Loss(self.token_loss(denoiser, noisy).sum(), noisy.target.numel())

    def blur(self, batch: Batch, rng: torch.Generator) -> Noisy:
        """Gaussian noise on one-hot tokens: the network reads its softmax, and the noisy ids are its argmax (`latent`).

        Times are uniform in gamma, and the weights correct for that, so that the loss is the integral of the bound over
        the range of alpha.
        """
        k, size = self.vocabulary.predicted, batch.tokens.shape[1]
        low, high = self.gammas(self.gamma, 0.95, 0.05)
        gamma = low + (high - low) * batch.levels(rng).double()
        if self.soft_top_k:
            n = min(self.soft_top_k, k - 1)
            latent = Latent.draw(batch.tokens, k, batch.draw((size, 2 * n + 1), rng, torch.float64))
            soft, z = latent.soft(gamma, self.tau, k), latent.label(gamma)
        else:
            normal = torch.special.ndtri(batch.draw((size, k), rng, torch.float64).clamp(min=2.0**-54)).float()
            soft, z = soft_and_label(batch.tokens, k, gamma.float(), self.tau, normal)
        alpha, slope = operator_of(k, low, high)(gamma)
        noisy = self.inputs_at(batch, z, alpha)
        share = batch.weigh((slope * (high - low) / -(1 - self.eps)).float())[batch.scored]
        return replace(noisy, weight=share, soft=soft.where(batch.scored, batch.tokens))

    def inputs_at(self, batch: Batch, z: Tensor, alpha: Tensor) -> Noisy:
        """Rows whose scored tokens are the noisy ids `z`, (B, L), at the time of `alpha`, (B,)."""
        time = ((1 - alpha) / (1 - self.eps)).float()
        return self._noisy(batch, torch.where(batch.scored, z, batch.tokens), batch.scored, time)

    def gammas(self, given: tuple[float, float] | None, most: float, least: float) -> tuple[float, float]:
        """A range of gamma: as given, or from where `most` of the tokens are clean to where `least` are."""
        k = self.vocabulary.predicted
        low, high = given or (gamma_of(most, k), gamma_of(least, k))
        if float(operator_of(k, low, high)(torch.tensor(high))[0]) < self.eps:
            raise RemaskError(f"gamma goes to {high:g}, where fewer than eps = {self.eps:g} of the tokens are clean")
        return low, high

    def bound(self, denoiser: Denoiser, batch: Batch, rng: Noise, levels: Tensor | None = None) -> Tensor:
        """(B,) float64: the integral over time and the prior's term, which is a constant of each scored token.

        Its mean is the bound; its variance is infinite, since the integrand has a heavy tail at small times, so a
        reported error is too small.
        """
        noisy = self.corrupt(batch, rng, levels)
        return per_row(self.token_loss(denoiser, noisy), noisy.ask) + self.last_term() * batch.scored.sum(1)

    def last_term(self) -> float:
        """KL between what noise leaves of a token at time 1 and the prior, in nats."""
        k = self.vocabulary.predicted
        own, other = self.eps + (1 - self.eps) / k, (1 - self.eps) / k
        return own * math.log(k * own) + (k - 1) * other * math.log(k * other)

    def posterior_weights(self, p_own: Tensor, s: Any, t: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The posterior of Duo, `posterior`, as a mixture."""
        k, alpha_s, alpha_t = self.vocabulary.predicted, self.alpha(s), self.alpha(t)
        ratio = alpha_t / alpha_s
        whole = alpha_t * k * p_own + 1 - alpha_t
        return (
            (alpha_t * k * p_own + ratio - alpha_t) / whole,
            (1 - ratio) * (1 - alpha_s) / whole,
            (alpha_s - alpha_t) / whole,
        )


def posterior(z: Tensor, p_clean: Tensor, alpha_s: float | Tensor, alpha_t: float | Tensor) -> Tensor:
    """q(z_s | z_t = z, x) with x replaced by (..., K) probabilities -> (..., K), summing to 1."""
    k = p_clean.shape[-1]
    ratio = alpha_t / alpha_s
    at_z = p_clean.gather(-1, z[..., None])
    own = alpha_t * k * at_z + (ratio - alpha_t)
    q = (alpha_s - alpha_t) * p_clean + (1 - ratio) * (1 - alpha_s) / k
    return q.scatter_add(-1, z[..., None], own) / (alpha_t * k * at_z + 1 - alpha_t)
