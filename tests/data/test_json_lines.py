"""Lines of JSON keep their numbers and their contents, and what is wrong with one is said with its number."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remask.data.json_lines import numbered_lines, object_of, value_of
from remask.errors import RemaskError


@settings(max_examples=30)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2), max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_bytes("\r\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode())
    found = [(number, object_of(line, "there")) for number, line in numbered_lines(path)]
    assert found == [(2 * i + 1, row) for i, row in enumerate(rows)]


def test_separators_of_unicode_end_no_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('\ufeff{"a": "b\u2028c\x85d"}\n'.encode())
    ((_, line),) = numbered_lines(path)
    assert value_of(line, "there") == {"a": "b\u2028c\x85d"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\n{", r"a\.jsonl, line 2: it is not JSON \(.* at character 2\)"),
        (b"\n" + b"[" * 100_000, "line 2: it is not JSON .*too deeply"),
        (b"{}\n\n[1]", "line 3: it is not a JSON object but a list"),
        (b"{}\nab\xff", r"a\.jsonl, line 2: it is not UTF-8: byte 2 is 0xff"),
        (None, "cannot read .*a.jsonl: No such file"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RemaskError, match=message):
        for number, line in numbered_lines(path):
            if line.strip() != "1":
                object_of(line, f"{path}, line {number}")
