"""The runs of a study as jobs of a SLURM cluster, through submitit."""

import json
import subprocess
from pathlib import Path
from typing import Any

from remask.errors import RemaskError
from remask.files import write_atomically
from remask.scaling.plan.sharing import inherit
from remask.scaling.plan.study import Plan, Run
from remask.scaling.run.single import recipe
from remask.terminal import say


class Job:
    """A run as SLURM runs it. When its time is over it is requeued, and goes on where it was saved."""

    def __init__(self, study: Path, name: str, devices: int, accelerator: str) -> None:
        self.study, self.name, self.devices, self.accelerator = study, name, devices, accelerator

    def __call__(self) -> None:
        from remask.training.run import train

        plan = Plan.load(self.study)
        (one,) = (r for r in plan.runs if r.name == self.name)
        inherit(self.study, plan, one)
        train(recipe(self.study, plan, one, self.devices, self.accelerator))

    def checkpoint(self, *_: Any) -> Any:
        """What submitit asks for when the job is cut off."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def submit(
    study: Path, plan: Plan, todo: list[Run], devices: int, accelerator: str, partition: str | None, hours: int
) -> None:
    """One SLURM job for each run that has none waiting or running, through submitit. slurm/jobs.json names them."""
    try:
        import submitit
    except ImportError:
        raise RemaskError("SLURM needs submitit: pip install 'remask[cluster]'") from None
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
    listed, alive = study / "slurm" / "jobs.json", list_jobs()
    try:
        jobs: dict[str, str] = json.loads(listed.read_text()) if listed.exists() else {}
    except ValueError as error:
        raise RemaskError(f"{listed} is damaged: {error}; remove it, and see squeue for what waits or runs") from None
    jobs = {name: number for name, number in jobs.items() if number in alive}
    for one in sorted(todo, key=lambda r: r.steps):
        if one.name in jobs:
            say(f"{one.name}: job {jobs[one.name]} is waiting or running")
            continue
        executor.update_parameters(dependency=f"afterany:{jobs[one.after]}" if one.after in jobs else None)
        job = executor.submit(Job(study.resolve(), one.name, devices, accelerator))
        jobs[one.name] = job.job_id
        write_atomically(listed, json.dumps(jobs, indent=1) + "\n")
        say(f"{one.name}: job {job.job_id}")


def list_jobs() -> set[str]:
    """Numbers of this user's jobs that wait or run."""
    try:
        found = subprocess.run(["squeue", "--me", "--noheader", "--format=%A"], capture_output=True, text=True)
    except OSError as error:
        raise RemaskError(f"SLURM does not say which jobs wait or run: {error}") from None
    if found.returncode:
        raise RemaskError(f"SLURM does not say which jobs wait or run: {found.stderr.strip()}")
    return set(found.stdout.split())
