"""Runs a planned study: each run an ordinary `remask train` directory, several at once, as often as it takes.

    remask scale run studies/novels --workers 2

What is finished is skipped, what was cut off goes on, what failed is tried again. Ctrl-C saves every run. runs.csv has
a row for each finished one.
"""

import csv
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from remask.data.tokens import open_tokens
from remask.errors import Interrupted, RemaskError
from remask.families import build
from remask.locking import locked
from remask.scaling.live import Board
from remask.scaling.points import save
from remask.scaling.sharing import inherit, prefix
from remask.scaling.study import FILE, Plan, Run, optimizer
from remask.terminal import say
from remask.train.states import stable_state

Where = Literal["here", "local", "slurm"]


def run(
    study: Path,
    where: Where = "local",
    workers: int = 1,
    only: str = "",
    attempts: int = 2,
    devices: int = 1,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    partition: str | None = None,
    hours: int = 24,
) -> None:
    """Executes the runs of a study that are not finished.

    Args:
        study: Folder made by `remask scale plan`.
        where: here (in this process, one after another), local (processes of this machine), or slurm (one job each,
            requeued when its time is over; needs `pip install remask[cluster]`).
        workers: Runs at once, which share this machine's cores.
        only: Runs whose name contains this.
        attempts: How often a run that fails is tried.
        devices: Processes of each run.
        accelerator: cpu, gpu, or whichever is there.
        partition: Of SLURM.
        hours: Time limit of a SLURM job; a run that needs more is requeued and goes on.
    """
    for name, value in (("workers", workers), ("attempts", attempts), ("devices", devices), ("hours", hours)):
        if value < 1:
            raise RemaskError(f"{name} is {value}; it must be at least 1")
    study = Path(study)
    plan = Plan.load(study)
    if open_tokens(Path(plan.data)).manifest["fingerprint"] != plan.corpus:
        raise RemaskError(f"{plan.data} holds another corpus than {study} was planned for")
    wanted = [one for one in plan.runs if only in one.name]
    if not wanted:
        raise RemaskError(
            f"no run of {study} has {only!r} in its name; it holds {', '.join(r.name for r in plan.runs)}"
        )
    with locked(study, "running or planning the study"):
        todo = [one for one in wanted if not finished(study, plan, one)]
        say(f"{study}: {len(wanted) - len(todo)} of {len(wanted)} runs are finished")
        tabulate(study, plan)
        if where == "slurm":
            submit(study, plan, todo, devices, accelerator, partition, hours)
        elif where == "here":
            from remask.train.run import train

            for one in todo:
                inherit(study, plan, one)
                train(**options(study, plan, one, devices, accelerator))
                tabulate(study, plan)
        else:
            Pool(study, plan, todo, workers, attempts, devices, accelerator).run()


def finished(study: Path, plan: Plan, one: Run) -> bool:
    """Whether a run has come to its end. RemaskError where its folder holds another than was planned."""
    row = plan.row(study, one)
    if row is None:
        return False
    found, wanted = {"N": row["n"], "D": row["d"]}, {"N": float(one.n), "D": float(one.tokens)}
    if found != wanted:
        raise RemaskError(
            f"{study / 'runs' / one.name} holds a finished run of N {found['N']:,.0f}, D {found['D']:,.0f}; the plan "
            f"says N {one.n:,}, D {one.tokens:,}. Remove the folder, or plan the run under another name"
        )
    return True


def tabulate(study: Path, plan: Plan) -> None:
    """Writes runs.csv: a row for every finished run of the plan, which `remask scale fit` reads as well."""
    rows = []
    for one in plan.runs:
        row = plan.row(study, one)
        if row is None:
            continue
        rows.append({**row, "exact": one.flops_exact, "seconds": spent(study / "runs" / one.name / "metrics.csv")})
    if rows:
        save(study / "runs.csv", rows)


def spent(metrics: Path) -> float | str:
    """Seconds of training, or nothing where the file does not say."""
    try:
        with open(metrics, newline="") as file:
            return float(list(csv.DictReader(file))[-1]["seconds"])
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return ""


def die_with_parent() -> None:
    """Asks Linux to interrupt this process, which then saves, when the one that started it dies, even of kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


def options(study: Path, plan: Plan, one: Run, devices: int = 1, accelerator: str = "auto") -> dict[str, Any]:
    """The arguments of `remask.train.run.train` for a run."""
    from remask.model.sizes import Overrides
    from remask.train.optim import Budget

    return {
        "data": Path(plan.data),
        "out": study / "runs" / one.name,
        "family": build(one.family),
        "model": "tiny",
        "architecture": Overrides(layers=one.layers, width=one.width, heads=one.heads, ffn=one.ffn),
        "budget": Budget(steps=one.steps),
        "optimizer": optimizer(one),
        "length": plan.length,
        "batch": one.batch,
        "validation_rows": plan.validation_rows,
        "validate_every": one.steps,
        "devices": devices,
        "accelerator": accelerator,
    }


def command(study: Path, plan: Plan, one: Run, devices: int, accelerator: str) -> list[str]:
    """The same as a command."""
    from remask.train.plan import plain

    found = [sys.executable, "-m", "remask", "train"]
    for name, value in options(study, plan, one, devices, accelerator).items():
        given = plain(value)
        if name == "family":
            found += ["--family", given["class_path"]]
            given = {"family": {k: v for k, v in given["init_args"].items() if v is not None}}
        else:
            given = {name: {k: v for k, v in given.items() if v is not None} if isinstance(given, dict) else given}
        for key, part in given.items():
            pairs = part.items() if isinstance(part, dict) else [("", part)]
            found += [x for k, v in pairs for x in (f"--{key}.{k}".rstrip("."), str(v))]
    return found


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
    going: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
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
            with self.signals(), board.shown() as refresh:
                while (waiting and not self.stopping and not edited) or self.going:
                    edited = edited or not path.exists() or path.read_bytes() != written
                    if not self.stopping and not edited:
                        self.fill(waiting, board)
                    time.sleep(0.2)
                    refresh()
                    waiting += self.ended(board)
        finally:  # whatever was raised, nothing goes on unseen
            for process in self.going.values():
                process.send_signal(signal.SIGINT)
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
        while len(self.going) < self.workers:
            one = next((r for r in waiting if self.ready(r, waiting)), None)
            if one is None:
                return
            waiting.remove(one)
            inherit(self.study, self.plan, one)
            self.going[one.name] = self.start(one)
            board.set(one, "running")

    def ended(self, board: Board) -> list[Run]:
        """Takes note of runs that have come to an end; those that are to be tried again."""
        again = []
        for one in [r for r in self.todo if r.name in self.going and self.going[r.name].poll() is not None]:
            del self.going[one.name]
            if finished(self.study, self.plan, one):
                board.set(one, "finished", self.told(one))
                tabulate(self.study, self.plan)
            elif not self.stopping:
                self.failures[one.name] = self.failures.get(one.name, 0) + 1
                retry = self.failures[one.name] < self.attempts
                board.set(one, "failed", self.last(one) + ("; once more" if retry else ""))
                again += [one] if retry else []
        return again

    def ready(self, one: Run, waiting: list[Run]) -> bool:
        """Whether a run need not wait for another, whose first steps it shares."""
        ahead = [r.name for r in waiting] + list(self.going)
        before = next((r for r in self.plan.runs if r.name == one.after), None)
        if before is None or before.name not in ahead:
            return True
        return stable_state(self.study / "runs" / before.name, prefix(before)).exists()

    def start(self, one: Run) -> "subprocess.Popen[bytes]":
        """A run as a process of its own group, which a Ctrl-C at the terminal does not reach by itself."""
        folder = self.study / "runs" / one.name
        folder.mkdir(parents=True, exist_ok=True)
        cores = max(1, (os.cpu_count() or 1) // (self.workers * self.devices))
        environment = {"OMP_NUM_THREADS": str(cores), **os.environ, **self.cards(one)}
        with open(folder / "log.txt", "ab") as log:
            return subprocess.Popen(
                command(self.study, self.plan, one, self.devices, self.accelerator),
                stdout=log, stderr=log, env=environment, start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip

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

    def told(self, one: Run) -> str:
        """The loss of a finished run."""
        row = self.plan.row(self.study, one)
        return f"{row['loss']:.4f} nats a token" if row is not None else ""

    def last(self, one: Run) -> str:
        """The last line of a run's log."""
        lines = (self.study / "runs" / one.name / "log.txt").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM are passed on, so that every run saves; a second one kills."""

        def stop(number: int, _: Any) -> None:
            how = signal.SIGKILL if self.stopping else signal.SIGINT
            self.stopping = True
            for process in self.going.values():
                process.send_signal(how)

        try:
            before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Job:
    """A run as SLURM runs it. When its time is over it is requeued, and goes on where it was saved."""

    def __init__(self, study: Path, name: str, devices: int, accelerator: str) -> None:
        self.study, self.name, self.devices, self.accelerator = study, name, devices, accelerator

    def __call__(self) -> None:
        from remask.train.run import train

        plan = Plan.load(self.study)
        (one,) = (r for r in plan.runs if r.name == self.name)
        inherit(self.study, plan, one)
        train(**options(self.study, plan, one, self.devices, self.accelerator))

    def checkpoint(self, *_: Any) -> Any:
        """What submitit asks for when the job is cut off."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def submit(
    study: Path, plan: Plan, todo: list[Run], devices: int, accelerator: str, partition: str | None, hours: int
) -> None:
    """One SLURM job for each run, through submitit."""
    try:
        import submitit
    except ImportError:
        raise RemaskError("SLURM needs submitit: pip install remask[cluster]") from None
    try:
        executor = submitit.SlurmExecutor(folder=study / "slurm", max_num_timeout=1000)
    except RuntimeError as error:
        raise RemaskError(f"this machine has no SLURM: {error}") from None
    executor.update_parameters(
        time=60 * hours,
        ntasks_per_node=devices,
        gpus_per_node=None if accelerator == "cpu" else devices,
        cpus_per_task=8,
        partition=partition,
        job_name="remask",
        signal_delay_s=120,
    )
    jobs: dict[str, str] = {}
    for one in sorted(todo, key=lambda r: r.steps):
        executor.update_parameters(dependency=f"afterany:{jobs[one.after]}" if one.after in jobs else None)
        job = executor.submit(Job(study.resolve(), one.name, devices, accelerator))
        jobs[one.name] = job.job_id
        say(f"{one.name}: job {job.job_id}")
