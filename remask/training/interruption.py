"""How a run ends before its last step, saved: by Ctrl-C or SIGTERM, or where the next step cannot be made."""

from typing import TYPE_CHECKING, Any

from remask.errors import RemaskError
from remask.terminal import say

if TYPE_CHECKING:
    import lightning


class StepFailed(RemaskError):
    """A step could not be made, for a reason outside the run, which is saved as it stands after the step before."""


class Interruption:
    """Whether the run is to end after the step that is being made."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self) -> None:
        """What Ctrl-C and SIGTERM do: the run ends after the step, saved. A second one ends it at once."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        say("\nstopping after this step; once more to stop at once, without saving")

    def agree(self, trainer: "lightning.Trainer") -> None:
        """Makes it known to all processes where one of them was asked to stop."""
        self.asked = trainer.strategy.reduce_boolean_decision(self.asked, all=False)


def forget_micro_batches(trainer: "lightning.Trainer", done: int) -> None:
    """Lets Lightning count as at the end of a step, after `done` micro-batches, and not those of one that failed."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    count: Any
    for count in (progress.total, progress.current):
        count.ready = count.started = count.processed = done
        count.completed = done - 1  # it counts one once its callbacks are through
