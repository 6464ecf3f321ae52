"""What a run does after each step, in this order: validate, log, publish, save, and stop where it is asked to."""

from typing import Any, cast

import lightning

from remask.training.ema import EMA
from remask.training.interruption import Interruption, StepFailed, forget_micro_batches
from remask.training.log import Log
from remask.training.module import Module
from remask.training.plan import Plan
from remask.training.publishing import Publishing
from remask.training.saving import Saving
from remask.training.start import Setup
from remask.training.validation import Validation


class AfterStep(lightning.Callback):
    """Validates, logs, publishes `latest/` and `best/`, and saves the training state, each where it is due.

    Stops the run cleanly when asked to (Ctrl-C), and when too many steps were skipped.
    """

    def __init__(
        self, setup: Setup, plan: Plan, average: EMA | None, log: Log, interruption: Interruption
    ) -> None:  # fmt: skip
        self.plan, self.accumulate = plan, setup.recipe.accumulate
        self.logbook, self.interruption = log, interruption
        self.validation = Validation(setup, plan, average)
        self.publishing = Publishing(setup, plan, average, self.validation)
        self.saving = Saving(setup.recipe, plan)
        self._last = -1

    @property
    def state_key(self) -> str:
        """The name in training states, among them those of earlier versions."""
        return "CheckpointCallback"

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._last = trainer.global_step
        self.validation.watch_calls(cast(Module, pl_module).denoiser)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        module, step = cast(Module, pl_module), trainer.global_step
        if step == self._last:
            return  # in the middle of an accumulated step
        self._last = step
        self.interruption.agree(trainer)
        module.give_up_if_hopeless(lambda: next(iter(self.saving.states(step)), None))
        better = self.validation.validate_if_due(trainer, module, step)
        # before saving: a state holds what is logged so far
        self.logbook.write_if_due(trainer, module, self.validation.estimate, self.validation.by_level)
        self.write_if_due(trainer, module, step, better)
        trainer.should_stop = trainer.should_stop or self.interruption.asked
        self.logbook.start_clock()

    def write_if_due(self, trainer: lightning.Trainer, module: Module, step: int, better: bool) -> None:
        """Writes what is due: the state before the decay of wsd, the published folders, the training state."""
        if step and step == module.optimizer.stable(self.plan.steps):
            self.saving.save_stable(trainer, step)
        saving = step >= self.plan.steps or self.interruption.asked or self.saving.is_due(trainer, step)
        if better or saving:
            names = [name for name, due in (("best", better), ("latest", saving)) if due]
            self.publishing.publish(trainer, module, names, step)
        if saving:  # after publishing: a state that is there says that its folders are too
            self.saving.save(trainer, step)

    def on_exception(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: Any) -> None:
        """Saves the run as it stands after the last whole step, where the next one could not be made."""
        alone = trainer.world_size == 1  # other processes would not come to save
        if isinstance(exception, StepFailed) and alone and self._last > 0:
            forget_micro_batches(trainer, self._last * self.accumulate)
            self.publishing.publish(trainer, cast(Module, pl_module), ["latest"], self._last)
            self.saving.save(trainer, self._last)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.validation.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.validation.best = state_dict["best"]
