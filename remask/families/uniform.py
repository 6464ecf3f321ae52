"""Uniform-state diffusion (Duo): tokens turn into other tokens, any into any; the network says what they were.

With alpha(t) = 1 - (1 - eps) t a token is still clean with probability alpha, else drawn evenly from the K ids. The
bound is the Rao-Blackwellised one of Sahoo et al. 2025 (*The Diffusion Duality*), in the closed form that needs no
(K,) vectors but the prediction: see `nelbo`. The network is told the noise level.

`posterior` takes the prediction of x_i from all of z. With the exact law of x_i given the *other* positions
(leave-one-out) the reverse process is exact; with the ordinary one it is not. Masked noise does not show the
difference, since there a masked position tells nothing about itself.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Batch, Denoiser, Family, Loss, Noisy, per_row
from remask.model.attention import FULL


@dataclass(frozen=True, kw_only=True)
class Uniform(Family):
    """Uniform-state diffusion on a bidirectional network."""

    eps: float = 1e-3
    """Share of tokens that are still clean at time 1."""
    least: float = 1e-3
    """Least time of training, as published; the bound is drawn at all times."""

    def __post_init__(self) -> None:
        if not 0 < self.eps < 1:
            raise RemaskError(f"eps is {self.eps}; it must be above 0 and below 1")
        if not 0 <= self.least < 1:
            raise RemaskError(f"least is {self.least}; it must be at least 0 and below 1")

    def alpha(self, t: Any) -> Any:
        """The linear schedule, 1 - (1 - eps) t; of a number or a tensor."""
        return 1 - (1 - self.eps) * t

    def present(self, batch: Batch, ask: Tensor, weight: Tensor) -> Noisy:
        """The rows as they are, read as clean ones."""
        return self._noisy(batch, batch.tokens, ask, torch.zeros(len(batch.tokens), device=batch.tokens.device))

    def corrupt(self, batch: Batch, rng: torch.Generator, levels: Tensor | None = None) -> Noisy:
        """Replaces scored tokens by any ids; all of them are asked, the unchanged ones too."""
        t = batch.levels(rng) if levels is None else levels
        length = batch.tokens.shape[1]
        return self.replaced(
            batch, t, batch.draw((length,), rng), self.prior(batch.draw((length,), rng, torch.float64))
        )

    def replaced(self, batch: Batch, t: Tensor, uniform: Tensor, ids: Tensor) -> Noisy:
        """`corrupt` with its noise given: levels (B,), uniforms that decide where, (B, L), and ids for there."""
        hidden = (uniform < 1 - self.alpha(t)[:, None]) & batch.scored
        return self._noisy(batch, torch.where(hidden, ids, batch.tokens), batch.scored, t)

    @property
    def revises(self) -> bool:
        return True

    def prior(self, uniform: Tensor) -> Tensor:
        """Every id equally likely, but for the mask, where the vocabulary has one as its last."""
        return (uniform.double() * self.vocabulary.predicted).long().clamp(max=self.vocabulary.predicted - 1)

    def _noisy(self, batch: Batch, tokens: Tensor, ask: Tensor, t: Tensor) -> Noisy:
        return Noisy(
            tokens=tokens,
            ask=ask,
            target=batch.tokens[ask],
            weight=torch.ones(int(ask.sum()), device=ask.device),
            time=t,
            attention=batch.visible(FULL),
            positions=batch.positions(),
        )

    def token_loss(self, denoiser: Denoiser, noisy: Noisy) -> Tensor:
        """(N,) nats, the bound's integrand at each asked position."""
        assert noisy.time is not None
        logits = denoiser(noisy.tokens, ask=noisy.ask, **noisy.reading())
        alpha = self.alpha(noisy.time)[:, None].expand_as(noisy.ask)[noisy.ask]
        alpha = alpha.clamp(max=1 - 2**-24)  # at time 0 too the loss is finite
        return noisy.weight * nelbo(logits, noisy.target, noisy.tokens[noisy.ask], alpha, -(1 - self.eps))

    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        """The bound's integrand per scored token, times drawn from `least` on."""
        tokens = max(1, int(batch.scored.sum()))
        levels = self.least + (1 - self.least) * batch.levels(rng)
        return Loss(self.token_loss(denoiser, self.corrupt(batch, rng, levels)).sum() / tokens, tokens)

    def bound(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator, levels: Tensor | None = None) -> Tensor:
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

    def posterior(self, z: Tensor, p_clean: Tensor, s: float, t: float) -> Tensor:
        """q(z_s | z_t, x) with the prediction for x: (N,) ids, (N, K) probabilities -> (N, K), s < t."""
        return posterior(z, p_clean, self.alpha(s), self.alpha(t))


def nelbo(logits: Tensor, x: Tensor, z: Tensor, alpha: Tensor, slope: float | Tensor) -> Tensor:
    """(N, K) logits, clean (N,) and noisy (N,) ids, (N,) alpha_t and d alpha/dt -> (N,) nats, 0 for a perfect guess.

    With xbar = K alpha x + 1 - alpha and xbar' the same of the prediction, i = z:

        slope/(K alpha) [K/xbar_i - K/xbar'_i - sum_j (xbar_j/xbar_i) ln(xbar'_i xbar_j / (xbar'_j xbar_i))]

    whose sum over j of xbar, two-valued, is done by hand (Sahoo et al. 2025, appendix; s-sahoo/duo, algo.py).
    """
    k = logits.shape[-1]
    alpha = alpha.to(logits.dtype)
    clean = (x == z).to(logits.dtype)
    predicted = k * alpha[:, None] * logits.softmax(-1) + (1 - alpha[:, None])  # xbar'
    log = predicted.log()
    at_z, at_x = (log.gather(-1, i[:, None])[:, 0] for i in (z, x))
    c = (1 - alpha) / (k * alpha + 1 - alpha)
    first = k * (1 / (1 - alpha + k * alpha * clean) - (-at_z).exp())
    second = -(clean * c + 1 - clean) * (log.sum(-1) - k * at_z)
    second = second - (1 - clean) * k * alpha / (1 - alpha) * (at_x - at_z)
    second = second + ((k - 1) * c * clean - (1 - clean) / c) * c.log()
    return slope / (k * alpha) * (first - second)


def posterior(z: Tensor, p_clean: Tensor, alpha_s: float | Tensor, alpha_t: float | Tensor) -> Tensor:
    """q(z_s | z_t = z, x) with x replaced by (..., K) probabilities -> (..., K), summing to 1."""
    k = p_clean.shape[-1]
    ratio = alpha_t / alpha_s
    at_z = p_clean.gather(-1, z[..., None])
    own = alpha_t * k * at_z + (ratio - alpha_t)
    q = (alpha_s - alpha_t) * p_clean + (1 - ratio) * (1 - alpha_s) / k
    return q.scatter_add(-1, z[..., None], own) / (alpha_t * k * at_z + 1 - alpha_t)
