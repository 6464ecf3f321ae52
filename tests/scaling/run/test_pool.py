"""Runs as processes: several at once, cut off, failed, and gone on with."""

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import killing
import pytest

from remask.errors import RemaskError
from remask.locking import locked
from remask.scaling.plan.study import Run
from remask.scaling.planning import plan
from remask.scaling.run.pool import Pool
from remask.scaling.run.run import run
from remask.scaling.run.single import finished
from tests.scaling.made import small_study


@pytest.mark.slow
def test_a_study_that_is_stopped_goes_on(corpus: Path, tmp_path: Path) -> None:
    made = small_study(tmp_path / "study", corpus, budget=1.2e11)
    arguments = ["scale", "run", str(tmp_path / "study"), "--workers", "2", "--accelerator", "cpu"]
    process = killing.start(arguments, tmp_path / "log")
    first = [tmp_path / "study" / "runs" / one.name / "metrics.csv" for one in made.runs[:2]]
    until = time.monotonic() + 240
    while not all(path.exists() and len(path.read_text().splitlines()) > 2 for path in first):
        assert process.exitcode is None and time.monotonic() < until
        time.sleep(0.05)
    with pytest.raises(RemaskError, match="running or planning the study"):
        run(tmp_path / "study")
    os.kill(process.pid, signal.SIGINT)
    assert killing.finish(process, 60) == 130
    assert "4 runs to go, all saved; the same command goes on" in (tmp_path / "log").read_text()
    for one in made.runs[:2]:
        assert list((tmp_path / "study" / "runs" / one.name / "checkpoints").glob("*.ckpt"))
        assert not finished(tmp_path / "study", made, one)


def test_runs_on_gpus_each_have_their_own(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small_study(tmp_path / "study", corpus)
    pool = Pool(tmp_path / "study", made, list(made.runs), 2, 1, 2, "auto")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    seen = []
    for one in made.runs[:2]:
        seen.append(pool.cards(one))
        pool.going[one.name] = subprocess.Popen(["true"])
    assert seen == [{"CUDA_VISIBLE_DEVICES": "4,5"}, {"CUDA_VISIBLE_DEVICES": "6,7"}]
    with pytest.raises(RemaskError, match="2 workers x 2 devices are more than the 4 GPUs here"):
        pool.cards(made.runs[2])
    del pool.going[made.runs[0].name]
    assert pool.cards(made.runs[2]) == {"CUDA_VISIBLE_DEVICES": "4,5"}
    pool.accelerator = "cpu"
    assert pool.cards(made.runs[3]) == {}


def test_a_plan_that_is_edited_meanwhile(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What runs is finished, nothing more begins, and nothing is lost; `remask scale plan` waits its turn."""
    made = small_study(tmp_path / "study", corpus)
    pool = Pool(tmp_path / "study", made, list(made.runs), 1, 1, 1, "cpu")
    begin = pool.start

    def start(one: Run) -> subprocess.Popen[bytes]:
        replace(made, runs=made.runs[:3]).save(tmp_path / "study")
        return begin(one)

    pool.start = start  # type: ignore[method-assign]
    with pytest.raises(RemaskError, match=r"was edited while the study ran.* 3 runs to go"):
        pool.run()
    assert [finished(tmp_path / "study", made, one) for one in made.runs] == [True, False, False, False]
    assert f"1/4 {made.runs[0].name} finished: " in capsys.readouterr().err
    with locked(tmp_path / "study", "running"), pytest.raises(RemaskError, match="running or planning the study"):
        plan(
            corpus, tmp_path / "study", families=["Masked"], budgets=[1e14], length=32, validation_rows=256, time=False
        )
    edited = replace(made.runs[0], steps=made.runs[0].steps + 1, tokens=made.runs[0].tokens + 128)
    with pytest.raises(RemaskError, match=r"holds a finished run of D 2304.0, where the plan says 2432.0"):
        finished(tmp_path / "study", made, edited)
    for change, says in (
        ({"heads": 1}, "architecture.heads 2, where the plan says 1"),
        ({"lr": 0.5}, "optimizer.lr .* where the plan says 0.5"),
        ({"family": {"name": "Masked", "objective": "bound"}}, "objective low_variance, where the plan says bound"),
    ):
        with pytest.raises(RemaskError, match=says):
            finished(tmp_path / "study", made, replace(made.runs[0], **change))  # type: ignore[arg-type]
