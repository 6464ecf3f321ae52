"""When a run saves its training state, and how states are written and dropped."""

import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.plugins.io import TorchCheckpointIO

from remask.training.base import Training
from remask.training.plan import Plan
from remask.training.states import KEPT, list_states, stable_state, state_path, step_of, write_state

SAVED_RECENTLY = 15.0
"""Seconds after a save in which a run does not save again, unless it is told how often to."""


class AtomicIO(TorchCheckpointIO):
    """Under its final name a checkpoint is whole or absent."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_state(checkpoint, Path(path))


class Saving:
    """The training states of a run: every so many steps, and not within some seconds of the last one."""

    def __init__(self, recipe: Training, plan: Plan) -> None:
        self.out, self.unless_recent = recipe.out, recipe.save_every is None
        self.every = recipe.save_every or max(1, plan.steps // 20)
        self.saved_at = time.monotonic()

    def is_due(self, trainer: lightning.Trainer, step: int) -> bool:
        """Whether the run saves after a step that is neither its last one nor followed by a stop."""
        if step % self.every:
            return False
        late = not self.unless_recent or time.monotonic() - self.saved_at > SAVED_RECENTLY
        return bool(trainer.strategy.broadcast(late))  # the processes' clocks differ

    def save(self, trainer: lightning.Trainer, step: int) -> None:
        """Writes the training state and drops all but the newest few."""
        self.saved_at = time.monotonic()
        trainer.save_checkpoint(state_path(self.out, step))
        if trainer.is_global_zero:
            for stale in self.states(step)[KEPT:]:
                stale.unlink(missing_ok=True)

    def save_stable(self, trainer: lightning.Trainer, step: int) -> None:
        """Writes the state that a larger budget goes on from, and drops that of a smaller one."""
        trainer.save_checkpoint(kept := stable_state(self.out, step))
        if trainer.is_global_zero:
            for stale in kept.parent.glob("stable-*.ckpt"):
                if stale != kept:
                    stale.unlink(missing_ok=True)

    def states(self, step: int) -> list[Path]:
        """The training states of this run up to a step, the newest first, and no damaged one of later."""
        return [path for path in list_states(self.out) if step_of(path) <= step]
