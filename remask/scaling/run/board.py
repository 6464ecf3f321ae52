"""What the runs of a study are doing: a live table on a terminal, plain lines elsewhere."""

import csv
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from remask.scaling.plan.study import Run
from remask.terminal import duration, say

State = Literal["waiting", "running", "finished", "failed"]
SHOWN = 6
"""Finished runs that stay in sight."""


@dataclass
class Board:
    """The state of every run that is to be done."""

    study: Path
    runs: list[Run]
    states: dict[str, State] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    """What is to be said of a run beside its state: the loss of a finished one, why one failed."""
    began: dict[str, tuple[float, int]] = field(default_factory=dict)
    """When each run was started here, and the step it went on from."""
    start: float = field(default_factory=time.monotonic)
    live: bool = field(default_factory=sys.stderr.isatty)

    def __post_init__(self) -> None:
        self.states |= {one.name: "waiting" for one in self.runs if one.name not in self.states}

    def set(self, one: Run, state: State, said: str = "") -> None:
        """Notes a change, and says it where there is no table."""
        self.states[one.name], self.said[one.name] = state, said
        if state == "running":
            self.began[one.name] = time.monotonic(), self.progress(one)[0]
        elif not self.live:
            done = sum(s == "finished" for s in self.states.values())
            say(f"{done}/{len(self.runs)} {one.name} {state}: {said}  {self.spent()}".rstrip())

    def progress(self, one: Run) -> tuple[int, str]:
        """The last step in a run's metrics.csv, and its loss."""
        try:
            with open(self.study / "runs" / one.name / "metrics.csv", newline="") as file:
                rows = list(csv.DictReader(file))
            return int(rows[-1]["step"]), f"{float(rows[-1]['loss']):.3f}"
        except (OSError, IndexError, KeyError, ValueError, TypeError):  # none yet, or a row half written
            return 0, ""

    def spent(self) -> str:
        """Time since the start, and about how much is left, by the FLOPs that were done in it."""
        passed = time.monotonic() - self.start
        done = left = 0.0
        for one in self.runs:
            step = one.steps if self.states[one.name] == "finished" else self.progress(one)[0]
            before = self.began[one.name][1] if one.name in self.began else step
            done += one.flops_exact * (step - before) / one.steps
            left += 0.0 if self.states[one.name] == "failed" else one.flops_exact * (one.steps - step) / one.steps
        return f"{duration(passed)} spent" + (f", about {duration(passed * left / done)} left" if done and left else "")

    def counts(self) -> str:
        """How many runs are in each state."""
        every = list(self.states.values())
        return ", ".join(f"{every.count(s)} {s}" for s in ("finished", "running", "waiting", "failed") if s in every)

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """(run, state, steps, loss, time left or what is said) of those worth showing."""
        ended = [one for one in self.runs if self.states[one.name] == "finished"][-SHOWN:]
        found = []
        for one in self.runs:
            state, said = self.states[one.name], self.said.get(one.name, "")
            if state == "waiting" or (state == "finished" and one not in ended):
                continue
            step, loss = self.progress(one)
            if state == "running" and one.name in self.began:
                at, first = self.began[one.name]
                rate = (step - first) / max(1e-9, time.monotonic() - at)
                said = f"{duration((one.steps - step) / rate)} left" if rate > 0 else "starting"
            found.append((one.name, state, f"{step:,}/{one.steps:,}", loss, said))
        return found

    def table(self) -> Any:
        """The same as rich draws it."""
        from rich.table import Table

        drawn = Table(title=f"{self.study}: {self.counts()}", caption=self.spent(), box=None)
        for name in ("run", "", "steps", "loss", ""):
            drawn.add_column(name, justify="right" if name in ("steps", "loss") else "left")
        colours = {"running": "cyan", "finished": "green", "failed": "red"}
        for run, state, *others in self.rows():
            drawn.add_row(run, f"[{colours[state]}]{state}[/]", *others)
        return drawn

    @contextmanager
    def shown(self) -> Iterator[Callable[[], None]]:
        """Yields `refresh()`, to be called often: it draws the table anew once a second, where there is one."""
        if not self.live:
            yield lambda: None
            return
        from rich.console import Console
        from rich.live import Live

        with Live(self.table(), console=Console(stderr=True), auto_refresh=False) as screen:
            last = 0.0

            def refresh() -> None:
                nonlocal last
                if time.monotonic() - last > 1:
                    last = time.monotonic()
                    screen.update(self.table(), refresh=True)

            yield refresh
            screen.update(self.table(), refresh=True)
