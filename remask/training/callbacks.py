"""What happens beside the steps: validating, saving, publishing."""

import math
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from remask.checkpoints import folder
from remask.data.batches import in_order
from remask.families import Denoiser
from remask.likelihood import Estimate, LossByLevel, compare_left_to_right, validate
from remask.model.transformer import Transformer
from remask.terminal import say
from remask.training.adapters import merged, write_adapters
from remask.training.ema import EMA
from remask.training.fine_tuning import Conversations, fine_tuned_on
from remask.training.log import Log
from remask.training.module import Module, StepFailed
from remask.training.plan import Plan
from remask.training.sharding import gather_weights
from remask.training.start import Setup
from remask.training.states import KEPT, list_states, stable_state, state_path, step_of, write_state

VALIDATION_DRAWS = 2
"""Draws of each validation row."""
BACKWARD = 3
"""A training step has this many times the arithmetic of its forward pass."""
SAVED_RECENTLY = 15.0
"""Seconds after a save in which a run does not save again, unless it is told how often to."""


class AtomicIO(TorchCheckpointIO):
    """Under its final name a checkpoint is whole or absent."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_state(checkpoint, Path(path))


class CheckpointCallback(lightning.Callback):
    """Validates, saves the training state, and publishes `latest/` and `best/`.

    Stops the run cleanly when asked to (Ctrl-C), and when too many steps were skipped.
    """

    def __init__(self, setup: Setup, plan: Plan, average: EMA | None, log: Log) -> None:
        self.recipe, self.plan, self.average, self.logbook = setup.recipe, plan, average, log
        self.batches, self.validation, self.prepared = setup.batches, setup.validation, setup.prepared
        part = max(1, plan.steps // 20)
        self.save_every = self.recipe.save_every or part
        self.validate_every = self.recipe.validate_every or max(part, math.ceil(plan.steps / self.affordable()))
        self.saved_at = time.monotonic()
        self.best = float("inf")
        self.estimate: Estimate | None = None
        self.by_level = LossByLevel()
        self.both: tuple[Estimate, Estimate] | None = None
        """The bound of a few rows, and their likelihood from left to right, after the last step."""
        self.asked_to_stop = False
        self.compiled_for: set[tuple[Any, ...]] = set()
        """The kinds of call that training has made."""
        self._last = -1

    def affordable(self) -> int:
        """Validations that together take at most a twentieth of the training's arithmetic; one at least."""
        read = VALIDATION_DRAWS * max(1, self.recipe.validation_rows)
        return max(1, int(0.05 * self.plan.steps * BACKWARD * self.recipe.batch / read))

    @property
    def out(self) -> Path:
        """The run directory."""
        return self.recipe.out

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._last = trainer.global_step
        if self.plan.compile:
            cast(Module, pl_module).denoiser.register_forward_pre_hook(self.note_call, with_kwargs=True)

    def note_call(self, _: torch.nn.Module, tokens: tuple[Any, ...], arguments: dict[str, Any]) -> None:
        """Keeps what kind of call the network gets, when it is called in training."""
        if torch.is_grad_enabled():
            self.compiled_for.add(kind_of_call(tokens[0], arguments))

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        module, step = cast(Module, pl_module), trainer.global_step
        if step == self._last:
            return  # in the middle of an accumulated step
        self._last = step
        self.asked_to_stop = trainer.strategy.reduce_boolean_decision(self.asked_to_stop, all=False)
        module.give_up_if_hopeless(self.last_good_state)
        over = step >= self.plan.steps
        better = self.validate_if_due(trainer, module, over)
        self.logbook.write_if_due(
            trainer, module, self.estimate, self.by_level
        )  # before saving: a state holds what is logged so far
        self.save_if_due(trainer, module, over, better)
        trainer.should_stop = trainer.should_stop or self.asked_to_stop
        self.logbook.start_clock()

    def on_exception(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: Any) -> None:
        """Saves the run as it stands after the last whole step, where the next one could not be made."""
        alone = trainer.world_size == 1  # other processes would not come to save
        if isinstance(exception, StepFailed) and alone and self._last > 0:
            forget_micro_batches(trainer, self._last * self.recipe.accumulate)
            self.publish(trainer, cast(Module, pl_module), ["latest"])
            self.save(trainer)

    def last_good_state(self) -> Path | None:
        """The newest training state of this run, and not a damaged one of later."""
        return next((path for path in list_states(self.out) if step_of(path) <= self._last), None)

    def validate_if_due(self, trainer: lightning.Trainer, module: Module, over: bool) -> bool:
        """Sets `estimate`, to None where nothing is due. Whether it is the best so far."""
        self.estimate = None
        if self.validation is None or not (over or self._last % self.validate_every == 0):
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
        assert self.validation is not None
        rows = list(enumerate(in_order(self.validation, self.recipe.validation_rows, min(32, self.recipe.batch))))
        mine = rows[trainer.global_rank :: trainer.world_size]
        moved = ((number, (batch.to(module.device), sizes)) for number, (batch, sizes) in mine)
        denoiser = self.as_compiled(module.denoiser)
        with self.averaged(module), trainer.precision_plugin.forward_context():
            found = validate(denoiser, module.family, moved, draws=VALIDATION_DRAWS, by_level=by_level)
            if self.recipe.sharded and len(mine) < -(-len(rows) // trainer.world_size):
                number, (batch, sizes) = rows[0]  # the others go on, and need this process's part of the network
                validate(denoiser, module.family, [(number, (batch.to(module.device), sizes))])
        numbers = torch.tensor([found.nats, found.stderr**2, found.tokens, found.bytes], dtype=torch.float64)
        numbers = torch.cat([numbers, by_level.total, by_level.tokens]).to(module.device)
        every = trainer.strategy.reduce(numbers, reduce_op="sum").cpu()
        nats, variance, tokens, size = every[:4].tolist()
        self.by_level = LossByLevel(*every[4:].chunk(2))
        return Estimate(nats, variance**0.5, found.kind, int(tokens), int(size))

    def compare_left_to_right(self, trainer: lightning.Trainer, module: Module) -> tuple[Estimate, Estimate] | None:
        """The bound of a few validation rows, and their likelihood from left to right; None where there is none."""
        assert self.validation is not None
        length, affordable = self.recipe.length or 1, 0.03 * self.plan.steps * BACKWARD * self.recipe.batch
        count = min(self.recipe.left_to_right_rows, int(affordable / (2 * length)), len(self.validation))
        if not count or "chain" not in module.family.estimators or trainer.world_size > 1:
            return None  # with several processes the others would wait for one
        chosen = [i * len(self.validation) // count for i in range(count)]
        rows = [row for i in chosen if (row := self.validation.text(i)) is not None]
        if not rows:
            return None
        # eagerly, since compiling for so few calls takes longer than they do
        with self.averaged(module), trainer.precision_plugin.forward_context(), module.denoiser.eagerly():
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

    def averaged(self, module: Module) -> Any:
        """A context in which the network has the weights that are published."""
        return self.average.applied(module.denoiser) if self.average else nullcontext()

    def save_if_due(self, trainer: lightning.Trainer, module: Module, over: bool, better: bool) -> None:
        """Writes what is due: the state before the decay of wsd, the published folders, the training state."""
        step = self._last
        if step and step == module.optimizer.stable(self.plan.steps):
            self.save_stable(trainer)
        saving = over or self.asked_to_stop or (step % self.save_every == 0 and self.save_is_worth_it(trainer))
        if better or saving:
            self.publish(trainer, module, [name for name, due in (("best", better), ("latest", saving)) if due])
        if saving:  # after publishing: a state that is there says that its folders are too
            self.save(trainer)

    def save_is_worth_it(self, trainer: lightning.Trainer) -> bool:
        """Whether the run saves at a step that is due: by default not within some seconds of the last time."""
        late = self.recipe.save_every is not None or time.monotonic() - self.saved_at > SAVED_RECENTLY
        return bool(trainer.strategy.broadcast(late))  # the processes' clocks differ

    def save(self, trainer: lightning.Trainer) -> None:
        """Writes the training state and drops all but the newest few."""
        self.saved_at = time.monotonic()
        trainer.save_checkpoint(state_path(self.out, self._last))
        if trainer.is_global_zero:
            ours = [path for path in list_states(self.out) if step_of(path) <= self._last]
            for stale in ours[KEPT:]:
                stale.unlink(missing_ok=True)

    def save_stable(self, trainer: lightning.Trainer) -> None:
        """Writes the state that a larger budget goes on from, and drops that of a smaller one."""
        trainer.save_checkpoint(kept := stable_state(self.out, self._last))
        if trainer.is_global_zero:
            for stale in kept.parent.glob("stable-*.ckpt"):
                if stale != kept:
                    stale.unlink(missing_ok=True)

    def publish(self, trainer: lightning.Trainer, module: Module, names: list[str]) -> None:
        """Writes published folders with the weights to use, which all processes gather and the first one writes."""
        with self.averaged(module):
            weights = gather_weights(module.denoiser)
            if trainer.is_global_zero:
                shape, about = module.denoiser.architecture, self.about(module)
                if self.recipe.lora.rank:
                    if "latest" in names:
                        write_adapters(self.out / "adapter", weights, self.recipe.lora, self.recipe.model, about)
                    weights = merged(weights, self.recipe.lora)
                text = model_card(module, about, self.estimate)
                for name in names:
                    folder.save(self.out / name, weights, shape, module.family, self.prepared.tokenizer, about, text)

    def about(self, module: Module) -> dict[str, Any]:
        """What a published folder says of the run that it comes from."""
        recipe, plan = self.recipe, self.plan
        about: dict[str, Any] = {
            "data": recipe.data.name,
            "steps": plan.steps,
            "tokens_a_step": plan.tokens,
            "parameters": replace(module.denoiser.architecture, time=False).non_embedding,
            "reads": module.family.reads,
            "unique_tokens": self.batches.unique_tokens,
            "flops_6n": plan.steps * plan.flops_6n,
            "lr": module.optimizer.peak,
            **({"flops_6n_before": plan.flops_6n_before} if plan.flops_6n_before else {}),
            "options": {name: value for name, value in recipe.to_dict().items() if name != "data"},
            "step": self._last,
        }
        if isinstance(self.prepared, Conversations):
            about["conversations"] = self.prepared.about
        if self.estimate is not None:
            about["validation"] = {**vars(self.estimate), "bits_per_byte": self.estimate.bits_per_byte}
            if self.estimate.kind == "bound":
                about["validation"]["nats_by_level"] = [None if math.isnan(x) else x for x in self.by_level.means()]
        if self.both is not None:
            names = ("bound_of_the_same_rows", "left_to_right")
            about |= {name: found.bits_per_byte for name, found in zip(names, self.both, strict=True)}
        return about

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


def forget_micro_batches(trainer: lightning.Trainer, done: int) -> None:
    """Lets Lightning count as at the end of a step, after `done` micro-batches, and not those of one that failed."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    count: Any
    for count in (progress.total, progress.current):
        count.ready = count.started = count.processed = done
        count.completed = done - 1  # it counts one once its callbacks are through


def kind_of_call(tokens: Any, arguments: dict[str, Any]) -> tuple[Any, ...]:
    """What a compiled graph of the network is for: type and shape of its input, and the kind of attention."""
    return type(tokens), tuple(tokens.shape), type(arguments.get("attention"))


def model_card(module: Module, about: dict[str, Any], found: Estimate | None) -> str:
    """The README of a published folder."""
    shape = module.denoiser.architecture
    lines = [
        f"# {type(module.family).__name__} language model, {shape.parameters:,} parameters",
        "",
        f"{shape.non_embedding:,} without embeddings. Trained with remask on {about['data']}.",
        "",
        f"* step {about['step']:,} of {about['steps']:,}, {about['tokens_a_step']:,} tokens a step",
    ]
    if "conversations" in about:
        lines.append(f"* {fine_tuned_on(about['conversations'])}")
    if "flops_6n_before" in about:
        before, own = about["flops_6n_before"], about["flops_6n"] * about["step"] / about["steps"]
        lines.append(
            f"* trained on from {about['options']['model']}: {before:.3g} FLOPs (6 N D) went into that checkpoint, "
            f"{own:.3g} into this run, {before + own:.3g} together"
        )
    if found is not None:
        lines.append(f"* validation: -log p {found} ({found.kind})")
    if "left_to_right" in about:
        lines.append(
            f"* a few rows: written from left to right = {about['left_to_right']:.4f} bits/byte, "
            f"bound <= {about['bound_of_the_same_rows']:.4f}"
        )
    lines += ["", "```", "remask sample FOLDER", "```", ""]
    return "\n".join(lines)
