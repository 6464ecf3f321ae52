"""The benchmark of scores names what is wrong with its files before it measures anything."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def score(load_script: Callable[[str], Any]) -> Any:
    return load_script("score")


@pytest.mark.parametrize(
    ("option", "content", "says"),
    [
        ("--items", "", "file.jsonl holds no lines: items are lines such as"),
        ("--items", "\n \n", "file.jsonl holds no lines"),
        ("--items", '{"prompt": "a"}', "line 1: it has 'prompt', and needs a text 'text' or 'continuation'"),
        ("--items", '\n{"text": 3}', "line 2: it has 'text', and needs a text"),
        ("--items", "[]", "line 1: it is not a JSON object but a list"),
        ("--questions", "", "file.jsonl holds no lines"),
        ("--questions", '{"prompt": "a", "answers": ["b"]}', "line 1: it has 1 answers; a question has 2 or more"),
        ("--questions", '{"answers": ["b", "c"]}', "needs a text 'query' or 'prompt'"),
        ("--questions", '{"query": "a"}', "line 1: it has 0 answers"),
    ],
)
def test_a_file_of_nothing_is_named(
    score: Any, masked_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    option: str, content: str, says: str,
) -> None:  # fmt: skip
    path = tmp_path / "file.jsonl"
    path.write_text(content)
    monkeypatch.setattr(sys, "argv", ["score.py", "--quick", "--run", str(masked_run), option, str(path)])
    with pytest.raises(SystemExit) as ended:
        score.main()
    assert ended.value.code == 2 and says in capsys.readouterr().err


def test_no_items_are_asked_for(
    score: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["score.py", "--quick", "--limit", "0"])
    with pytest.raises(SystemExit):
        score.main()
    assert "--limit is 0; it must be at least 1" in capsys.readouterr().err
