"""Runs as jobs of a cluster."""

import json
import shutil
from pathlib import Path

import pytest
import submitit
from submitit.core.utils import DelayedSubmission

from remask.errors import RemaskError
from remask.scaling.plan.study import Plan
from remask.scaling.run.cluster import Job
from remask.scaling.run.run import run
from remask.scaling.run.single import finished
from tests.scaling.made import shared_study, small_study


def test_a_job_of_a_cluster(corpus: Path, tmp_path: Path) -> None:
    """What SLURM runs, by submitit's own executor for one machine; and what it is asked for when its time is over."""
    made = small_study(tmp_path / "study", corpus)
    job = Job(tmp_path / "study", made.runs[0].name, 1, "cpu")
    submitit.LocalExecutor(folder=tmp_path / "jobs").submit(job).result()
    assert finished(tmp_path / "study", made, made.runs[0])
    again = job.checkpoint()
    assert isinstance(again, submitit.helpers.DelayedSubmission) and again.function is job


def test_what_a_cluster_is_asked_for(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs as sbatch gets them, by a stand-in for it that keeps the script and answers with a number."""
    shared_study(tmp_path / "study", corpus)
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    if shutil.which("srun") is None:
        with pytest.raises(RemaskError, match="this machine has no SLURM"):
            run(tmp_path / "study", where="slurm")
    kept = tmp_path / "scripts"
    kept.mkdir()
    for name in ("sbatch", "srun"):
        (tools / name).write_text(
            f'#!/bin/sh\nn=$(ls {kept} | wc -l)\ncp "$1" {kept}/$n.sh\necho Submitted batch job 70$n\n'
        )
        (tools / name).chmod(0o755)
    with pytest.raises(RemaskError, match="does not say which jobs wait or run"):
        run(tmp_path / "study", where="slurm")
    queue = tools / "squeue"
    queue.write_text("#!/bin/sh\n")
    queue.chmod(0o755)
    run(tmp_path / "study", where="slurm", devices=2, accelerator="gpu", partition="long", hours=3)
    first, second = (path.read_text() for path in sorted(kept.iterdir()))
    for line in ("--gpus-per-node=2", "--ntasks-per-node=2", "--partition=long", "--time=180", "--signal=USR2@120"):
        assert f"#SBATCH {line}" in first
    assert "dependency" not in first and "#SBATCH --dependency=afterany:700" in second
    plan = Plan.load(tmp_path / "study")
    jobs = [DelayedSubmission.load(path) for path in (tmp_path / "study" / "slurm").glob("*.pkl")]
    assert sorted(job.function.name for job in jobs) == sorted(one.name for one in plan.runs)
    queue.write_text("#!/bin/sh\necho 701\n")  # the first has ended without a result
    run(tmp_path / "study", where="slurm")
    assert len(list(kept.iterdir())) == 3, "what waits or runs is not submitted again"
    assert set(json.loads((tmp_path / "study" / "slurm" / "jobs.json").read_text()).values()) == {"701", "702"}
