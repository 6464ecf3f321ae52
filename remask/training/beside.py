"""Trainings beside each other on one machine, each a process of its own with its share of the cores.

Networks of a million parameters are too small for several cores: two trainings on one core each make more steps
together than one after the other on both.
"""

import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from remask.errors import Interrupted, RemaskError
from remask.signals import handled
from remask.terminal import INTERVAL, bars, duration, say
from remask.training.metrics import last_row
from remask.training.plan import read_run
from remask.training.process import INTERRUPTED, TrainingProcess
from remask.training.recipe import Recipe

AGAIN = 0.2
"""Seconds between two looks at the processes."""


def train_beside(lanes: Iterable[Iterator[Recipe | None]]) -> None:
    """Trains by the recipes of each lane, one after another, and the lanes beside each other.

    A lane gives its next recipe when the training before has ended, or None as long as it waits for another lane.
    RemaskError where a training fails, after the others were told to save and to end; Interrupted after a Ctrl-C.
    """
    going = [Lane(lane) for lane in lanes]
    threads = max(1, torch.get_num_threads() // max(1, len(going)))
    stopping: list[signal.Signals] = []

    def stop() -> None:
        if stopping:
            say("stopped at once, without saving")
        else:
            say("\nstopping after the steps that are being made; once more to stop at once, without saving")
        stopping.append(signal.SIGKILL if stopping else signal.SIGINT)
        for lane in going:
            lane.tell(stopping[-1])

    with handled(stop), shown() as show:
        try:
            while not stopping and not all(lane.done for lane in going):
                for lane in going:
                    if not stopping:
                        lane.go_on(threads)
                show(going)
                time.sleep(AGAIN)
        finally:
            for lane in going:
                lane.tell(stopping[-1] if stopping else signal.SIGINT)
            statuses = [lane.process.wait() for lane in going if lane.process is not None]
    if stopping:
        saved = "all saved" if set(statuses) <= {0, INTERRUPTED} else "not all saved: see log.txt of each run"
        raise Interrupted(f"stopped, {saved}; the same command goes on")


@dataclass
class Lane:
    """Trainings one after another."""

    recipes: Iterator[Recipe | None]
    process: TrainingProcess | None = None
    """The training that goes on."""
    done: bool = False
    since: float = field(default_factory=time.monotonic)

    def go_on(self, threads: int) -> None:
        """Takes note of a training that has ended, and begins the next one where there is none."""
        if self.process is not None:
            if self.process.status is None:
                return
            if self.process.status:
                raise RemaskError(
                    f"{self.name}: {self.process.last_words()}. All that it said is in {self.process.log}"
                )
            self.process = None
        recipe = None if self.done else next(self.recipes, self)
        self.done = self.done or recipe is self
        if isinstance(recipe, Recipe):
            self.since = time.monotonic()
            self.process = TrainingProcess(recipe, {"OMP_NUM_THREADS": str(threads)})

    def tell(self, number: signal.Signals) -> None:
        """Sends a signal to the training that goes on."""
        if self.process is not None:
            self.process.tell(number)

    @property
    def name(self) -> str:
        """What the training that goes on is called."""
        return "" if self.process is None else self.process.recipe.out.name

    def progress(self) -> tuple[int, int, str]:
        """Steps done, steps in all (0 while that is not known), and what was measured last."""
        out = self.process.recipe.out if self.process is not None else None
        found, row = (None, {}) if out is None else (read_run(out), last_row(out))
        if found is None or not row:
            return 0, 0 if found is None else found[1].steps, "starting"
        measured = f"loss {float(row['loss']):.3f}"
        if row.get("valid_bits_per_byte"):
            exact = row.get("valid_kind") == "exact"
            sign, error = ("=", "") if exact else ("<=", f" +- {float(row['valid_stderr']):.3f}")
            measured += f"  valid {sign} {float(row['valid_bits_per_byte']):.3f}{error} bits/byte"
        return int(row["step"]), found[1].steps, measured


@contextmanager
def shown() -> Iterator["Bars | Lines"]:
    """What shows the progress of the trainings: bars on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    shown = Bars()
    with shown.progress:
        yield shown


class Bars:
    """A bar for each training; that of a finished one stays."""

    def __init__(self) -> None:
        self.progress = bars()
        self.tasks: dict[tuple[str, float], Any] = {}
        self.last = 0.0

    def __call__(self, lanes: list[Lane]) -> None:
        if time.monotonic() - self.last < 1:
            return
        self.last = time.monotonic()
        for lane in lanes:
            if lane.process is not None:
                key = lane.name, lane.since
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
            if lane.process is not None:
                done, steps, info = lane.progress()
                count = f"{done:,}/{steps:,} steps  " if steps else ""
                say(f"{duration(self.last - self.start)}  {lane.name}: {count}{info}")
