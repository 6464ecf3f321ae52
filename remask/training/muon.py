"""Muon for the matrices inside the blocks, AdamW for everything else, as one optimiser with one state.

Muon (Jordan et al. 2024) replaces the momentum of a matrix by the nearest matrix with orthonormal rows or columns, so
that every direction of it is learnt at the same speed. The update of an (A, B) matrix with gradient g is

    b <- mu b + (1 - mu) g        u = (1 - mu) g + mu b
    w <- (1 - lr decay) w - lr sqrt(max(1, A / B)) orthogonalise(u),

that of `torch.optim.Muon`, which works on one matrix after the other in bfloat16. Here matrices of one shape are
orthogonalised together, in float32 on processors that are slow at bfloat16: one 384 x 384 product takes 98 ms there in
bfloat16 and 2 ms in float32.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from remask import machine
from remask.errors import RemaskError
from remask.training.sharding import gather, spread_like

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic whose iterate drives all singular values towards 1; the largest slope at 0 (Jordan et al. 2024)."""
ROUNDS = 5
MOST = 2**26
"""Most elements of the matrices that are orthogonalised together, which bounds the memory of a step."""


class Muon(torch.optim.AdamW):
    """AdamW whose groups with `momentum` above 0 are matrices, which Muon updates."""

    def __init__(
        self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], dtype: torch.dtype
    ) -> None:
        """`groups` each have params, weight_decay and momentum, and a rate where it is not `lr`.

        `dtype` is that of the orthogonalisation. RemaskError where Muon is to update what is no matrix.
        """
        for group in groups:
            for weight in group["params"] if group["momentum"] else []:
                if weight.ndim != 2:
                    raise RemaskError(f"Muon is for matrices, and a weight has {weight.ndim} dimensions; use adamw")
        super().__init__(groups, lr=lr, betas=betas, fused=True)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:  # before the groups are parted, since it zeroes the gradients of all of them
            with torch.enable_grad():
                loss = closure()
        every = self.param_groups
        try:
            self.param_groups = [group for group in every if not group["momentum"]]
            super().step()
        finally:
            self.param_groups = every
        for group in every:
            if group["momentum"]:
                self._step_matrices(group)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        """One step of Muon."""
        shapes: dict[tuple[int, ...], list[Tensor]] = {}
        for weight in group["params"]:
            if weight.grad is not None:
                shapes.setdefault(tuple(weight.shape), []).append(weight)
        for shape, weights in shapes.items():
            together = max(1, MOST // math.prod(shape))
            for start in range(0, len(weights), together):
                self._step_alike(group, weights[start : start + together])

    def _step_alike(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        """One step of Muon for matrices of one shape."""
        momentum, lr = group["momentum"], group["lr"]
        updates = []
        for weight in weights:
            state, gradient = self.state[weight], weight.grad
            assert gradient is not None
            if "momentum_buffer" not in state:
                state["step"] = torch.zeros(())  # AdamW, which reads states of both, wants one
                state["momentum_buffer"] = torch.zeros_like(gradient)
            buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
            updates.append(gather(gradient.lerp(buffer, momentum)))
        rows, columns = weights[0].shape
        factor = lr * math.sqrt(max(1.0, rows / columns))
        for weight, update in zip(weights, orthogonalise(torch.stack(updates).to(self.dtype)), strict=True):
            weight.mul_(1 - lr * group["weight_decay"])
            weight.add_(spread_like(update.to(weight.dtype), weight), alpha=-factor)


def orthogonalise(matrices: Tensor) -> Tensor:
    """(n, A, B) matrices, each with its singular values driven to between about 0.7 and 1.2, by Newton-Schulz."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)  # the largest singular value is at most 1
    for _ in range(ROUNDS):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x


def fastest_dtype(device: Any) -> torch.dtype:
    """The number format in which this machine orthogonalises fastest."""
    return torch.bfloat16 if machine.fast_bf16(device) else torch.float32
