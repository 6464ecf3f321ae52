"""Runs a planned study: each run an ordinary `remask train` directory, several at once, as often as it takes.

    remask scale run studies/novels --workers 2

What is finished is skipped, what was cut off goes on, what failed is tried again. Ctrl-C saves every run.
"""

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
from remask.scaling.plan import Plan, Run
from remask.scaling.points import of_run
from remask.terminal import duration, say

Where = Literal["here", "local", "slurm"]
State = Literal["waiting", "running", "finished", "failed"]


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
    with locked(study, "running the study"):
        todo = [one for one in wanted if not finished(study, one)]
        say(f"{study}: {len(wanted) - len(todo)} of {len(wanted)} runs are finished")
        if where == "slurm":
            submit(study, plan, todo, devices, accelerator, partition, hours)
        elif where == "here":
            for one in todo:
                from remask.train.run import train

                train(**options(study, plan, one, devices, accelerator))
        else:
            Pool(study, plan, todo, workers, attempts, devices, accelerator).run()


def finished(study: Path, one: Run) -> bool:
    """Whether a run has come to its end."""
    path = study / "runs" / one.name / "latest" / "config.json"
    return path.exists() and of_run(path) is not None


def options(study: Path, plan: Plan, one: Run, devices: int = 1, accelerator: str = "auto") -> dict[str, Any]:
    """The arguments of `remask.train.run.train` for a run."""
    from remask.model.sizes import Overrides
    from remask.train.optim import Budget, Optimizer

    return {
        "data": Path(plan.data),
        "out": study / "runs" / one.name,
        "family": build(one.family),
        "model": "tiny",
        "architecture": Overrides(layers=one.layers, width=one.width, heads=one.heads, ffn=one.ffn),
        "budget": Budget(steps=one.steps),
        "optimizer": Optimizer(lr=one.lr),
        "length": plan.length,
        "batch": one.batch,
        "validation_rows": 256,
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
    stopping: bool = False

    def run(self) -> None:
        """Until all are finished, or have failed as often as is allowed. Interrupted after a Ctrl-C, all saved."""
        waiting, start = list(self.todo), time.monotonic()
        done = 0
        with self.signals():
            while (waiting and not self.stopping) or self.going:
                while waiting and not self.stopping and len(self.going) < self.workers:
                    one = waiting.pop(0)
                    self.going[one.name] = self.start(one)
                time.sleep(0.2)
                for one in self.todo:
                    process = self.going.get(one.name)
                    if process is None or process.poll() is None:
                        continue
                    del self.going[one.name]
                    if finished(self.study, one):
                        done += 1
                        spent = duration(time.monotonic() - start)
                        say(f"{done}/{len(self.todo)} {one.name}: {self.told(one)}  {spent}")
                    elif not self.stopping:
                        self.failures[one.name] = self.failures.get(one.name, 0) + 1
                        again = self.failures[one.name] < self.attempts
                        say(f"{one.name} failed: {self.last(one)}" + ("; once more" if again else ""))
                        waiting += [one] if again else []
        if self.stopping:
            raise Interrupted(f"stopped with {len(self.todo) - done} runs to go, all saved; the same command goes on")
        lost = [name for name, count in self.failures.items() if count >= self.attempts]
        if lost:
            raise RemaskError(
                f"{len(lost)} runs failed: {', '.join(lost)}; see their log.txt. The same command retries"
            )

    def start(self, one: Run) -> "subprocess.Popen[bytes]":
        """A run as a process of its own group, which a Ctrl-C at the terminal does not reach by itself."""
        folder = self.study / "runs" / one.name
        folder.mkdir(parents=True, exist_ok=True)
        cores = max(1, (os.cpu_count() or 1) // self.workers)
        environment = {"OMP_NUM_THREADS": str(cores), **os.environ}
        with open(folder / "log.txt", "ab") as log:
            return subprocess.Popen(
                command(self.study, self.plan, one, self.devices, self.accelerator),
                stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip

    def told(self, one: Run) -> str:
        """The loss of a finished run."""
        row = of_run(self.study / "runs" / one.name / "latest" / "config.json")
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
        executor = submitit.SlurmExecutor(folder=study / "slurm")
    except RuntimeError as error:
        raise RemaskError(f"this machine has no SLURM: {error}") from None
    executor.update_parameters(
        time=60 * hours, ntasks_per_node=devices, partition=partition, job_name="remask", signal_delay_s=120
    )
    for one in todo:
        job = executor.submit(Job(study.resolve(), one.name, devices, accelerator))
        say(f"{one.name}: job {job.job_id}")
