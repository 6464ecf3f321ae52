"""JSON Lines that are read as a whole: what a hostile file holds is named with its line, by every reader of questions,
drafts and labelled or dated texts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remask.errors import RemaskError
from remask.evaluation.dated import dated_texts
from remask.evaluation.infilling import read_items
from remask.evaluation.reversal.sources import rows_in
from remask.robustness.drafts import drafts_of
from remask.robustness.labelled import labelled_of
from remask.scoring_files import lines_of
from remask.tasks.zeroshot import file_of, questions_of

Reader = Callable[[Path], Any]


def benchmark(path: Path) -> Any:
    return questions_of(file_of(f"piqa={path}", None)[0], path)


READERS: dict[str, tuple[Reader, dict[str, Any], str]] = {
    "labelled": (labelled_of, {"text": "x", "label": "a"}, "text"),
    "drafts": (drafts_of, {"prompt": "a", "text": "x"}, "text"),
    "dated": (lambda path: dated_texts(path, "date", "text", 4), {"text": "x", "date": "2008"}, "text"),
    "score": (lambda path: lines_of(path, "text"), {"text": "x"}, "text"),
    "reversal": (rows_in, {"prompt": "a", "completion": "x"}, "completion"),
    "infill": (read_items, {"task_id": "1", "prompt": "a", "canonical_solution": "x", "suffix": ""}, "suffix"),
    "eval": (benchmark, {"goal": "x", "sol1": "a", "sol2": "b", "label": 0}, "goal"),
}
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (DEEP, "nested too deeply"),
        ("9" * 5000, "digits"),
        (r'"a\ud800b"', "half a surrogate pair"),
        ('"a', "not JSON"),
    ],
    ids=["deep", "digits", "surrogate", "cut"],
)
def test_what_no_reader_can_use_is_named_with_its_line(name: str, value: str, says: str, tmp_path: Path) -> None:
    reader, row, field = READERS[name]
    other = json.dumps({**row, "task_id": "2"})[:-1]
    path = tmp_path / "a.jsonl"
    path.write_text(f'{json.dumps(row)}\n{other}, "{field}": {value}}}\n')
    with pytest.raises(RemaskError, match=rf"a\.jsonl, line 2: .*{says}"):
        list(reader(path))


@pytest.mark.parametrize("name", [name for name in READERS if name != "eval"])
def test_bytes_that_are_no_text_are_named_with_their_line(name: str, tmp_path: Path) -> None:
    reader, row, field = READERS[name]
    path = tmp_path / "a.jsonl"
    path.write_bytes(f"{json.dumps(row)}\n".encode() + b'{"%s": "caf\xe9"}\n' % field.encode())
    with pytest.raises(RemaskError, match=r"a\.jsonl, line 2: .*not UTF-8"):
        list(reader(path))


@pytest.mark.parametrize("name", READERS)
def test_marks_and_line_ends_that_are_none_change_nothing(name: str, tmp_path: Path) -> None:
    """A byte-order mark, \\r\\n, blank lines, an escaped pair, and U+2028 inside of a text."""
    reader, row, field = READERS[name]
    path = tmp_path / "a.jsonl"
    row = {**row, field: "x\u2028y\x85z \U0001f600"}
    path.write_bytes(f"{json.dumps(row)}\n".encode())
    plain = list(reader(path))
    path.write_bytes(b"\xef\xbb\xbf" + f"{json.dumps(row, ensure_ascii=False)}\r\n \r\n".encode())
    assert list(reader(path)) == plain and len(plain) == 1
