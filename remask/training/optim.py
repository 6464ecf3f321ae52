"""How long to train, at what learning rate, with which optimiser."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from remask.errors import RemaskError


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
    """Wall time; turned into steps by timing a few before the run."""

    def __post_init__(self) -> None:
        given = {k: v for k, v in vars(self).items() if v is not None}
        if len(given) > 1:
            raise RemaskError(f"give one budget, not {' and '.join('budget.' + k for k in given)}")
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise RemaskError(f"budget.{name} is {value}; it must be above 0, and finite")

    def resolve(self, non_embedding: float, batch: int, length: float, seconds: Callable[[], float]) -> int:
        """Optimiser steps for `batch` rows of mean `length`; `seconds()` measures one step, if needed.

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
    """AdamW and its schedule."""

    lr: float = 1e-3
    """Peak learning rate."""
    floor: float = 0.1
    """Last learning rate, as a share of the peak."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """cosine: warm-up, then half a cosine. wsd: warm-up, stable, linear decay over the last `decay` share."""
    warmup: int | None = None
    """Warm-up steps; None is SMDM's max(100, steps/100), but at most a tenth of the run."""
    decay: float = 0.2
    """Share of the steps over which wsd decays."""
    branch: bool = False
    """Keep the training state before the decay of wsd, as checkpoints/stable-*.ckpt, for longer runs to begin with."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    decay_all: bool = False
    """Decay norms and embeddings too, as SMDM does."""
    clip: float = 1.0
    """Largest gradient norm; 0 does not clip."""

    def __post_init__(self) -> None:
        for name, low, high in (("lr", 0.0, math.inf), ("decay", 0.0, 1.0)):
            value = getattr(self, name)
            if not (low < value <= high and math.isfinite(value)):
                raise RemaskError(f"optimizer.{name} is {value}; it must be above {low:g} and at most {high:g}")
        if not 0 <= self.floor <= 1:
            raise RemaskError(f"optimizer.floor is {self.floor}; it must lie between 0 and 1")
        for name in ("clip", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RemaskError(f"optimizer.{name} is {getattr(self, name)}; it must be 0 or more, and finite")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RemaskError(f"optimizer.betas is {self.betas}; both must be at least 0 and below 1")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step, 0 <= step <= steps; 0 at step 0."""
        warmup = self.warmup if self.warmup is not None else usual_warmup(steps)
        if step < warmup:
            return self.lr * step / warmup
        low = self.lr * self.floor
        if self.schedule == "cosine":
            return low + (self.lr - low) * cosine(step, warmup, steps)
        start = steps - self.decay * steps
        return self.lr if step < start else low + (self.lr - low) * max(0.0, (steps - step) / (steps - start))

    def stable(self, steps: int) -> int:
        """Steps of a run of `steps` that one of more steps has in common with it, given the same warm-up; 0 if none.

        One short of the decay's beginning: a state holds the rate of the step to come.
        """
        return max(0, int(steps - self.decay * steps) - 1) if self.schedule == "wsd" else 0

    def build(self, model: nn.Module) -> torch.optim.AdamW:
        """Fused AdamW; by default only matrices other than embeddings are decayed."""
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, weight in model.named_parameters():
            groups[self.decay_all or (weight.ndim >= 2 and "embed" not in name)].append(weight)
        parts = [{"params": p, "weight_decay": self.weight_decay * decays} for decays, p in groups.items() if p]
        return torch.optim.AdamW(parts, lr=self.lr, betas=self.betas, fused=True)


def usual_warmup(steps: int) -> int:
    """SMDM's rule, but at most a tenth of the run."""
    return min(default_warmup(steps), steps // 10)


def default_warmup(steps: int) -> int:
    """SMDM's rule."""
    return max(100, steps // 100)


def cosine(step: int, warmup: int, steps: int) -> float:
    """1 at the end of warm-up, 0 from `steps` on, half a cosine between."""
    share = min(1.0, (step - warmup) / max(1, steps - warmup))
    return 0.5 * (1 + math.cos(math.pi * share))
