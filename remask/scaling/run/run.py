"""Runs a planned study: each run an ordinary `remask train` directory, several at once, as often as it takes.

    remask scale run studies/novels --workers 2

What is finished is skipped, what was cut off goes on, what failed is tried again. Ctrl-C saves every run. runs.csv has
a row for each finished one.
"""

from pathlib import Path
from typing import Literal

from remask.data.tokens import open_tokens
from remask.errors import RemaskError
from remask.locking import locked
from remask.scaling.plan.sharing import inherit
from remask.scaling.plan.study import Plan
from remask.scaling.run.cluster import submit
from remask.scaling.run.pool import Pool
from remask.scaling.run.results import write_table
from remask.scaling.run.single import finished, recipe
from remask.terminal import say

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
            requeued when its time is over; needs `pip install 'remask[cluster]'`).
        workers: Runs at once, which share this machine's cores.
        only: Runs whose name contains this.
        attempts: How often a run that fails is tried, where local.
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
        write_table(study, plan)
        if where == "slurm":
            submit(study, plan, todo, devices, accelerator, partition, hours)
        elif where == "here":
            from remask.training.run import train

            for one in todo:
                inherit(study, plan, one)
                train(recipe(study, plan, one, devices, accelerator))
                write_table(study, plan)
        else:
            Pool(study, plan, todo, workers, attempts, devices, accelerator).run()
