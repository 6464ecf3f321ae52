"""Trainings beside each other: each as it would be alone; one that waits, fails or is stopped."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import killing
import pytest
from runs import metrics, wait_for

from remask.errors import RemaskError
from remask.model.sizes import SizeOverrides
from remask.training.beside import train_beside
from remask.training.metrics import last_row
from remask.training.optim import Budget
from remask.training.process import TrainingProcess
from remask.training.recipe import Recipe
from remask.training.run import train
from remask.training.states import list_states

SHAPE = SizeOverrides(layers=2, width=32, heads=2, ffn=64)
BESIDE = """
import sys
from pathlib import Path
from test_beside import recipe
from remask.errors import Interrupted
from remask.training.beside import train_beside
corpus, out = map(Path, sys.argv[1:])
try:
    train_beside([iter([recipe(corpus, out / "one", 3000)]), iter([recipe(corpus, out / "two", 3000)])])
except Interrupted as error:
    print(error)
"""


def recipe(corpus: Path, out: Path, steps: int) -> Recipe:
    return Recipe(
        data=corpus, out=out, architecture=SHAPE, length=64, batch=8, precision="fp32", compile="off",
        accelerator="cpu", budget=Budget(steps=steps), validation_rows=4, log_every=1,
    )  # fmt: skip


def test_each_is_as_it_would_be_alone_and_of_those_beside_one_that_fails_nothing_is_lost(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("remask.training.beside.INTERVAL", 0.5)
    short, long = recipe(corpus, tmp_path / "short", 9), recipe(corpus, tmp_path / "long", 5000)
    nothing = recipe(tmp_path / "nowhere", tmp_path / "nothing", 5)

    def waiting() -> Iterator[Recipe | None]:
        yield short
        while not last_row(long.out):
            yield None
        yield nothing

    with pytest.raises(RemaskError, match=r"nothing: .*nowhere"):
        train_beside([waiting(), iter([long])])
    said = capsys.readouterr().err
    assert "short: starting" in said and "long: " in said
    assert list_states(long.out) and 0 < len(metrics(long.out)) < 5000
    alone = recipe(corpus, tmp_path / "alone", 9)
    train(alone)
    assert killing.same(killing.weights(alone.out), killing.weights(short.out))


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], TrainingProcess]:
    """Begins a shell script in place of a training."""

    def begin(script: str) -> TrainingProcess:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))
        begun = TrainingProcess(recipe(tmp_path, tmp_path / "run", 1), {})
        while not begun.log.read_text().endswith("begun\n"):
            time.sleep(0.01)
        return begun

    return begin


def test_a_training_that_is_killed_is_not_blamed_for_its_last_words(program: Callable[[str], TrainingProcess]) -> None:
    begun = program("echo begun; exec sleep 60")
    begun.tell(signal.SIGKILL)
    begun.wait()
    assert begun.last_words() == "the training was ended by SIGKILL, as the system does where memory is short"


def test_a_training_is_told_once_to_stop(program: Callable[[str], TrainingProcess]) -> None:
    begun = program("trap 'echo told' INT; echo begun; while sleep 0.05; do :; done")
    begun.tell(signal.SIGINT)
    while "told" not in begun.log.read_text():
        time.sleep(0.01)
    begun.tell(signal.SIGINT)
    time.sleep(0.2)
    begun.tell(signal.SIGKILL)
    assert begun.wait() == -signal.SIGKILL and begun.log.read_text().count("told") == 1


def test_the_last_row_is_one_that_is_whole(tmp_path: Path) -> None:
    assert last_row(tmp_path) == {}
    table = tmp_path / "metrics.csv"
    for text in ("", "\0", "hello\nworld\n", "step,loss,lr\n", "step,loss,lr\n10,2.5", "step,loss,lr\n10,x,1\n"):
        table.write_text(text)
        assert last_row(tmp_path) == {}
    table.write_text("step,loss,lr\n10,2.5,1\n20,2.0,1\n30,1.")
    assert last_row(tmp_path) == {"step": "20", "loss": "2.0", "lr": "1"}


def test_ctrl_c_saves_all(corpus: Path, tmp_path: Path) -> None:
    process = killing.begin(BESIDE, tmp_path / "log", corpus, tmp_path)
    wait_for(lambda: all(last_row(tmp_path / name) for name in ("one", "two")), process)
    os.kill(process.pid, signal.SIGINT)
    assert killing.finish(process, 60) == 0
    said = (tmp_path / "log").read_text()
    assert "once more to stop at once, without saving" in said
    assert "stopped, all saved; the same command goes on" in said
    for name in ("one", "two"):
        out = tmp_path / name
        assert list_states(out) and "stopping after this step" in (out / "log.txt").read_text()
        assert int(last_row(out)["step"]) < 3000
