"""A training as a process of its own, which a Ctrl-C at the terminal does not reach by itself."""

import os
import signal
import subprocess
import sys

import yaml

from remask.files import write_atomically
from remask.processes import ended
from remask.signals import end_with_parent
from remask.training.recipe import Recipe

INTERRUPTED = 130
"""The status of a training that was told to stop, and has saved what there was."""


def training_command(recipe: Recipe) -> list[str]:
    """The command that trains by a recipe, which is written to recipe.yaml in the run directory."""
    path = recipe.out / "recipe.yaml"
    write_atomically(path, yaml.safe_dump(recipe.to_dict(), sort_keys=False))
    return [sys.executable, "-m", "remask", "train", "--config", str(path), "--out", str(recipe.out)]


class TrainingProcess:
    """`remask train` by a recipe. What it says is in log.txt of the run directory."""

    def __init__(self, recipe: Recipe, environment: dict[str, str]) -> None:
        """Begins. It ends with the process that began it, saved, where the system is Linux."""
        self.recipe = recipe
        self.told: signal.Signals | None = None
        """The last signal that it was sent."""
        recipe.out.mkdir(parents=True, exist_ok=True)
        self.log = recipe.out / "log.txt"
        self.before = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                training_command(recipe), stdout=log, stderr=log, env={**os.environ, **environment},
                start_new_session=True, preexec_fn=end_with_parent,
            )  # fmt: skip

    @property
    def status(self) -> int | None:
        """Its exit status; None while it goes on."""
        return self.process.poll()

    def tell(self, number: signal.Signals) -> None:
        """Sends a signal, if it goes on, and once only: a second SIGINT would end it without saving."""
        if self.told != number and self.status is None:
            self.told = number
            self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        return self.process.wait()

    def last_words(self) -> str:
        """Why it failed: what it said last, or by which signal it was ended."""
        if (self.status or 0) < 0:
            return ended(self.status or 0, "the training")
        lines = self.log.read_bytes()[self.before :].decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("remask: ") if lines else "the training ended without a word"
