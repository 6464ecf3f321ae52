"""Trainings beside each other on one machine, each a process of its own with its share of the cores.

Networks of a million parameters are too small for several cores: two trainings on one core each make more steps
together than one after the other on both.
"""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from remask.errors import Interrupted, RemaskError
from remask.files import write_atomically
from remask.signals import end_with_parent, handled
from remask.terminal import INTERVAL, duration, say
from remask.training.plan import read_run
from remask.training.recipe import Recipe

LOG = "log.txt"
"""What a training says, in its run directory."""
AGAIN = 0.2
"""Seconds between two looks at the processes."""


def training_command(recipe: Recipe) -> list[str]:
    """The command that trains by a recipe, which is written to recipe.yaml in the run directory."""
    path = recipe.out / "recipe.yaml"
    write_atomically(path, yaml.safe_dump(recipe.to_dict(), sort_keys=False))
    return [sys.executable, "-m", "remask", "train", "--config", str(path), "--out", str(recipe.out)]


def last_row(run: Path) -> dict[str, str]:
    """The last whole row of a run's metrics.csv; empty where there is none yet."""
    try:
        with open(run / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError):
        return {}
    whole = (row for row in reversed(rows) if all(isinstance(value, str) for value in row.values()))  # none cut off
    return next(whole, {})


def train_beside(lanes: Iterable[Iterator[Recipe | None]]) -> None:
    """Trains by the recipes of each lane, one after another, and the lanes beside each other.

    A lane gives its next recipe when the training before has ended, or None as long as it waits for another lane.
    RemaskError where a training fails, after the others were told to save and to end; Interrupted after a Ctrl-C, all
    saved.
    """
    going = [Lane(lane) for lane in lanes]
    cores = max(1, (os.cpu_count() or 1) // max(1, len(going)))
    stopping: list[signal.Signals] = []

    def stop() -> None:  # a second time, they end at once
        stopping.append(signal.SIGKILL if stopping else signal.SIGINT)
        for lane in going:
            lane.tell(stopping[-1])

    with handled(stop), shown() as show:
        try:
            while not stopping and not all(lane.done for lane in going):
                for lane in going:
                    lane.go_on(cores)
                show(going)
                time.sleep(AGAIN)
        finally:
            for lane in going:
                lane.tell(stopping[-1] if stopping else signal.SIGINT)
            for lane in going:
                lane.wait()
    if stopping:
        raise Interrupted("stopped, all saved; the same command goes on")


@dataclass
class Lane:
    """Trainings one after another."""

    recipes: Iterator[Recipe | None]
    recipe: Recipe | None = None
    """That of the training that goes on."""
    process: "subprocess.Popen[bytes] | None" = None
    done: bool = False
    said: int = 0
    """Bytes of the log before this training."""
    since: float = field(default_factory=time.monotonic)
    told: signal.Signals | None = None
    """The signal that the training has been sent."""

    def go_on(self, cores: int) -> None:
        """Takes note of a training that has ended, and begins the next one where there is none."""
        if self.process is not None and self.recipe is not None:
            if self.process.poll() is None:
                return
            if self.process.returncode:
                raise RemaskError(f"{self.recipe.out}: {self.last_line()}")
            self.process = self.recipe = None
        if self.done:
            return
        try:
            self.recipe = next(self.recipes)
        except StopIteration:
            self.done = True
            return
        if self.recipe is not None:
            self.begin(self.recipe, cores)

    def begin(self, recipe: Recipe, cores: int) -> None:
        """A training as a process of its own group, which a Ctrl-C at the terminal does not reach by itself."""
        recipe.out.mkdir(parents=True, exist_ok=True)
        log = recipe.out / LOG
        self.said, self.since, self.told = log.stat().st_size if log.exists() else 0, time.monotonic(), None
        environment = {**os.environ, "OMP_NUM_THREADS": str(cores)}
        with open(log, "ab") as written:
            self.process = subprocess.Popen(
                training_command(recipe), stdout=written, stderr=written, env=environment,
                start_new_session=True, preexec_fn=end_with_parent,
            )  # fmt: skip

    def tell(self, number: signal.Signals) -> None:
        """Sends a signal to the training that goes on, once: a second SIGINT would end it without saving."""
        if self.process is not None and self.process.poll() is None and self.told != number:
            self.told = number
            self.process.send_signal(number)

    def wait(self) -> None:
        """Until the training has ended."""
        if self.process is not None:
            self.process.wait()

    def last_line(self) -> str:
        """What the training said last."""
        assert self.recipe is not None
        lines = (self.recipe.out / LOG).read_bytes()[self.said :].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "the training ended without a word"

    @property
    def name(self) -> str:
        """What the training is called."""
        return "" if self.recipe is None else self.recipe.out.name

    def progress(self) -> tuple[int, int, str]:
        """Steps done, steps in all (0 while that is not known), and what was measured last."""
        assert self.recipe is not None
        found, row = read_run(self.recipe.out), last_row(self.recipe.out)
        if found is None:
            return 0, 0, "starting"
        steps = found[1].steps
        if not row:
            return 0, steps, "starting"
        parts = [f"loss {float(row['loss']):.3f}"]
        if row.get("valid_bits_per_byte"):
            sign = "=" if row.get("valid_kind") == "exact" else "<="
            parts.append(f"valid {sign} {float(row['valid_bits_per_byte']):.3f} bits/byte")
        return int(row["step"]), steps, "  ".join(parts)


@contextmanager
def shown() -> Iterator["Bars | Lines"]:
    """What shows the progress of the trainings: bars on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    bars = Bars()
    with bars.progress:
        yield bars


class Bars:
    """A bar for each training, that of a finished one stays."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[info]}"),
        )  # fmt: skip
        self.progress = Progress(*columns, console=Console(stderr=True))
        self.tasks: dict[tuple[int, str, float], Any] = {}

    def __call__(self, lanes: list[Lane]) -> None:
        for number, lane in enumerate(lanes):
            if lane.recipe is None:
                continue
            key = (number, lane.name, lane.since)
            if key not in self.tasks:
                self.tasks[key] = self.progress.add_task(lane.name, total=None, count="", info="starting")
            done, steps, info = lane.progress()
            count = f"{done:,}/{steps:,} steps" if steps else ""
            self.progress.update(self.tasks[key], total=steps or None, completed=done, count=count, info=info)


class Lines:
    """A line for each training, now and then."""

    def __init__(self) -> None:
        self.last = self.start = time.monotonic()

    def __call__(self, lanes: list[Lane]) -> None:
        if time.monotonic() - self.last < INTERVAL:
            return
        self.last = time.monotonic()
        for lane in lanes:
            if lane.recipe is not None:
                done, steps, info = lane.progress()
                count = f"{done:,}/{steps:,} steps  " if steps else ""
                say(f"{duration(self.last - self.start)}  {lane.name}: {count}{info}")
