"""What is shown of the runs while they go on."""

import io
from pathlib import Path

from rich.console import Console

from remask.scaling.run.board import Board
from tests.scaling.made import small_study


def test_the_board(corpus: Path, tmp_path: Path) -> None:
    made = small_study(tmp_path / "study", corpus)
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
