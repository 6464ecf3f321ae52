"""How long to train, at what learning rate, with which optimiser."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from remask.errors import RemaskError, unknown

if TYPE_CHECKING:  # so that the options are known without torch
    import torch


Kind = Literal["muon", "adamw"]
BESIDE_MUON = 2e-2
"""Peak rate of AdamW beside Muon, at width 128 and 4,096 tokens a step; measured there, and at width 384
(experiments/learning)."""
BY_LEVEL = 3e-4
"""Highest peak rate of AdamW, beside Muon, of what conditions a network on the noise level: at the rate of the other
vectors, gradients of uniform-state models grew a thousandfold and nothing more was learnt (experiments/learning)."""
LEVEL = re.compile(r".*(modulation|time_embed|adaLN|sigma_map)")
"""Parameters of the embedding of the noise level and of the modulations by it."""
INSIDE = re.compile(r"(model\.layers|blocks)\.\d+\.(?!.*conv)")
"""Parameters inside the blocks that are no convolutions."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much to train: one of these."""

    flops: float | None = None
    """Training FLOPs, as 6 N D with N non-embedding parameters and D positions read."""
    tokens: float | None = None
    """Tokens seen."""
    epochs: float | None = None
    """Passes over the rows of the data."""
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

    def resolve(
        self, non_embedding: float, batch: int, length: float, seconds: Callable[[], float], rows: int = 0
    ) -> int:
        """Optimiser steps of `batch` rows of mean `length`; `seconds()` measures one step, where that is needed, and
        `rows` are those of an epoch.

        FLOPs follow SMDM's rule: int(F / (6 N batch length)).
        """
        if self.steps is not None:
            return self.steps
        if self.flops is not None:
            steps = int(self.flops / (6 * non_embedding * batch * length))
        elif self.tokens is not None:
            steps = int(self.tokens / (batch * length))
        elif self.epochs is not None:
            steps = max(1, int(self.epochs * rows / batch))
        elif self.minutes is not None:
            steps = max(1, int(self.minutes * 60 / seconds()))
        else:
            names = [f"--budget.{name}" for name in ("flops", "tokens", "epochs", "steps")]
            raise RemaskError(f"give a budget: {', '.join(names)} or --budget.minutes")
        if steps < 1:
            raise RemaskError(f"the budget is less than one step of {batch} rows of {length:.0f} tokens")
        return steps


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The optimiser, and its learning rates over the run."""

    kind: Kind = "muon"
    """muon: Muon for the matrices inside the blocks, AdamW for embedding, head, gains, vectors, convolutions, and
    modulations by the noise level at a rate of at most 3e-4. adamw: AdamW for everything, as in the published runs."""
    lr: float | None = None
    """Peak learning rate of AdamW. By default it follows the size of the run: with muon
    2e-2 (128 / width)^(1/2) (tokens of a step / 4096)^(1/2), at most 2e-2; with adamw 1e-3."""
    muon_lr: float = 0.02
    """Peak learning rate of Muon, whose updates have the same norm at every width."""
    muon_momentum: float = 0.95
    """Decay of Muon's running mean of the gradient."""
    muon_decay: float = 0.01
    """Decoupled weight decay of the matrices that Muon trains."""
    floor: float = 0.1
    """Last learning rates, as a share of the peak."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """cosine: warm-up, then half a cosine. wsd: warm-up, a stable rate, then linear decay; a finished run of wsd can
    be given a larger budget, since the training state before its decay is kept (checkpoints/stable-*.ckpt)."""
    warmup: int | None = None
    """Warm-up steps; by default SMDM's max(100, steps/100), but at most a tenth of the run."""
    decay: float = 0.2
    """Share of the steps over which wsd decays: the last ones."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of AdamW's running means of the gradient and of its square."""
    weight_decay: float | None = None
    """Decoupled weight decay of AdamW, of matrices other than embeddings; by default 0.1 with adamw, 0 with muon."""
    decay_all: bool = False
    """Apply AdamW's weight decay to norms and embeddings too, as SMDM does."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        for name, low, high in (("lr", 0.0, math.inf), ("muon_lr", 0.0, math.inf), ("decay", 0.0, 1.0)):
            value = getattr(self, name)
            if value is not None and not (low < value <= high and math.isfinite(value)):
                most = f"at most {high:g}" if math.isfinite(high) else "finite"
                raise RemaskError(f"optimizer.{name} is {value}; it must be above {low:g} and {most}")
        if self.kind not in get_args(Kind):
            raise unknown("optimizer", self.kind, get_args(Kind))
        if self.warmup is not None and self.warmup < 0:
            raise RemaskError(f"optimizer.warmup is {self.warmup}; it must be at least 0")
        if not 0 <= self.floor <= 1:
            raise RemaskError(f"optimizer.floor is {self.floor}; it must lie between 0 and 1")
        for name in ("clip", "weight_decay", "muon_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise RemaskError(f"optimizer.{name} is {value}; it must be 0 or more, and finite")
        if not 0 < self.muon_momentum < 1:
            raise RemaskError(f"optimizer.muon_momentum is {self.muon_momentum}; it must lie between 0 and 1")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RemaskError(f"optimizer.betas is {self.betas}; both must be at least 0 and below 1")

    def for_size(self, width: int, tokens: int) -> "Optimizer":
        """With the rates and the decay that a network of `width` and steps of `tokens` have where none are given."""
        if self.kind == "muon":
            lr = min(BESIDE_MUON, BESIDE_MUON * math.sqrt(128 / width * tokens / 4096))
            decay = 0.0
        else:
            lr, decay = 1e-3, 0.1
        return replace(
            self,
            lr=lr if self.lr is None else self.lr,
            weight_decay=decay if self.weight_decay is None else self.weight_decay,
        )

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of AdamW at step 0 <= `step` <= `steps`; 0 at step 0. That of Muon is in proportion."""
        lr, warmup = self.peak, self.warmup_steps(steps)
        if step < warmup:
            return lr * step / warmup
        low = lr * self.floor
        if self.schedule == "cosine":
            return low + (lr - low) * cosine(step, warmup, steps)
        start = steps - self.decay * steps
        return lr if step < start else low + (lr - low) * max(0.0, (steps - step) / (steps - start))

    @property
    def peak(self) -> float:
        """Peak learning rate of AdamW. RemaskError before `for_size`, where none is given."""
        if self.lr is None:
            raise RemaskError("the learning rate follows the size of the run: call .for_size(width, tokens)")
        return self.lr

    def warmup_steps(self, steps: int) -> int:
        """Steps of warm-up in a run of `steps`."""
        return usual_warmup(steps) if self.warmup is None else self.warmup

    def stable(self, steps: int) -> int:
        """Steps before the decay of wsd, which a longer run with the same warm-up can reuse; 0 for cosine.

        One fewer than there are: a training state holds the learning rate of the step that follows it.
        """
        return max(0, int(steps - self.decay * steps) - 1) if self.schedule == "wsd" else 0

    def build(self, model: "torch.nn.Module") -> "torch.optim.AdamW":
        """The optimiser of a network, at its peak rates. RemaskError before `for_size`, where no rate is given."""
        import torch

        from remask.training.muon import Muon, fastest_dtype

        matrices: list[torch.nn.Parameter] = []
        others: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}  # by whether they decay, and are of the level
        for name, weight in model.named_parameters():
            if not weight.requires_grad:
                continue  # of a network whose adapters alone are trained
            is_matrix, level = weight.ndim >= 2 and "embed" not in name, bool(LEVEL.match(name))
            if self.kind == "muon" and is_matrix and weight.ndim == 2 and not level and INSIDE.match(name):
                matrices.append(weight)
            else:
                key = (self.decay_all or is_matrix, level and self.kind == "muon")
                others.setdefault(key, []).append(weight)
        adamw = {"lr": self.peak, "betas": self.betas}
        parts: list[dict[str, Any]] = [
            {"params": others[decays, level], "weight_decay": (self.weight_decay or 0.0) * decays}
            | ({"lr": min(self.peak, BY_LEVEL)} if level else {})
            for decays, level in ((True, False), (False, False), (True, True), (False, True))
            if (decays, level) in others
        ]
        if self.kind == "adamw":
            return torch.optim.AdamW(parts, **adamw, fused=True)
        if not matrices:
            raise RemaskError("optimizer.kind is muon, and the network has no matrices inside blocks; use adamw")
        by_muon = {"params": matrices, "lr": self.muon_lr, "weight_decay": self.muon_decay}
        return Muon(
            [by_muon | {"momentum": self.muon_momentum}, *(part | {"momentum": 0.0} for part in parts)],
            **adamw,
            dtype=fastest_dtype(matrices[0].device),
        )


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
