"""Studies that are run: several at once, cut off, failed, and gone on with."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import submitit
from rich.console import Console
from submitit.core.utils import DelayedSubmission

from remask.cli import main
from remask.data.batches import Rows
from remask.data.tokens import open_tokens
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.locking import locked
from remask.scaling.fit.points import read
from remask.scaling.fit.published import QUOKKA
from remask.scaling.plan.settings import Settings
from remask.scaling.plan.sharing import chained, prefix
from remask.scaling.plan.study import Plan, Run
from remask.scaling.planning import family_of, plan
from remask.scaling.run.board import Board
from remask.scaling.run.cluster import Job
from remask.scaling.run.pool import Pool
from remask.scaling.run.run import run
from remask.scaling.run.single import command, compiling, finished


def study(folder: Path, corpus: Path, budget: float = 3e8) -> Plan:
    """A plan of four runs of a few steps."""
    prepared, runs = open_tokens(corpus), []
    for spec, family in (("Masked:objective=low_variance", Masked(objective="low_variance")), ("AR", Autoregressive())):
        settings = Settings(prepared, "6ND", 32, 4, lambda n: 1e-3)
        runs += settings.curve(spec, family, budget, [2.5e4, 6e4], QUOKKA)
    return saved(folder, corpus, runs)


def saved(folder: Path, corpus: Path, runs: list[Run]) -> Plan:
    """The plan of some runs, in its folder."""
    settings: dict[str, Any] = {"convention": "6ND", "length": 32, "validation_rows": 256}
    settings["corpus"] = open_tokens(corpus).manifest["fingerprint"]
    made = Plan(data=str(corpus), runs=tuple(runs), **settings)
    made.save(folder)
    return made


def test_a_study_is_run_and_fitted(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = study(tmp_path / "study", corpus)
    main(["scale", "run", str(tmp_path / "study"), "--workers", "2", "--accelerator", "cpu"])
    told = capsys.readouterr().err
    assert "0 of 4 runs are finished" in told and "4/4" in told and "nats a token" in told
    assert all(finished(tmp_path / "study", made, one) for one in made.runs)
    found = read(tmp_path / "study")
    assert set(found) == {"Masked:objective=low_variance", "AR"}
    for label, points in found.items():
        planned = [one for one in made.runs if one.label == label]
        assert sorted(points.n) == [one.n for one in planned] and sorted(points.d) == sorted(x.tokens for x in planned)
        assert sorted(points.c) == pytest.approx(sorted(one.flops_6n for one in planned))
    table = read(tmp_path / "study" / "runs.csv")
    for label, points in found.items():
        for what in ("n", "d", "c", "loss", "stderr", "unique"):
            assert sorted(getattr(table[label], what)) == sorted(getattr(points, what)), what
        assert set(points.unique) == {float(len(Rows(open_tokens(corpus).train, 32)) * 32)}
    main(["scale", "run", str(tmp_path / "study")])
    assert "4 of 4 runs are finished" in capsys.readouterr().err
    main(["scale", "fit", str(tmp_path / "study")])
    assert "2 runs are too few" in capsys.readouterr().out


@pytest.mark.parametrize("spec", ["Uniform", "Interpolating:alpha_0=0.5", "Masked:objective=count"])
def test_a_run_of_every_family_counts_as_it_was_planned(corpus: Path, tmp_path: Path, spec: str) -> None:
    """In this process: N without the time embedding, and D what is read, in the plan, the run and the table alike."""
    made = study(tmp_path / "study", corpus)
    prepared = open_tokens(corpus)
    one = Settings(prepared, "6ND", 32, 4, lambda n: 1e-3).curve(spec, family_of(spec), 3e8, [2.5e4], QUOKKA)[0]
    replace(made, runs=(one,)).save(tmp_path / "study")
    run(tmp_path / "study", where="here", accelerator="cpu")
    assert finished(tmp_path / "study", made, one)
    for source in (tmp_path / "study", tmp_path / "study" / "runs.csv"):
        (points,) = read(source).values()
        assert (points.n[0], points.d[0], points.c[0]) == (one.n, one.tokens, one.flops_6n)


def test_a_failed_run_is_named_and_tried_again(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = study(tmp_path / "study", corpus)
    good, bad = made.runs[0], replace(made.runs[1], heads=7)
    replace(made, runs=(good, bad)).save(tmp_path / "study")
    with pytest.raises(RemaskError, match=re.escape(f"1 runs failed: {bad.name}")):
        run(tmp_path / "study", attempts=2, accelerator="cpu")
    told = capsys.readouterr().err
    assert told.count(f"{bad.name} failed: remask: architecture.heads 7 does not divide") == 2 and "once more" in told
    assert finished(tmp_path / "study", made, good)
    made.save(tmp_path / "study")
    run(tmp_path / "study", only=bad.name, accelerator="cpu")
    assert finished(tmp_path / "study", made, made.runs[1])


def test_a_study_that_is_stopped_goes_on(corpus: Path, tmp_path: Path) -> None:
    made = study(tmp_path / "study", corpus, budget=6e10)
    arguments = [sys.executable, "-m", "remask", "scale", "run", str(tmp_path / "study"), "--workers", "2"]
    process = subprocess.Popen([*arguments, "--accelerator", "cpu"], stderr=subprocess.PIPE, text=True)
    first = [tmp_path / "study" / "runs" / one.name / "metrics.csv" for one in made.runs[:2]]
    until = time.monotonic() + 90
    while not all(path.exists() and len(path.read_text().splitlines()) > 2 for path in first):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    with pytest.raises(RemaskError, match="running or planning the study"):
        run(tmp_path / "study")
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "4 runs to go, all saved; the same command goes on" in told
    for one in made.runs[:2]:
        assert list((tmp_path / "study" / "runs" / one.name / "checkpoints").glob("*.ckpt"))
        assert not finished(tmp_path / "study", made, one)


def test_commands_say_what_the_options_say(corpus: Path, tmp_path: Path) -> None:
    made = study(tmp_path / "study", corpus)
    words = command(tmp_path / "study", made, made.runs[0], 1, "cpu")
    assert words[1:6] == ["-m", "remask", "train", "--data", str(corpus)]
    for option, value in (("--family", "Masked"), ("--family.objective", "low_variance"), ("--budget.steps", None)):
        assert words[words.index(option) + 1] == (value or str(made.runs[0].steps))


def test_a_job_of_a_cluster(corpus: Path, tmp_path: Path) -> None:
    """What SLURM runs, by submitit's own executor for one machine; and what it is asked for when its time is over."""
    made = study(tmp_path / "study", corpus)
    job = Job(tmp_path / "study", made.runs[0].name, 1, "cpu")
    submitit.LocalExecutor(folder=tmp_path / "jobs").submit(job).result()
    assert finished(tmp_path / "study", made, made.runs[0])
    again = job.checkpoint()
    assert isinstance(again, submitit.helpers.DelayedSubmission) and again.function is job


def test_what_a_cluster_is_asked_for(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs as sbatch gets them, by a stand-in for it that keeps the script and answers with a number."""
    shared(tmp_path / "study", corpus)
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


def test_runs_on_gpus_each_have_their_own(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = study(tmp_path / "study", corpus)
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


def test_runs_that_share_their_first_steps_come_to_the_same(corpus: Path, tmp_path: Path) -> None:
    """A run that began with another's state has the weights it would have had by itself, to the bit."""
    short, long = shared(tmp_path / "study", corpus)
    assert (short.after, long.after) == (None, short.name) and short.warmup == long.warmup
    assert 0 < prefix(short) < short.steps < long.steps
    run(tmp_path / "study", workers=2, accelerator="cpu")
    alone = Plan.load(tmp_path / "study")
    begun = tmp_path / "study" / "runs" / long.name / "run.json"
    assert json.loads(begun.read_text())["recipe"]["compile"] == "off", "as the one it comes after"
    begun.write_text(begun.read_text().replace('"compile": "off"', '"compile": "auto"'))
    assert compiling(tmp_path / "study", long) == "auto", "a run that has begun goes on as it did"
    replace(alone, runs=(replace(long, after=None),)).save(tmp_path / "alone")
    run(tmp_path / "alone", accelerator="cpu")
    weights = [tmp_path / name / "runs" / long.name / "latest" / "model.safetensors" for name in ("study", "alone")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    log = (tmp_path / "study" / "runs" / long.name / "log.txt").read_text()
    assert f"resumed at step {prefix(short):,}" in log
    assert "resumed" not in (tmp_path / "alone" / "runs" / long.name / "log.txt").read_text()
    steps = [
        [line.split(",")[0] for line in (weight.parents[1] / "metrics.csv").read_text().splitlines()]
        for weight in weights
    ]
    assert steps[0] == steps[1]


def test_a_curriculum_shares_nothing(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=r"Uniform:curriculum=0.5 changes its loss .* plan it without --share"):
        plan(corpus, tmp_path / "study", families=["Uniform:curriculum=0.5"], share=True, time=False)
    assert not (tmp_path / "study").exists()


def shared(folder: Path, corpus: Path) -> list[Run]:
    """A plan of one network at two budgets."""
    prepared, runs = open_tokens(corpus), []
    settings = Settings(prepared, "6ND", 32, 4, lambda n: 1e-3)
    for budget in (3e8, 6e8):
        runs += chained(runs, settings.curve("Masked", Masked(), budget, [2.5e4], QUOKKA))
    return list(saved(folder, corpus, runs).runs)


def test_a_plan_that_is_edited_meanwhile(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What runs is finished, nothing more begins, and nothing is lost; `remask scale plan` waits its turn."""
    made = study(tmp_path / "study", corpus)
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


def test_the_board(corpus: Path, tmp_path: Path) -> None:
    made = study(tmp_path / "study", corpus)
    board = Board(tmp_path / "study", list(made.runs), live=True)
    going, failed, ended, _ = made.runs
    board.set(going, "running")
    folder = tmp_path / "study" / "runs" / going.name
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("step,loss\n1,7.0\n2,6.5\n")
    board.set(failed, "failed", "architecture.heads 7 does not divide")
    board.set(ended, "finished", "6.1 nats a token")
    assert board.counts() == "1 finished, 1 running, 1 waiting, 1 failed"
    assert [row[:4] for row in board.rows()] == [
        (going.name, "running", f"2/{going.steps:,}", "6.500"),
        (failed.name, "failed", f"0/{failed.steps:,}", ""),
        (ended.name, "finished", f"0/{ended.steps:,}", ""),
    ]
    assert board.rows()[0][4].endswith(" left") and "about" in board.spent()
    console = Console(width=160, file=io.StringIO())
    console.print(board.table())
    assert "architecture.heads 7" in console.file.getvalue()  # type: ignore[attr-defined]


def test_what_cannot_be_run(corpus: Path, tmp_path: Path) -> None:
    made = study(tmp_path / "study", corpus)
    for options, says in (
        ({"workers": 0}, "workers is 0"),
        ({"only": "nothing"}, r"no run of .* has 'nothing' in its name; it holds Masked"),
    ):
        with pytest.raises(RemaskError, match=says):
            run(tmp_path / "study", **options)  # type: ignore[arg-type]
    replace(made, corpus="another").save(tmp_path / "study")
    with pytest.raises(RemaskError, match="holds another corpus than"):
        run(tmp_path / "study")
    one: Run = made.runs[0]
    with pytest.raises(RemaskError, match="names two runs"):
        replace(made, runs=(one, one))
    kept = json.loads((tmp_path / "study" / "plan.json").read_text())
    (tmp_path / "study" / "plan.json").write_text(json.dumps(kept | {"runs": kept["runs"][:1] * 2}))
    with pytest.raises(RemaskError, match="names two runs"):
        run(tmp_path / "study")
