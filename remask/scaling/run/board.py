"""What the runs of a study are doing: bars on a terminal, a line for each run that ends."""

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from remask.scaling.plan.study import Run
from remask.terminal import duration, say
from remask.training.metrics import last_row

State = Literal["waiting", "running", "finished", "failed"]


@dataclass
class Board:
    """The state of every run that is to be done. Its bars, `with board.bars`, are seen on a terminal only."""

    study: Path
    runs: list[Run]
    live: bool = field(default_factory=sys.stderr.isatty)

    def __post_init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TimeRemainingColumn())
        console = Console(stderr=True)
        columns = (*columns, TextColumn("{task.fields[shown]}"))
        self.bars = Progress(*columns, console=console, disable=not self.live, speed_estimate_period=600)
        self.states: dict[str, State] = {one.name: "waiting" for one in self.runs}
        self.steps = {one.name: self.progress(one)[0] for one in self.runs}
        self.tasks: dict[str, TaskID] = {}
        total = sum(one.flops_exact for one in self.runs)
        self.all = self.bars.add_task(str(self.study), total=total, shown="")
        self.bars.tasks[0].completed = self.flops()  # done before: no measure of the speed
        self.start = self.last = time.monotonic()

    def set(self, one: Run, state: State, said: str = "") -> None:
        """Notes a change of state. Of a run that ended, a line says its loss, or why it failed."""
        self.refresh()
        self.states[one.name] = state
        if state == "running":
            self.tasks[one.name] = self.bars.add_task(
                one.name, total=one.steps, completed=self.steps[one.name], shown="starting"
            )
            return
        if one.name in self.tasks:
            self.bars.remove_task(self.tasks.pop(one.name))
        if state == "finished":
            self.steps[one.name] = one.steps
        ended = sum(value == "finished" for value in self.states.values())
        line = f"{ended}/{len(self.runs)} {one.name} {state}: {said}  {self.time_left()}".rstrip()
        if self.live:
            self.bars.console.print(line, markup=False, highlight=False)
        else:
            say(line)

    def refresh(self) -> None:
        """Reads how far the running ones are."""
        self.last = time.monotonic()
        for one in self.runs:
            if one.name in self.tasks:
                step, loss = self.progress(one)
                self.steps[one.name] = step
                self.bars.update(self.tasks[one.name], completed=step, shown=f"step {step:,}/{one.steps:,}  {loss}")
        self.bars.update(self.all, completed=self.flops(), shown=self.counts())

    def refresh_each_second(self) -> None:
        """`refresh`, to be called more often."""
        if time.monotonic() - self.last > 1:
            self.refresh()

    def flops(self) -> float:
        """FLOPs of the steps that are done."""
        return sum(one.flops_exact * min(1.0, self.steps[one.name] / one.steps) for one in self.runs)

    def progress(self, one: Run) -> tuple[int, str]:
        """The last step in a run's metrics.csv, and its loss."""
        row = last_row(self.study / "runs" / one.name)
        return (int(row["step"]), f"loss {float(row['loss']):.3f}") if row else (0, "")

    def time_left(self) -> str:
        """Time since the start, and about how much is left at the FLOPs a second of the last while."""
        left = self.bars.tasks[0].time_remaining
        about = f", about {duration(left)} left" if left else ""
        return f"{duration(time.monotonic() - self.start)} spent{about}"

    def counts(self) -> str:
        """How many runs are in each state."""
        every = list(self.states.values())
        return ", ".join(f"{every.count(s)} {s}" for s in ("finished", "running", "waiting", "failed") if s in every)
