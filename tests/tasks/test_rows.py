"""Rows of a prompt and its completion: those of the corpus, each on a line of its own."""

import json
from pathlib import Path

import pytest
from corpora import texts

from remask.cli import main
from remask.errors import RemaskError
from remask.tasks.rows import write_rows

SOURCE = "task:Sudoku+Countdown,holes=3,numbers=2,documents=12"


def test_a_row_is_a_document_cut_before_its_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["rows", SOURCE, "--out", str(tmp_path / "data" / "rows.jsonl")])
    assert "12 questions of the train split" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "data" / "rows.jsonl").read_text().splitlines()]
    assert [row["prompt"] + row["completion"] for row in rows] == texts(SOURCE)
    assert all(row["prompt"][-1] == ":" and row["completion"][0] == " " and len(row) == 2 for row in rows)


def test_the_same_rows_again_and_nothing_else_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(SOURCE, path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    write_rows(SOURCE, path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    with pytest.raises(RemaskError, match=r"rows\.jsonl holds something else"):
        write_rows(f"{SOURCE},split=valid", path)
    assert path.read_bytes() == before[0]


def test_the_splits_have_other_rows(tmp_path: Path) -> None:
    names = ("train", "valid", "test")
    for split in names:
        write_rows(f"task:Sudoku,holes=4,documents=60,split={split}", tmp_path / f"{split}.jsonl")
    train, valid, test = (set((tmp_path / f"{split}.jsonl").read_text().splitlines()) for split in names)
    assert train and not train & valid and not train & test and not valid & test


@pytest.mark.parametrize(
    ("source", "out", "says"),
    [
        ("stdlib", "a.jsonl", "stdlib is no task"),
        ("task:Sudoku", "a.json", r"it is a file named \*\.jsonl"),
        ("task:Sudko", "a.jsonl", "Did you mean 'Sudoku'"),
        ("task:Sudoku,documents=0", "a.jsonl", "at least 1 document"),
    ],
)
def test_wrong_use_is_named(source: str, out: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=says):
        write_rows(source, tmp_path / out)
    assert not list(tmp_path.iterdir())
