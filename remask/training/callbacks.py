"""What happens beside the steps: averaging, validating, saving, publishing."""

import os
from itertools import islice
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from remask.checkpoints import folder
from remask.data.batches import Rows, in_order
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.likelihood import Estimate, validate
from remask.terminal import say
from remask.training.log import Log
from remask.training.module import Module
from remask.training.states import stable_state, states, step_of

KEPT = 2
"""Training states kept: the last, and the one before in case the last is damaged."""


class AtomicIO(TorchCheckpointIO):
    """Writes beside, then renames: under its final name a checkpoint is whole or absent."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        fresh = Path(str(path) + ".tmp")
        fresh.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(fresh, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            fresh.unlink(missing_ok=True)
            raise RemaskError(f"cannot write {path}: {error}. The checkpoints before it are whole") from error
        os.replace(fresh, path)


class EMA(lightning.Callback):
    """An exponential moving average of the weights; what is published, validated and sampled."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {}
        self.steps = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        live = _denoiser(pl_module).state_dict()
        start = self.weights or live
        self.weights = {k: start[k].detach().to(v.device).clone() for k, v in live.items()}

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        if trainer.global_step == self.steps:
            return
        self.steps = trainer.global_step
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        live = _denoiser(pl_module).state_dict()
        for name, weight in self.weights.items():
            weight.lerp_(live[name], 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.weights, self.steps = state_dict["weights"], state_dict["steps"]


class CheckpointCallback(lightning.Callback):
    """Validates, saves the training state, and publishes `latest/` and `best/`.

    Stops the run cleanly when asked to (Ctrl-C), and when too many steps were skipped.
    """

    def __init__(
        self,
        out: Path,
        rows: Rows | None,
        tokenizer: Tokenizer,
        about: dict[str, Any],
        every: int,
        validate_every: int,
        validation_rows: int,
        batch: int,
        average: EMA | None,
        log: Log,
    ) -> None:
        self.out, self.rows, self.tokenizer, self.about = out, rows, tokenizer, about
        self.every, self.validate_every, self.validation_rows = every, validate_every, validation_rows
        self.batch, self.average, self.logbook = batch, average, log
        self.best = float("inf")
        self.estimate: Estimate | None = None
        self.asked_to_stop = False
        self._last = -1

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        module, step = cast(Module, pl_module), trainer.global_step
        self.estimate = None
        if step == self._last:
            return  # in the middle of an accumulated step
        self._last = step
        self.asked_to_stop = trainer.strategy.reduce_boolean_decision(self.asked_to_stop, all=False)
        kept = [path for path in states(self.out) if step_of(path) <= step]  # not a damaged one of later
        module.give_up(str(kept[0]) if kept else None)
        over = step >= module.steps
        better = False
        if self.rows is not None and (over or (self.validate_every and step % self.validate_every == 0)):
            self.estimate = self.validate(trainer, module)
            better = self.estimate.bits_per_byte < self.best
            self.best = min(self.best, self.estimate.bits_per_byte)
        self.logbook.write(trainer, module, self.estimate)  # before saving: a state holds what is logged so far
        saving = over or step % self.every == 0 or self.asked_to_stop
        if module.optimizer.branch and step == module.optimizer.stable(module.steps):
            trainer.save_checkpoint(stable_state(self.out, step))
        if trainer.is_global_zero:
            if better:
                self.publish(module, "best", step)
            if saving:
                self.publish(module, "latest", step)
        if saving:  # after publishing: a state that is there says that its folders are too
            self.save(trainer)
        trainer.should_stop = trainer.should_stop or self.asked_to_stop
        self.logbook.start_clock()

    def validate(self, trainer: lightning.Trainer, module: Module) -> Estimate:
        """The bound of the validation rows, each process scoring its share of them."""
        assert self.rows is not None
        denoiser = module.denoiser
        live = {k: v.clone() for k, v in denoiser.state_dict().items()} if self.average else {}
        if self.average:
            denoiser.load_state_dict(self.average.weights)
        batches = enumerate(in_order(self.rows, self.validation_rows, self.batch))
        mine = islice(batches, trainer.global_rank, None, trainer.world_size)
        moved = ((number, (batch.to(module.device), sizes)) for number, (batch, sizes) in mine)
        with trainer.precision_plugin.forward_context():
            found = validate(denoiser, module.family, moved)
        if self.average:
            denoiser.load_state_dict(live)
        numbers = torch.tensor([found.nats, found.stderr**2, found.tokens, found.bytes], dtype=torch.float64)
        nats, variance, tokens, size = trainer.strategy.reduce(numbers.to(module.device), reduce_op="sum").tolist()
        return Estimate(nats, variance**0.5, found.kind, int(tokens), int(size))

    def save(self, trainer: lightning.Trainer) -> None:
        """Writes the training state and drops all but the newest few."""
        trainer.save_checkpoint(self.out / "checkpoints" / f"step-{trainer.global_step:08}.ckpt")
        if trainer.is_global_zero:
            ours = [path for path in states(self.out) if step_of(path) <= trainer.global_step]
            for stale in ours[KEPT:]:
                stale.unlink(missing_ok=True)

    def publish(self, module: Module, name: str, step: int) -> None:
        """Writes a published folder with the weights to use."""
        weights = self.average.weights if self.average else module.denoiser.state_dict()
        about = {**self.about, "step": step}
        if self.estimate is not None:
            about["validation"] = {**vars(self.estimate), "bits_per_byte": self.estimate.bits_per_byte}
        folder.save(
            self.out / name,
            weights,
            module.denoiser.architecture,
            module.family,
            self.tokenizer,
            about,
            card(module, about, self.estimate),
        )

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._last = trainer.global_step


def newest_whole(out: Path, module: Module) -> Path | None:
    """The newest training state of this module that can be read. A damaged one is named and left where it is."""
    wanted = {name: weight.shape for name, weight in module.state_dict().items()}
    for path in states(out):
        try:
            state = torch.load(path, map_location="meta", weights_only=True)
            found = {name: weight.shape for name, weight in state["state_dict"].items()}
            if found != wanted or state["global_step"] != step_of(path) or "remask" not in state:
                raise RemaskError("not a state of this run")
            return path
        except Exception as error:  # whatever a damaged file makes the reader raise
            say(f"{path} is damaged ({(str(error) or repr(error)).splitlines()[0]}); trying the one before")
    return None


def card(module: Module, about: dict[str, Any], found: Estimate | None) -> str:
    """The README of a published folder."""
    shape = module.denoiser.architecture
    lines = [
        f"# {type(module.family).__name__} language model, {shape.parameters:,} parameters",
        "",
        f"{shape.non_embedding:,} without embeddings. Trained with remask on {about.get('data', 'unknown data')}.",
        "",
        f"* step {about['step']:,} of {about.get('steps', 0):,}, {about.get('tokens_a_step', 0):,} tokens a step",
    ]
    if found is not None:
        lines.append(f"* validation: -log p {found} ({found.kind})")
    lines += ["", "```", "remask sample FOLDER", "```", ""]
    return "\n".join(lines)


def _denoiser(module: lightning.LightningModule) -> torch.nn.Module:
    return cast(Module, module).denoiser
