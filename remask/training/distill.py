"""Discrete consistency distillation: a uniform-state model learns to do in one step what it did in two.

    remask distill runs/duo --data data/novels --budget.steps 2000 --out runs/duo-distilled

The student at time t is to predict what its teacher predicts at s = t - dt on the same path: both tokens are argmaxes
of one Gaussian noise (`families.latent`), so that the path is deterministic given the noise. The loss is
KL(student || teacher). From round to round dt doubles, and the student becomes the teacher
(Sahoo et al. 2025, *The Diffusion Duality*, section 4).
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from remask.batch import Batch
from remask.checkpoints.checkpoint import open_checkpoint
from remask.checkpoints.folder import find
from remask.errors import RemaskError
from remask.families import Family, Loss
from remask.families.latent import Latent, check_gamma_range, operator_of
from remask.model.networks import network
from remask.model.transformer import Transformer
from remask.training.base import CorpusTraining
from remask.training.optim import Budget, Optimizer
from remask.training.recipe import Recipe
from remask.training.run import carry_out
from remask.training.start import Setup, set_up
from remask.training.states import list_states

CLEAN = (0.9987, 0.0062)
"""Share of the tokens that are clean at both ends of the path, where no range of gamma is given."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
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
        object.__setattr__(self, "gamma", check_gamma_range(self.gamma))


@dataclass(frozen=True, kw_only=True)
class Distillation(CorpusTraining):
    """The recipe of a distillation: family, shape and first weights are those of the checkpoint `model`."""

    listed_first: ClassVar[tuple[str, ...]] = ("model", "data", "out", "distillation")
    progress_matters: ClassVar[bool] = True

    model: str
    """Checkpoint of a uniform-state model: the first teacher."""
    distillation: Rounds = field(default_factory=Rounds)
    """Rounds, and how far apart student and teacher stand."""
    budget: Budget = field(default_factory=Budget)
    """How much to train: one of flops (the student's), tokens, steps."""
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(kind="adamw", lr=6e-5, weight_decay=0.0))
    """AdamW and its learning rate over the run."""
    ema: float = 0.999
    """Decay of the moving average of the weights that is published; 0 publishes the weights themselves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget.minutes is not None:
            raise RemaskError("budget.minutes is for pre-training; give a distillation steps, tokens or flops")


def distill(recipe: Distillation) -> Path:
    """Distils a uniform-state model into one that needs fewer steps. Returns the published folder `out/latest`."""
    return carry_out(set_up_distillation(recipe), lambda *given: Consistency(recipe.distillation, *given))


def set_up_distillation(recipe: Distillation) -> Setup:
    """Opens what a recipe names: a run on its data, of the family, shape and weights of the checkpoint. RemaskError
    where its parts do not fit together, before anything is written."""
    out = recipe.out
    start = open_checkpoint(out if out.is_dir() and find(out) and list_states(out) else recipe.model)
    start.family.gammas(recipe.distillation.gamma, *CLEAN)
    shared = {f.name: getattr(recipe, f.name) for f in fields(CorpusTraining)}
    setup = set_up(Recipe(**shared, family=start.family), start.family, start)
    return replace(setup, recipe=replace(recipe, length=setup.recipe.length))


class Consistency(nn.Module):
    """The objective, with its teacher: a copy of the network, made anew when a round begins."""

    round: Tensor
    """() int64, the number of the round; -1 before the first."""

    def __init__(self, options: Rounds, student: Transformer, family: Family, compiled: bool) -> None:
        super().__init__()
        self.options, self.family = options, family
        self.teacher = network(student.architecture).requires_grad_(False)  # filled when a round begins
        if compiled:
            self.teacher.compile()
        self.register_buffer("round", torch.tensor(-1))
        self.known: int | None = None
        k = family.vocabulary.predicted
        self.low, self.high = family.gammas(options.gamma, *CLEAN)
        self.operator = operator_of(k, self.low, self.high)

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
        latent = Latent.draw(batch.tokens, k, batch.draw((size, 3), rng, torch.float64))
        with torch.no_grad():
            target = self.predicted(self.teacher, batch, latent, t - step)
        return Loss(divergence(self.predicted(student, batch, latent, t), target).sum(), len(target))

    def predicted(self, denoiser: Any, batch: Batch, latent: Latent, t: Tensor) -> Tensor:
        """(N, K) logits at the scored positions, at times `t`, (B,)."""
        gamma = self.low + (self.high - self.low) * t
        noisy = self.family.inputs_at(batch, latent.label(gamma), self.operator(gamma)[0])
        return denoiser(noisy.tokens, ask=noisy.ask, **noisy.conditions)


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """(N, K) logits of both -> (N,) nats, KL(student || teacher)."""
    log = student.log_softmax(-1)
    return (log.exp() * (log - teacher.log_softmax(-1))).sum(-1)
