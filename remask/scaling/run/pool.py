"""The runs of a study as processes of this machine, a few at a time."""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from remask.errors import Interrupted, RemaskError
from remask.scaling.plan.sharing import inherit, prefix
from remask.scaling.plan.study import FILE, Plan, Run
from remask.scaling.run.board import Board
from remask.scaling.run.results import read_planned, write_table
from remask.scaling.run.single import finished, recipe
from remask.signals import handled
from remask.training.process import TrainingProcess
from remask.training.states import stable_state


@dataclass
class Pool:
    """Processes of this machine, a few at a time."""

    study: Path
    plan: Plan
    todo: list[Run]
    workers: int
    attempts: int
    devices: int
    accelerator: str
    going: dict[str, TrainingProcess] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    seats: dict[str, list[int]] = field(default_factory=dict)
    """The GPUs of each run."""
    stopping: bool = False

    def run(self) -> None:
        """Until all are finished, or have failed as often as is allowed. Interrupted after a Ctrl-C, all saved."""
        waiting, edited = list(self.todo), False
        path = self.study / FILE
        written = path.read_bytes()
        board = Board(self.study, self.todo)
        try:
            with handled(self.stop), board.bars:
                while (waiting and not self.stopping and not edited) or self.going:
                    edited = edited or not path.exists() or path.read_bytes() != written
                    if not self.stopping and not edited:
                        self.fill(waiting, board)
                    time.sleep(0.2)
                    board.refresh_each_second()
                    waiting += self.collect_ended(board)
        finally:  # whatever was raised, nothing goes on unseen
            for process in self.going.values():
                process.tell(signal.SIGINT)
            for process in self.going.values():
                process.wait()
        to_go = sum(state != "finished" for state in board.states.values())
        if self.stopping:
            raise Interrupted(f"stopped with {to_go} runs to go, all saved; the same command goes on")
        if edited:
            raise RemaskError(
                f"{path} was edited while the study ran: what was running was finished, and nothing more "
                f"begun. {to_go} runs to go; the same command goes on, by the plan as it is now"
            )
        lost = [name for name, count in self.failures.items() if count >= self.attempts]
        if lost:
            raise RemaskError(
                f"{len(lost)} runs failed: {', '.join(lost)}; see their log.txt. The same command retries"
            )

    def fill(self, waiting: list[Run], board: Board) -> None:
        """Starts waiting runs while there are workers for them."""
        while len(self.going) < self.workers and not self.stopping:
            one = next((r for r in waiting if self.ready(r, waiting)), None)
            if one is None:
                return
            waiting.remove(one)
            inherit(self.study, self.plan, one)
            self.going[one.name] = self.start(one)
            if self.stopping:  # since the loop began: this one was not told
                self.going[one.name].tell(signal.SIGINT)
            board.set(one, "running")

    def collect_ended(self, board: Board) -> list[Run]:
        """Takes note of runs that have come to an end; those that are to be tried again."""
        again = []
        for one in [r for r in self.todo if r.name in self.going and self.going[r.name].status is not None]:
            process = self.going.pop(one.name)
            if finished(self.study, self.plan, one):
                board.set(one, "finished", self.loss_text(one))
                write_table(self.study, self.plan)
            elif not self.stopping:
                self.failures[one.name] = self.failures.get(one.name, 0) + 1
                retry = self.failures[one.name] < self.attempts
                board.set(one, "failed", process.last_words() + ("; once more" if retry else ""))
                again += [one] if retry else []
        return again

    def ready(self, one: Run, waiting: list[Run]) -> bool:
        """Whether a run need not wait for another, whose first steps it shares."""
        ahead = [r.name for r in waiting] + list(self.going)
        before = next((r for r in self.plan.runs if r.name == one.after), None)
        if before is None or before.name not in ahead:
            return True
        return stable_state(self.study / "runs" / before.name, prefix(before)).exists()

    def start(self, one: Run) -> TrainingProcess:
        """A run as a process, with its share of the cores or of the GPUs."""
        import torch

        share = max(1, torch.get_num_threads() // (self.workers * self.devices))  # of the cores this process may use
        threads = os.environ.get("OMP_NUM_THREADS", str(share))
        planned = recipe(self.study, self.plan, one, self.devices, self.accelerator)
        return TrainingProcess(planned, {"OMP_NUM_THREADS": threads, **self.cards(one)})

    def cards(self, one: Run) -> dict[str, str]:
        """Which GPUs a run sees, where there are any: as many as it has processes, and no other run's."""
        import torch

        count = torch.cuda.device_count() if self.accelerator != "cpu" else 0
        if not count:
            return {}
        taken = {card for name in self.going for card in self.seats.get(name, ())}
        free = [card for card in range(count) if card not in taken][: self.devices]
        if len(free) < self.devices:
            raise RemaskError(
                f"{self.workers} workers x {self.devices} devices are more than the {count} GPUs here; take fewer"
            )
        self.seats[one.name] = free
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        names = [name for name in seen.split(",") if name] or [str(card) for card in range(count)]
        return {"CUDA_VISIBLE_DEVICES": ",".join(names[card] for card in free)}

    def loss_text(self, one: Run) -> str:
        """The loss of a finished run."""
        row = read_planned(self.study, self.plan, one)
        return f"{row['loss']:.4f} nats a token" if row is not None else ""

    def stop(self) -> None:
        """Ctrl-C and SIGTERM are passed on, so that every run saves; a second one kills."""
        how = signal.SIGKILL if self.stopping else signal.SIGINT
        self.stopping = True
        for process in self.going.values():
            process.tell(how)
