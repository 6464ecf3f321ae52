"""What is shown of the runs while they go on."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from remask.scaling.run.board import Board
from tests.scaling.made import small_study


def test_the_board(corpus: Path, tmp_path: Path) -> None:
    made = small_study(tmp_path / "study", corpus)
    board = Board(tmp_path / "study", list(made.runs), live=True)
    board.bars.live.console = Console(width=160, file=io.StringIO())
    going, failed, ended, _ = made.runs
    folder = tmp_path / "study" / "runs" / going.name
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("step,loss\n1,7.0\n2,6.5\n")
    for one in (going, failed, ended):
        board.set(one, "running")
    board.set(failed, "failed", "architecture.heads 7 does not divide")
    board.set(ended, "finished", "6.1 nats a token")
    board.refresh()
    assert board.counts() == "1 finished, 1 running, 1 waiting, 1 failed"
    whole, running = board.bars.tasks
    share = (ended.flops_exact + 2 / going.steps * going.flops_exact) / sum(one.flops_exact for one in made.runs)
    assert whole.completed / (whole.total or 0) == pytest.approx(share)
    assert (running.description, running.completed) == (going.name, 2)
    assert running.fields["shown"] == f"step 2/{going.steps:,}  loss 6.500"
    said = board.bars.console.file.getvalue()  # type: ignore[attr-defined]
    assert f"0/4 {failed.name} failed: architecture.heads 7" in said and f"1/4 {ended.name} finished: 6.1" in said
