"""Studies that are run: several at once, cut off, failed, and gone on with."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import submitit

from remask.cli import main
from remask.data.tokens import open_tokens
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.scaling.plan import Plan, Run, curve
from remask.scaling.points import read
from remask.scaling.published import QUOKKA
from remask.scaling.run import Job, command, finished, run


def study(folder: Path, corpus: Path, budget: float = 3e8) -> Plan:
    """A plan of four runs of a few steps."""
    prepared, runs = open_tokens(corpus), []
    for spec, family in (("Masked:objective=low_variance", Masked(objective="low_variance")), ("AR", Autoregressive())):
        rate = lambda n: 1e-3  # noqa: E731
        runs += curve(spec, family, budget, [2.5e4, 6e4], QUOKKA, "6ND", 32, 4, rate, prepared, None)
    made = Plan(
        data=str(corpus), corpus=prepared.manifest["fingerprint"], convention="6ND", length=32, runs=tuple(runs)
    )
    made.save(folder)
    return made


def test_a_study_is_run_and_fitted(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = study(tmp_path / "study", corpus)
    main(["scale", "run", str(tmp_path / "study"), "--workers", "2", "--accelerator", "cpu"])
    told = capsys.readouterr().err
    assert "0 of 4 runs are finished" in told and "4/4" in told and "nats a token" in told
    assert all(finished(tmp_path / "study", one) for one in made.runs)
    found = read(tmp_path / "study")
    assert set(found) == {"Masked:objective=low_variance", "AR"}
    for label, points in found.items():
        planned = [one for one in made.runs if one.label == label]
        assert sorted(points.n) == [one.n for one in planned] and sorted(points.d) == sorted(x.tokens for x in planned)
        assert sorted(points.c) == pytest.approx(sorted(one.flops_6n for one in planned))
    main(["scale", "run", str(tmp_path / "study")])
    assert "4 of 4 runs are finished" in capsys.readouterr().err
    main(["scale", "fit", str(tmp_path / "study")])
    assert "2 runs are too few" in capsys.readouterr().out


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
    assert finished(tmp_path / "study", good)
    made.save(tmp_path / "study")
    run(tmp_path / "study", only=bad.name, accelerator="cpu")
    assert finished(tmp_path / "study", made.runs[1])


def test_a_study_that_is_stopped_goes_on(corpus: Path, tmp_path: Path) -> None:
    made = study(tmp_path / "study", corpus, budget=6e10)
    arguments = [sys.executable, "-m", "remask", "scale", "run", str(tmp_path / "study"), "--workers", "2"]
    process = subprocess.Popen([*arguments, "--accelerator", "cpu"], stderr=subprocess.PIPE, text=True)
    first = [tmp_path / "study" / "runs" / one.name / "metrics.csv" for one in made.runs[:2]]
    until = time.monotonic() + 90
    while not all(path.exists() and len(path.read_text().splitlines()) > 2 for path in first):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    with pytest.raises(RemaskError, match="running the study"):
        run(tmp_path / "study")
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "4 runs to go, all saved; the same command goes on" in told
    for one in made.runs[:2]:
        assert list((tmp_path / "study" / "runs" / one.name / "checkpoints").glob("*.ckpt"))
        assert not finished(tmp_path / "study", one)


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
    assert finished(tmp_path / "study", made.runs[0])
    again = job.checkpoint()
    assert isinstance(again, submitit.helpers.DelayedSubmission) and again.function is job
    if shutil.which("srun") is None:
        with pytest.raises(RemaskError, match="this machine has no SLURM"):
            run(tmp_path / "study", where="slurm")


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
    replace(made, runs=(one, one)).save(tmp_path / "study")
    with pytest.raises(RemaskError, match="names two runs"):
        run(tmp_path / "study")
