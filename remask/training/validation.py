"""How good the network is during a run: the bound of the validation rows, and a few likelihoods from left to right."""

import math
from contextlib import AbstractContextManager
from typing import Any

import lightning
import torch

from remask.data.batches import in_order
from remask.families import Denoiser
from remask.likelihood import Estimate, LossByLevel, compare_left_to_right, validate
from remask.model.transformer import Transformer
from remask.terminal import say
from remask.training.ema import EMA, published_weights
from remask.training.module import Module
from remask.training.plan import Plan
from remask.training.start import Setup

DRAWS = 2
"""Draws of each validation row."""
BACKWARD = 3
"""A training step has this many times the arithmetic of its forward pass."""


class Validation:
    """Validates the weights that are published, every so many steps, and keeps what was found."""

    def __init__(self, setup: Setup, plan: Plan, average: EMA | None) -> None:
        self.recipe, self.plan, self.average, self.validated = setup.recipe, plan, average, setup.validation
        self.every = self.steps_between()
        self.best = float("inf")
        """Fewest bits per byte so far."""
        self.estimate: Estimate | None = None
        """Of the last step; None where it was not validated."""
        self.by_level = LossByLevel()
        self.both: tuple[Estimate, Estimate] | None = None
        """The bound of a few rows, and their likelihood from left to right, after the last step of the run."""
        self.compiled_for: set[tuple[Any, ...]] = set()
        """The kinds of call that training has made."""

    def steps_between(self) -> int:
        """Steps between validations, which by default take at most a twentieth of the training's arithmetic."""
        if self.validated is None:
            return self.plan.steps
        read, steps = DRAWS * max(1, self.validated.number), self.plan.steps
        affordable = max(1, int(0.05 * steps * BACKWARD * self.recipe.batch / read))
        return self.validated.every or max(1, steps // 20, math.ceil(steps / affordable))

    def watch_calls(self, denoiser: Transformer) -> None:
        """Has the calls of training noted, of a network that is compiled."""
        if self.plan.compile:
            denoiser.register_forward_pre_hook(self.note_call, with_kwargs=True)

    def note_call(self, _: torch.nn.Module, tokens: tuple[Any, ...], arguments: dict[str, Any]) -> None:
        """Keeps what kind of call the network gets, when it is called in training."""
        if torch.is_grad_enabled():
            self.compiled_for.add(kind_of_call(tokens[0], arguments))

    def validate_if_due(self, trainer: lightning.Trainer, module: Module, step: int) -> bool:
        """Sets `estimate`, to None where nothing is due. Whether it is the best so far."""
        self.estimate = None
        over = step >= self.plan.steps
        if self.validated is None or not (over or step % self.every == 0):
            return False
        self.estimate = self.validate(trainer, module)
        if over:
            self.both = self.compare_left_to_right(trainer, module)
        better = self.estimate.bits_per_byte < self.best
        self.best = min(self.best, self.estimate.bits_per_byte)
        return better

    def validate(self, trainer: lightning.Trainer, module: Module) -> Estimate:
        """The bound of the validation rows, and the loss by noise level; each process scores its share of them."""
        by_level = LossByLevel()
        assert self.validated is not None
        size = min(32, self.recipe.batch)
        rows = list(enumerate(in_order(self.validated.rows, self.validated.number, size)))
        mine = rows[trainer.global_rank :: trainer.world_size]
        moved = ((number, (batch.to(module.device), sizes)) for number, (batch, sizes) in mine)
        denoiser = self.as_compiled(module.denoiser)
        with self.published(module), trainer.precision_plugin.forward_context():
            found = validate(denoiser, module.family, moved, draws=DRAWS, by_level=by_level)
            if self.recipe.sharded and len(mine) < -(-len(rows) // trainer.world_size):
                number, (batch, sizes) = rows[0]  # the others go on, and need this process's part of the network
                validate(denoiser, module.family, [(number, (batch.to(module.device), sizes))])
        numbers = torch.tensor([found.nats, found.stderr**2, found.tokens, found.bytes], dtype=torch.float64)
        numbers = torch.cat([numbers, by_level.total, by_level.tokens]).to(module.device)
        every = trainer.strategy.reduce(numbers, reduce_op="sum").cpu()
        nats, variance, tokens, bytes_ = every[:4].tolist()
        self.by_level = LossByLevel(*every[4:].chunk(2))
        return Estimate(nats, variance**0.5, found.kind, int(tokens), int(bytes_))

    def compare_left_to_right(self, trainer: lightning.Trainer, module: Module) -> tuple[Estimate, Estimate] | None:
        """The bound of a few validation rows, and their likelihood from left to right; None where there is none."""
        assert self.validated is not None
        every = self.validated.rows
        length, affordable = self.recipe.length or 1, 0.03 * self.plan.steps * BACKWARD * self.recipe.batch
        count = min(self.validated.left_to_right, int(affordable / (2 * length)), len(every))
        if not count or "chain" not in module.family.estimators or trainer.world_size > 1:
            return None  # with several processes the others would wait for one
        chosen = [i * len(every) // count for i in range(count)]
        rows = [row for i in chosen if (row := every.text(i)) is not None]
        if not rows:
            return None
        # eagerly, since compiling for so few calls takes longer than they do
        with self.published(module), trainer.precision_plugin.forward_context(), module.denoiser.eagerly():
            bound, exact = compare_left_to_right(module.denoiser, module.family, rows, module.device)
        say(f"left to right {exact}; the bound of the same {len(rows)} row{'s' * (len(rows) > 1)} {bound}")
        return bound, exact

    def as_compiled(self, denoiser: Transformer) -> Denoiser:
        """The network as validation reads it, so that nothing is compiled for validation alone: by the graph of
        training, with gradients that are dropped, where training has read inputs of the same shape under the same kind
        of attention, and else eagerly."""
        if not self.plan.compile:
            return denoiser

        def read(tokens: Any, **arguments: Any) -> torch.Tensor:
            if kind_of_call(tokens, arguments) in self.compiled_for:
                with torch.enable_grad():
                    return denoiser(tokens, **arguments).detach()
            with denoiser.eagerly():
                return denoiser(tokens, **arguments)

        return read

    def published(self, module: Module) -> AbstractContextManager[None]:
        """A context in which the network has the weights that are published."""
        return published_weights(self.average, module.denoiser)

    def about(self) -> dict[str, Any]:
        """What a published folder says of the last validation."""
        about: dict[str, Any] = {}
        if self.estimate is not None:
            about["validation"] = {**vars(self.estimate), "bits_per_byte": self.estimate.bits_per_byte}
            if self.estimate.kind == "bound":
                about["validation"]["nats_by_level"] = [None if math.isnan(x) else x for x in self.by_level.means()]
        if self.both is not None:
            names = ("bound_of_the_same_rows", "left_to_right")
            about |= {name: found.bits_per_byte for name, found in zip(names, self.both, strict=True)}
        return about


def kind_of_call(tokens: Any, arguments: dict[str, Any]) -> tuple[Any, ...]:
    """What a compiled graph of the network is for: type and shape of its input, and the kind of attention."""
    return type(tokens), tuple(tokens.shape), type(arguments.get("attention"))
