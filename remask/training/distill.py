"""Discrete consistency distillation: a uniform-state model learns to do in one step what it did in two.

    remask distill runs/duo --data data/novels --budget.steps 2000 --out runs/duo-distilled

The student at time t is to predict what its teacher predicts at s = t - dt on the same path: both tokens are argmaxes
of one Gaussian noise (`families.latent`), so that the path is deterministic given the noise. The loss is
KL(student || teacher). From round to round dt doubles, and the student becomes the teacher
(Sahoo et al. 2025, *The Diffusion Duality*, section 4).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from remask.batch import Batch
from remask.checkpoints.checkpoint import open_checkpoint
from remask.checkpoints.folder import find
from remask.errors import RemaskError
from remask.families import Family, Loss
from remask.families.latent import Latent, rising, tabled
from remask.families.uniform import Uniform
from remask.model.networks import network
from remask.model.sizes import SizeOverrides
from remask.model.transformer import Transformer
from remask.training.optim import Budget, Optimizer
from remask.training.run import launch


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """The rounds of a distillation."""

    rounds: int = 5
    """How often the student becomes the teacher, the beginning included; each takes the same number of steps."""
    first: float = 1 / 512
    """dt of the first round, in a time from 0 to 1; it doubles from round to round."""
    gamma: tuple[float, float] | None = None
    """Log noise-to-signal ratio at time 0 and 1; by default where 0.9987 and 0.0062 of the tokens are clean."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise RemaskError(f"distillation.rounds is {self.rounds}; it must be at least 1")
        last = self.first * 2 ** (self.rounds - 1)
        if not 0 < self.first <= last <= 1:
            raise RemaskError(
                f"distillation.first is {self.first:g}, and after {self.rounds} rounds of doubling {last:g}; both must "
                "be above 0 and at most 1"
            )
        object.__setattr__(self, "gamma", rising(self.gamma))


class Consistency(nn.Module):
    """The objective, with its teacher: a copy of the network, made anew when a round begins."""

    round: Tensor
    """() int64, the number of the round; -1 before the first."""

    def __init__(self, options: Distillation, student: Transformer, family: Family, compiled: bool) -> None:
        super().__init__()
        assert isinstance(family, Uniform)
        self.options, self.family = options, family
        self.teacher = network(student.architecture).requires_grad_(False)
        self.teacher.load_state_dict(student.state_dict())
        if compiled:
            self.teacher.compile()
        self.register_buffer("round", torch.tensor(-1))
        self.known: int | None = None
        k = family.vocabulary.predicted
        self.low, self.high = family.gammas(options.gamma, 0.9987, 0.0062)
        self.operator = tabled(k, self.low, self.high)

    def forward(self, student: Transformer, batch: Batch, rng: torch.Generator) -> Loss:
        """KL(student || teacher), summed over the scored tokens."""
        number = min(int(batch.progress * self.options.rounds + 1e-9), self.options.rounds - 1)
        if self.known is None:
            self.known = int(self.round)  # of a run that goes on; read once, not at every step
        if number != self.known:
            self.teacher.load_state_dict(student.state_dict())
            self.round.fill_(number)
            self.known = number
        step = self.options.first * 2**number
        t = (batch.levels(rng).double() + step).clamp(max=1)
        k, size = self.family.vocabulary.predicted, batch.tokens.shape[1]
        latent = Latent.drawn(batch.tokens, k, batch.draw((size, 3), rng, torch.float64))
        with torch.no_grad():
            target = self.predicted(self.teacher, batch, latent, t - step)
        return Loss(divergence(self.predicted(student, batch, latent, t), target).sum(), len(target))

    def predicted(self, denoiser: Any, batch: Batch, latent: Latent, t: Tensor) -> Tensor:
        """(N, K) logits at the scored positions, at times `t`, (B,)."""
        gamma = self.low + (self.high - self.low) * t
        noisy = self.family.labelled(batch, latent.label(gamma), self.operator(gamma)[0])
        return denoiser(noisy.tokens, ask=noisy.ask, **noisy.reading())


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """(N, K) logits of both -> (N,) nats, KL(student || teacher)."""
    log = student.log_softmax(-1)
    return (log.exp() * (log - teacher.log_softmax(-1))).sum(-1)


def distill(
    model: str,
    data: Path,
    out: Path,
    distillation: Distillation = Distillation(),
    budget: Budget = Budget(),  # noqa: B008
    optimizer: Optimizer = Optimizer(lr=6e-5, weight_decay=0.0),  # noqa: B008
    length: int | None = None,
    batch: int = 32,
    accumulate: int = 1,
    ema: float = 0.999,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    compile: Literal["auto", "on", "off"] = "auto",
    seed: int = 0,
    validation_rows: int = 64,
    validate_every: int | None = None,
    save_every: int | None = None,
    log_every: int = 10,
    devices: int = 1,
    nodes: int = 1,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
) -> Path:
    """Distils a uniform-state model into one that needs fewer steps.

    Args:
        model: Checkpoint of a uniform-state model: the first teacher.
        data: Folder made by `remask prepare` with the model's own tokenizer.
        out: Run directory. Where it holds a run with the same options, that run goes on.
        distillation: Rounds, and how far apart student and teacher stand.
        budget: How much to train; one of flops (the student's), tokens, steps.
        optimizer: AdamW and its schedule.
        length: Tokens in a row; the model's context by default.
        batch: Rows of a step, over all processes and accumulated micro-batches.
        accumulate: Micro-batches in a step.
        ema: Decay of the moving average of the weights that is published; 0 publishes the weights themselves.
        precision: bf16 autocast or fp32; auto takes bf16 where the processor is fast at it.
        compile: Compile the networks; auto does for runs long enough to repay it.
        seed: Of order and noise.
        validation_rows: Rows of the validation split that are scored; 0 for none.
        validate_every: Steps between validations; a twentieth of the run by default.
        save_every: Steps between checkpoints; a twentieth of the run by default.
        log_every: Steps between rows of metrics.csv.
        devices: Processes on each node.
        nodes: Nodes.
        accelerator: cpu, gpu, or whichever is there.

    Returns:
        The published folder `out/latest`.
    """
    options = {k: v for k, v in locals().items() if k != "out"}
    if budget.minutes is not None:
        raise RemaskError("budget.minutes is for pre-training; give a distillation steps, tokens or flops")
    found = open_checkpoint(out if out.is_dir() and find(out) else model)
    if not isinstance(found.family, Uniform):
        raise RemaskError(
            f"{model} is of the family {type(found.family).__name__}; the path that distillation follows is one of "
            "Gaussian noise, which uniform-state models have"
        )
    found.family.gammas(distillation.gamma, 0.9987, 0.0062)  # refused before anything is written
    length = found.architecture.context if length is None else length
    rest = {"architecture": SizeOverrides(), "random_length": 0.0, "initialisation": "smdm"}
    return launch(
        {**options, **rest, "family": found.family, "length": length},
        out,
        lambda student, family, compiled: Consistency(distillation, student, family, compiled),
        found,
        set(options) - {"model"},
    )
