"""The Gaussian noise behind uniform-state diffusion (Sahoo et al. 2025, *The Diffusion Duality*).

Gaussian noise on a one-hot token, w = a e_x + s n with a^2 = sigmoid(-gamma) and s^2 = sigmoid(gamma), has an argmax
that is distributed as a token under uniform noise: it is x with probability P(gamma), else any other id. So a schedule
of gamma gives a schedule of alpha, through the *diffusion transformation operator*

    alpha(gamma) = (K P(gamma) - 1)/(K - 1),   P = int phi(z - mu) Phi(z)^(K-1) dz,   mu = a/s = exp(-gamma/2).

Not all K entries of w are drawn, but only that of x itself and the largest few of the other K - 1, which stand at ids
that are drawn uniformly.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.polynomial import Chebyshev
from torch import Tensor
from torch.special import log_ndtr, ndtri

from remask.errors import RemaskError
from remask.model.soft import Soft

STEP = 0.02
NODES = torch.arange(-9.0, 9.0 + STEP / 2, STEP, dtype=torch.float64)
"""Nodes z - mu of the trapezoidal rule, which is exact to rounding for an analytic integrand that falls like phi."""
MASS = STEP * (-(NODES**2) / 2).exp() / math.sqrt(2 * math.pi)
"""STEP phi(z - mu) at each node."""
FARTHEST = 30.0
"""Largest |gamma|, at which a token is certainly clean or certainly not."""


def check_gamma_range(gamma: Any) -> tuple[float, float] | None:
    """A range of gamma as two floats, or None where none is given. RemaskError for anything else."""
    if gamma is None:
        return None
    try:
        low, high = (float(x) for x in gamma)
    except (TypeError, ValueError):
        raise RemaskError(f"gamma is {gamma!r}; it must be two numbers, such as [-3.5, -1.8]") from None
    if not -FARTHEST <= low < high <= FARTHEST:
        raise RemaskError(f"gamma is {low:g} to {high:g}; it must rise, within {-FARTHEST:g} to {FARTHEST:g}")
    return low, high


def operator(gamma: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(...) gamma -> (...) float64 alpha and d alpha/d gamma, for K = `k` ids, by quadrature."""
    mu = (-gamma.double() / 2).exp()[..., None]
    chance = MASS.to(mu) * ((k - 1) * log_ndtr(mu + NODES.to(mu))).exp()
    slope = (chance * NODES.to(mu)).sum(-1) * -mu[..., 0] / 2
    return (k * chance.sum(-1) - 1) / (k - 1), k / (k - 1) * slope


class Operator:
    """`operator` with a Chebyshev series for the range between two gammas.

    Outside the range, and where it is too wide for a series, the values are computed by quadrature; they are never
    clipped.
    """

    def __init__(self, k: int, low: float, high: float) -> None:
        check_gamma_range((low, high))
        self.k, self.low, self.high = k, low, high
        self._fits: list[Chebyshev] = []
        for degree in (32, 64, 128, 256):
            nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
            at = torch.from_numpy((low + high) / 2 + (high - low) / 2 * nodes)
            values = [value.numpy() for value in operator(at, k)]
            fits = [Chebyshev(np.polynomial.chebyshev.chebfit(nodes, v, degree), domain=[low, high]) for v in values]
            if all(np.abs(fit.coef[-4:]).max() < 1e-13 for fit in fits):
                self._fits = fits
                break

    def __call__(self, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """(...) gamma -> (...) float64 alpha and d alpha/d gamma."""
        at = gamma.detach().double().cpu()
        if self._fits and bool(((at >= self.low) & (at <= self.high)).all()):
            alpha, slope = (torch.from_numpy(np.asarray(fit(at.numpy()))) for fit in self._fits)
        else:
            alpha, slope = operator(at, self.k)
        return alpha.to(gamma.device), slope.to(gamma.device)


@cache
def operator_of(k: int, low: float, high: float) -> Operator:
    """The operator of a vocabulary size and range of gamma; each is made only once."""
    return Operator(k, low, high)


@cache
def gamma_of(alpha: float, k: int) -> float:
    """The gamma at which a token is still clean with probability `alpha`, by bisection."""
    if k < 2:
        raise RemaskError(f"a vocabulary of {k} ids cannot be noised; it needs 2")
    low, high = -FARTHEST, FARTHEST
    for _ in range(80):
        middle = (low + high) / 2
        if float(operator(torch.tensor(middle, dtype=torch.float64), k)[0]) > alpha:
            low = middle
        else:
            high = middle
    return low


@dataclass(frozen=True)
class Latent:
    """The Gaussian noise of (B, L) tokens: that of the token itself, and the largest of the other ids'."""

    x: Tensor
    """(B, L) int64, the clean tokens."""
    own: Tensor
    """(B, L) float64 standard normals, the noise of the clean token."""
    others: Tensor
    """(B, L, k) float64, the k largest of K - 1 standard normals, in descending order."""
    ids: Tensor
    """(B, L, k) int64, the ids to which these belong."""

    @staticmethod
    def draw(x: Tensor, k: int, uniform: Tensor) -> "Latent":
        """Draws the noise from (B, L, 2 n + 1) float64 uniforms in [0, 1), for the n largest of the K - 1 others."""
        n, others = (uniform.shape[-1] - 1) // 2, k - 1
        uniform = uniform.clamp(2.0**-54, 1 - 2.0**-53)
        left = others - torch.arange(n, device=x.device, dtype=torch.float64)
        largest = ndtri((uniform[..., :n].log() / left).cumsum(-1).exp().clamp(max=1 - 2.0**-53))
        return Latent(x, ndtri(uniform[..., 2 * n]), largest, distinct(uniform[..., n : 2 * n], x, others))

    def label(self, gamma: Tensor) -> Tensor:
        """(B,) gamma -> (B, L) ids, the argmax of w: a token under uniform noise of alpha(gamma)."""
        clean = (-gamma.double() / 2).exp()[:, None] + self.own > self.others[..., 0]
        return torch.where(clean, self.x, self.ids[..., 0])

    def soft(self, gamma: Tensor, tau: float, k: int) -> Soft:
        """softmax(w / tau) at the token itself and at the other ids drawn.

        The remaining ids enter the denominator by the mean of the sum of their exponentials.
        """
        a, s = (torch.sigmoid(sign * gamma.double()).sqrt()[:, None] for sign in (-1, 1))
        n = self.others.shape[-1]
        least = self.others[..., -1]
        logits = torch.cat([(a + s * self.own)[..., None], s[..., None] * self.others], -1) / tau
        scale = s / tau  # of the rest, K - 1 - n normals below the least of those drawn: E exp(scale n | n < least)
        rest = scale**2 / 2 + log_ndtr(least - scale) - log_ndtr(least)
        rest = rest + math.log(k - 1 - n) if k - 1 > n else torch.full_like(rest, -torch.inf)
        total = torch.cat([logits, rest[..., None]], -1).logsumexp(-1, keepdim=True)
        return Soft((logits - total).exp().float(), torch.cat([self.x[..., None], self.ids], -1))


def distinct(uniform: Tensor, x: Tensor, others: int) -> Tensor:
    """(..., n) uniforms -> (..., n) different ids, none of them `x`; all ordered choices are equally likely."""
    taken: list[Tensor] = []
    for j in range(uniform.shape[-1]):
        place = (uniform[..., j] * (others - j)).long().clamp(max=others - j - 1)
        for before in torch.stack(taken, -1).sort(-1).values.unbind(-1) if taken else ():
            place = place + (place >= before)
        taken.append(place)
    ids = torch.stack(taken, -1)
    return ids + (ids >= x[..., None])


def soft_and_label(x: Tensor, k: int, gamma: Tensor, tau: float, normal: Tensor) -> tuple[Soft, Tensor]:
    """The softmax of w / tau, (B, L, K), and its argmax, (B, L), from (B, L) ids and (B, L, K) standard normals."""
    a, s = (torch.sigmoid(sign * gamma).sqrt()[:, None, None] for sign in (-1, 1))
    w = s * normal
    w = w.scatter_add(-1, x[..., None], a.expand(*x.shape, 1).to(w.dtype))
    return Soft((w / tau).softmax(-1)), w.argmax(-1)
