"""How long to train, at what learning rate, with which optimiser."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from remask.errors import RemaskError

if TYPE_CHECKING:  # so that the options are known without torch
    import torch


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much to train: one of these."""

    flops: float | None = None
    """Training FLOPs, as 6 N D with N non-embedding parameters and D positions read."""
    tokens: float | None = None
    """Tokens seen."""
    steps: int | None = None
    """Optimiser steps."""
    minutes: float | None = None
    """Minutes of training; a few steps are timed before the run, and this is turned into steps."""

    def __post_init__(self) -> None:
        given = {k: v for k, v in vars(self).items() if v is not None}
        if len(given) > 1:
            raise RemaskError(f"give one budget, not {' and '.join('budget.' + k for k in given)}")
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise RemaskError(f"budget.{name} is {value}; it must be above 0, and finite")

    def resolve(self, non_embedding: float, batch: int, length: float, seconds: Callable[[], float]) -> int:
        """Optimiser steps of `batch` rows of mean `length`; `seconds()` measures one step, where that is needed.

        FLOPs follow SMDM's rule: int(F / (6 N batch length)).
        """
        if self.steps is not None:
            return self.steps
        if self.flops is not None:
            steps = int(self.flops / (6 * non_embedding * batch * length))
        elif self.tokens is not None:
            steps = int(self.tokens / (batch * length))
        elif self.minutes is not None:
            steps = max(1, int(self.minutes * 60 / seconds()))
        else:
            raise RemaskError("give a budget: --budget.flops, --budget.tokens, --budget.steps or --budget.minutes")
        if steps < 1:
            raise RemaskError(f"the budget is less than one step of {batch} rows of {length:.0f} tokens")
        return steps


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW, and its learning rate over the run."""

    lr: float = 1e-3
    """Peak learning rate."""
    floor: float = 0.1
    """Last learning rate, as a share of the peak."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """cosine: warm-up, then half a cosine. wsd: warm-up, a stable rate, then linear decay; a finished run of wsd can
    be given a larger budget, since the training state before its decay is kept (checkpoints/stable-*.ckpt)."""
    warmup: int | None = None
    """Warm-up steps; by default SMDM's max(100, steps/100), but at most a tenth of the run."""
    decay: float = 0.2
    """Share of the steps over which wsd decays: the last ones."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of AdamW's running means of the gradient and of its square."""
    weight_decay: float = 0.1
    """Decoupled weight decay, of matrices other than embeddings."""
    decay_all: bool = False
    """Apply weight decay to norms and embeddings too, as SMDM does."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        for name, low, high in (("lr", 0.0, math.inf), ("decay", 0.0, 1.0)):
            value = getattr(self, name)
            if not (low < value <= high and math.isfinite(value)):
                most = f"at most {high:g}" if math.isfinite(high) else "finite"
                raise RemaskError(f"optimizer.{name} is {value}; it must be above {low:g} and {most}")
        if self.warmup is not None and self.warmup < 0:
            raise RemaskError(f"optimizer.warmup is {self.warmup}; it must be at least 0")
        if not 0 <= self.floor <= 1:
            raise RemaskError(f"optimizer.floor is {self.floor}; it must lie between 0 and 1")
        for name in ("clip", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RemaskError(f"optimizer.{name} is {getattr(self, name)}; it must be 0 or more, and finite")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RemaskError(f"optimizer.betas is {self.betas}; both must be at least 0 and below 1")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step 0 <= `step` <= `steps`; 0 at step 0."""
        warmup = self.warmup_steps(steps)
        if step < warmup:
            return self.lr * step / warmup
        low = self.lr * self.floor
        if self.schedule == "cosine":
            return low + (self.lr - low) * cosine(step, warmup, steps)
        start = steps - self.decay * steps
        return self.lr if step < start else low + (self.lr - low) * max(0.0, (steps - step) / (steps - start))

    def warmup_steps(self, steps: int) -> int:
        """Steps of warm-up in a run of `steps`."""
        return usual_warmup(steps) if self.warmup is None else self.warmup

    def stable(self, steps: int) -> int:
        """Steps before the decay of wsd, which a longer run with the same warm-up can reuse; 0 for cosine.

        One fewer than there are: a training state holds the learning rate of the step that follows it.
        """
        return max(0, int(steps - self.decay * steps) - 1) if self.schedule == "wsd" else 0

    def build(self, model: "torch.nn.Module") -> "torch.optim.AdamW":
        """Fused AdamW; by default weight decay applies only to matrices other than embeddings."""
        import torch

        groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
        for name, weight in model.named_parameters():
            groups[self.decay_all or (weight.ndim >= 2 and "embed" not in name)].append(weight)
        parts = [{"params": p, "weight_decay": self.weight_decay * decays} for decays, p in groups.items() if p]
        return torch.optim.AdamW(parts, lr=self.lr, betas=self.betas, fused=True)


def usual_warmup(steps: int) -> int:
    """Warm-up steps by default: SMDM's rule, but at most a tenth of the run."""
    return min(default_warmup(steps), steps // 10)


def default_warmup(steps: int) -> int:
    """Warm-up steps by SMDM's rule."""
    return max(100, steps // 100)


def cosine(step: int, warmup: int, steps: int) -> float:
    """1 at the end of warm-up, 0 from `steps` on, half a cosine between."""
    share = min(1.0, (step - warmup) / max(1, steps - warmup))
    return 0.5 * (1 + math.cos(math.pi * share))
