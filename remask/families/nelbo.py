"""The bound's integrand for uniform-state diffusion (Sahoo et al. 2025, *The Diffusion Duality*), and its gradient."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def nelbo(logits: Tensor, x: Tensor, z: Tensor, alpha: Tensor, slope: float | Tensor) -> Tensor:
    """(N, K) logits, clean (N,) and noisy (N,) ids, (N,) alpha_t and d alpha/dt -> (N,) nats, 0 for a perfect guess.

    With xbar = K alpha x + 1 - alpha and xbar' the same of the prediction, i = z:

        slope/(K alpha) [K/xbar_i - K/xbar'_i - sum_j (xbar_j/xbar_i) ln(xbar'_i xbar_j / (xbar'_j xbar_i))]

    whose sum over j of xbar, two-valued, is done by hand (Sahoo et al. 2025, appendix; s-sahoo/duo, algo.py).
    """
    k = logits.shape[-1]
    alpha = alpha.to(logits.dtype)
    log = (k * alpha[:, None] * logits.softmax(-1) + (1 - alpha[:, None])).log()  # of xbar'
    at_z, at_x = (log.gather(-1, i[:, None])[:, 0] for i in (z, x))
    return combine(log.sum(-1), at_z, at_x, x == z, alpha, k, slope)


def combine(
    total: Tensor, at_z: Tensor, at_x: Tensor, same: Tensor, alpha: Tensor, k: int, slope: float | Tensor
) -> Tensor:
    """(N,) nats from sum_j ln xbar'_j, ln xbar'_z and ln xbar'_x."""
    clean = same.to(alpha.dtype)
    c = (1 - alpha) / (k * alpha + 1 - alpha)
    first = k * (1 / (1 - alpha + k * alpha * clean) - (-at_z).exp())
    second = -(clean * c + 1 - clean) * (total - k * at_z)
    second = second - (1 - clean) * k * alpha / (1 - alpha) * (at_x - at_z)
    second = second + ((k - 1) * c * clean - (1 - clean) / c) * c.log()
    return slope / (k * alpha) * (first - second)


class Nelbo(torch.autograd.Function):
    """`nelbo` with its gradient by hand, rows in pieces that fit the cache: keeps one (N, K) tensor, the prediction.

    With w = K alpha p + 1 - alpha, dL/dw_j = slope/(K alpha) [c'/w_j + sparse_j], c' the weight of the sum over j and
    the sparse part at x and z; through the softmax, dL/dlogit_i = slope p_i (g_i - sum_j p_j g_j).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor, z: Tensor, alpha: Tensor, slope: float) -> Tensor:
        k, p, value = logits.shape[-1], torch.empty_like(logits), torch.empty_like(alpha)
        for rows in pieces(logits):
            torch.softmax(logits[rows], -1, out=p[rows])
            a = alpha[rows]
            log = torch.addcmul((1 - a)[:, None], p[rows], (k * a)[:, None]).log_()
            at_z, at_x = (log.gather(-1, i[rows, None])[:, 0] for i in (z, x))
            value[rows] = combine(log.sum(-1), at_z, at_x, x[rows] == z[rows], a, k, slope)
        ctx.kept, ctx.slope = (p, x, z, alpha), slope
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (p, x, z, alpha), k = ctx.kept, ctx.kept[0].shape[-1]
        ctx.kept = None  # p becomes the gradient: a second backward has nothing to go by
        for rows in pieces(p):
            a, own = alpha[rows], p[rows]
            clean = (x[rows] == z[rows]).to(own.dtype)
            whole = clean * (1 - a) / (k * a + 1 - a) + 1 - clean
            at = [i[rows, None] for i in (z, x)]
            p_z, p_x = (own.gather(-1, i)[:, 0] for i in at)
            w_z, w_x = k * a * p_z + 1 - a, k * a * p_x + 1 - a
            noisy = (1 - clean) * k * a / (1 - a)
            g_z, g_x = k / w_z**2 - k * whole / w_z - noisy / w_z, noisy / w_x
            g = whole[:, None] / torch.addcmul((1 - a)[:, None], own, (k * a)[:, None])
            g.scatter_add_(-1, at[0], g_z[:, None]).scatter_add_(-1, at[1], g_x[:, None])
            g -= (own * g).sum(-1, keepdim=True)
            own.mul_(g).mul_((ctx.slope * grad[rows])[:, None])
        return p, None, None, None, None


def pieces(logits: Tensor) -> list[slice]:
    """Slices of the rows of (N, K) with about a quarter of a million entries each; all at once on a GPU."""
    n, k = logits.shape
    size = n if logits.is_cuda else max(1, 2**18 // k)
    return [slice(i, i + size) for i in range(0, n, max(size, 1))]
