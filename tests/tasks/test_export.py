"""Questions of a task as rows of a file."""

import json
from pathlib import Path

import pytest

from remask.cli import main
from remask.data.conversations import read_conversations
from remask.errors import RemaskError
from remask.tasks.corpus import parse
from remask.tasks.export import questions


def test_rows_are_the_documents_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = "task:Sort+NameOf,items=2,people=12,documents=200,split=test"
    main(["questions", source, "--out", str(tmp_path / "rows.jsonl")])
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    texts = [one.prompt + one.answer for _, one in parse(source).examples()]
    assert [row["prompt"] + row["completion"] for row in rows] == list(dict.fromkeys(texts))
    read = [dict(one.turns) for one in read_conversations(tmp_path / "rows.jsonl")]
    assert [one["user"] + one["assistant"] for one in read] == list(dict.fromkeys(texts)), "fine-tuning reads them"
    assert f"{len(rows)} rows" in capsys.readouterr().err and len(rows) < 200


def test_the_prefix_may_be_left_out(tmp_path: Path) -> None:
    for number, source in enumerate(("Sort,documents=5", "task:Sort,documents=5")):
        questions(source, tmp_path / f"{number}.jsonl")
    assert (tmp_path / "0.jsonl").read_text() == (tmp_path / "1.jsonl").read_text()
    with pytest.raises(RemaskError, match="unknown task 'nothing'"):
        questions("nothing", tmp_path / "x.jsonl")
