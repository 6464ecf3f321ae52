"""The operations between the matrix products, for a network that is trained on a CPU without being compiled.

Each has a plain formula, which stands where it is used, and which torch.compile turns into one kernel. Run as it is,
every term of the formula is a pass over memory, forwards and again backwards, and at the widths that a CPU can train
these passes take longer than all matrix products. Here the same is computed for a few rows at a time, so that what lies
between the terms stays in the processor's cache, and the backward pass is written out.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, cross_entropy, linear, silu

IN_CACHE = 2**17
"""Numbers of each operand that a thread has at hand at once; a block of half or twice as many is no faster."""
LEAST = 2**17
"""Numbers in an operand from which on this is faster; for fewer, more calls of Python cost more than passes."""


def by_blocks(x: Tensor) -> bool:
    """Whether an operation on `x` is to be computed as here."""
    if torch.compiler.is_compiling():  # first, so that no graph depends on the number of rows
        return False
    return x.requires_grad and torch.is_grad_enabled() and x.device.type == "cpu" and x.numel() >= LEAST


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Divides `rows` rows of `width` numbers into blocks that fit the cache."""
    size = max(1, IN_CACHE * torch.get_num_threads() // max(width, 1))
    return (slice(start, start + size) for start in range(0, rows, size))


def wide(x: Tensor) -> Tensor:
    """In float32 or, where it is float64, as it is."""
    return x if x.dtype == torch.float64 else x.float()


def for_products(x: Tensor) -> torch.dtype:
    """The dtype that `x` has in a matrix product, to which autocast may cast it."""
    if torch.is_autocast_enabled("cpu") and x.dtype != torch.float64:
        return torch.get_autocast_dtype("cpu")
    return x.dtype


class Rotation(torch.autograd.Function):
    """`rotary.rotate`; its backward pass turns the other way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, H, Q, d) and tables (Q, d/2) or (B or 1, 1, Q, d/2) -> (B, H, Q, d), contiguous."""
        ctx.save_for_backward(cos, sin)
        return turn(x, cos, sin, torch.empty(x.shape, dtype=x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        cos, sin = ctx.saved_tensors
        as_projected = torch.empty(grad.transpose(1, 2).shape, dtype=grad.dtype).transpose(1, 2)
        return turn(grad, cos, -sin, as_projected), None, None


def turn(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> Tensor:
    """Writes the rotation of (B, H, Q, d) queries or keys to `out`, and returns it."""
    half = x.shape[-1] // 2
    for block in blocks(len(x), x[0].numel()):
        c, s = (table[block] if table.ndim == 4 and len(table) > 1 else table for table in (cos, sin))
        both = wide(x[block])
        first, second = both[..., :half], both[..., half:]
        out[block, ..., :half] = torch.addcmul(first * c, second, s, value=-1)
        out[block, ..., half:] = torch.addcmul(second * c, first, s)
    return out


class Normalisation(torch.autograd.Function):
    """RMSNorm, x / sqrt(mean x^2 + eps) * gain, in the dtype of the matrix products that read it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        """(..., D) and (D,) -> (..., D)."""
        flat, gain = x.reshape(-1, x.shape[-1]), wide(gain)
        y, scale = torch.empty(flat.shape, dtype=for_products(x)), torch.empty(len(flat), 1, dtype=gain.dtype)
        for block in blocks(*flat.shape):
            part = wide(flat[block])
            scale[block] = (part.square().mean(-1, keepdim=True) + eps).rsqrt_()
            y[block] = (part * scale[block]).mul_(gain)
        ctx.save_for_backward(flat, gain, scale)
        return y.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        flat, gain, scale = ctx.saved_tensors
        dy, dx, dgain = grad.reshape(flat.shape), torch.empty_like(flat), torch.zeros_like(gain)
        for block in blocks(*flat.shape):
            unit, part = flat[block] * scale[block], wide(dy[block])
            both = part * unit
            dgain += both.sum(0)
            along = (both * gain).mean(-1, keepdim=True)  # no product of matrices, which autocast would round
            dx[block] = (part * gain).addcmul_(unit, along, value=-1).mul_(scale[block])
        return dx.view(grad.shape), dgain, None


class ShortConvolution(torch.autograd.Function):
    """x_i + sum over offsets o of w_o x_(i + o), which is a depthwise convolution over channels that stand last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, causal: bool) -> Tensor:
        """(B, Q, D) and (2 R, D) weights of the offsets -R to R without 0 -> (B, Q, D)."""
        ctx.save_for_backward(x, weight)
        ctx.causal = causal
        return convolve(x, *taps(weight, causal))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        kernel, first = taps(weight, ctx.causal)
        dx = convolve(grad, kernel.flip(0), 1 - first - len(kernel))
        if not ctx.needs_input_grad[1]:
            return dx, None, None
        size, reach, dweight = x.shape[1], len(weight) // 2, torch.zeros_like(wide(weight))
        for block in blocks(len(x), x[0].numel()):
            part, given = wide(x[block]), wide(grad[block])
            for number in range(reach if ctx.causal else 2 * reach):
                offset = number - reach + (number >= reach)
                if abs(offset) < size:
                    to = given[:, max(0, -offset) : size - max(0, offset)]
                    dweight[number] += (to * part[:, max(0, offset) : size + min(0, offset)]).sum((0, 1))
        return dx, dweight, None


def taps(weight: Tensor, causal: bool) -> tuple[Tensor, int]:
    """The weights of all offsets, one after another, 1 for offset 0; and the first offset."""
    reach = len(weight) // 2
    left, itself = weight[:reach], torch.ones_like(weight[:1])
    return torch.cat([left, itself] if causal else [left, itself, weight[reach:]]), -reach


def convolve(x: Tensor, kernel: Tensor, first: int) -> Tensor:
    """y_i = sum over n of kernel_n x_(i + first + n), with 0 where there is no x: (B, Q, D) -> (B, Q, D)."""
    size, channels, width = x.shape[1], x.shape[2], len(kernel)
    more = max(-first, first + width - 1)  # zeros on either side
    shaped = kernel.to(x.dtype).t().reshape(channels, 1, 1, width)
    y = conv2d(x.transpose(1, 2)[:, :, None], shaped, padding=(0, more), groups=channels)
    return y[:, :, 0, more + first : more + first + size].transpose(1, 2)


class DenseAttention(torch.autograd.Function):
    """softmax(q k^T / sqrt(d)) v, with the scores of a few rows at a time in the dtype of the products."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """(B, H, Q, d), (B, H, K, d), (B, H, K, d) and (B or 1, 1, Q, K) bool -> (B, H, Q, d)."""
        rows, heads, size, width = q.shape
        weights = torch.empty(rows, heads, size, k.shape[2], dtype=q.dtype)
        out = torch.empty(rows, size, heads, width, dtype=q.dtype).transpose(1, 2)  # as a projection reads it
        hidden = None if mask is None else ~mask
        for block in blocks(rows, weights[0].numel()):
            scores = (q[block] * width**-0.5) @ k[block].transpose(-1, -2)
            if hidden is not None:
                scores.masked_fill_(hidden if len(hidden) == 1 else hidden[block], -torch.inf)
            weights[block] = torch.ops.aten._softmax(scores, -1, False)
            out[block] = weights[block] @ v[block]
        ctx.save_for_backward(q, k, v, weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        q, k, v, weights = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for block in blocks(len(q), weights[0].numel()):
            part, given = weights[block], grad[block]
            dv[block] = part.transpose(-1, -2) @ given
            dweights = given @ v[block].transpose(-1, -2)
            dscores = torch.ops.aten._softmax_backward_data(dweights, part, -1, part.dtype)
            dq[block] = (dscores @ k[block]).mul_(scale)
            dk[block] = (dscores.transpose(-1, -2) @ q[block]).mul_(scale)
        return dq, dk, dv, None


class GatedProduct(torch.autograd.Function):
    """silu(gate) up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """(B, Q, F) and (B, Q, F) -> (B, Q, F)."""
        ctx.save_for_backward(gate, up)
        out = torch.empty_like(gate)
        for block in blocks(len(gate), gate[0].numel()):
            torch.mul(silu(gate[block]), up[block], out=out[block])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        gate, up = ctx.saved_tensors
        dgate, dup = torch.empty_like(gate), torch.empty_like(up)
        for block in blocks(len(gate), gate[0].numel()):
            torch.mul(grad[block], silu(gate[block]), out=dup[block])
            dgate[block] = torch.ops.aten.silu_backward(grad[block] * up[block], gate[block])
        return dgate, dup


class NegativeLogLikelihood(torch.autograd.Function):
    """-log softmax(h W^T) at given ids, with float32 logits of a few rows at a time."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        """(N, D), (V, D), (N,) -> (N,) float32 nats."""
        logits = linear(hidden, weight)
        nats = torch.empty(len(logits))
        for block in blocks(*logits.shape):
            nats[block] = cross_entropy(logits[block].float(), target[block], reduction="none")
        ctx.save_for_backward(hidden, weight, target, logits, nats)
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:  # type: ignore[override]
        hidden, weight, target, logits, nats = ctx.saved_tensors
        # at the target the softmax, less 1, is taken from the float32 nats: near 1 it would be rounded away
        at_target = torch.expm1(-nats)[:, None].to(logits.dtype)
        dlogits = torch.ops.aten._softmax(logits, -1, False).scatter_(1, target[:, None], at_target)
        each = grad[:, None]
        dweight = dlogits.t() @ (hidden * each).to(hidden.dtype) if ctx.needs_input_grad[1] else None
        return (dlogits @ weight) * each, dweight, None
