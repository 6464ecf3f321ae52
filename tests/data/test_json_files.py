"""JSON: one field of each record, by its type in the file, whatever the others hold."""

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from corpora import texts, texts_and_omissions, write

from remask.data.corpus import documents
from remask.errors import RemaskError

RECORDS = [{"text": "first é", "other": "one"}, {"text": "second 🎉", "other": "two"}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.NDJSON", "a.jsonlines", "a.jsonl.gz", "a.json.gz", "a.json"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_json_lines(tmp_path: Path, name: str, ends: str) -> None:
    lines = ends.join(json.dumps(record) for record in RECORDS).encode()
    path = write(tmp_path / name, gzip.compress(lines) if name.endswith(".gz") else lines)
    assert texts(path) == ["first é", "second 🎉"]
    assert texts(path, field="other") == ["one", "two"]
    assert [document.name for document in documents(str(path))] == [f"{name}#0", f"{name}#1"]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_an_array_of_records(tmp_path: Path, name: str, indent: int | None) -> None:
    path = write(tmp_path / name, json.dumps(RECORDS, indent=indent))
    assert texts(path) == ["first é", "second 🎉"]


def test_records_over_several_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", "\n".join(json.dumps(record, indent=2) for record in RECORDS))
    assert texts(path) == ["first é", "second 🎉"]


@pytest.mark.parametrize("text", ["2024-01-01", "2024-01-01T00:00:00Z", "12", "true", "null", "1e5", "00:01"])
def test_a_string_is_text_whatever_it_looks_like(tmp_path: Path, text: str) -> None:
    assert texts(write(tmp_path / "a.jsonl", json.dumps({"text": text}) + "\n")) == [text]


@pytest.mark.parametrize(
    "others",
    [
        (None, "someone"),
        ("2024-01-01T00:00:00Z", "unknown"),
        (7, "id7"),
        ({"a": 1}, {"a": 1, "b": "x"}),
        ([1], [[1]]),
        (10**20, 1),
    ],
)
def test_other_fields_have_no_say(tmp_path: Path, others: tuple[Any, Any]) -> None:
    first, later = (json.dumps({"text": f"{i}", "meta": other}) for i, other in enumerate(others))
    assert texts(write(tmp_path / "a.jsonl", f"{first}\n" * 3 + f'{later}\n{{"text": "2", "more": 1}}\n')) == [
        *("000"),
        "1",
        "2",
    ]
    digits = '{"text": "a", "number": ' + "9" * 5000 + ', "wrong": "caf'
    assert texts(write(tmp_path / "b.jsonl", digits.encode() + b'\xe9"}\n')) == ["a"]


BAD = {
    '{"text": ': "it is not JSON",
    "<html>": "it is not JSON",
    "[1]": "it is not a JSON object but a list",
    '{"text": 3}': "field 'text' is not text but a number",
    '{"text": ["a"]}': "field 'text' is not text but a list",
    '{"text": "\\ud800"}': "field 'text' holds half a surrogate pair",
    "[" * 100_000: "it is nested too deeply",
}


@pytest.mark.parametrize("line", BAD, ids=BAD.values())
def test_one_bad_record_is_one_bad_record(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "a.jsonl", f'{{"text": "before"}}\n{line}\n{{"text": "behind"}}\n')
    with pytest.raises(RemaskError, match=rf"a\.jsonl, line 2: {BAD[line]}.*--undecodable skip"):
        texts(path)
    found, omissions = texts_and_omissions(path, undecodable="skip")
    assert found == ["before", "behind"] and omissions == {"records that cannot be read": 1}


def test_bytes_that_are_not_utf8_spoil_one_record(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"text": "caf\xe9"}\n{"text": "good"}\n')
    with pytest.raises(RemaskError, match=r"a\.jsonl, line 1: field 'text' holds bytes that are not UTF-8"):
        texts(path)
    assert texts(path, undecodable="skip") == ["good"]


def test_an_array_that_is_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '[{"text": "a"},\n {"text": "b"},\n {"tex')
    with pytest.raises(RemaskError, match=r"a\.json, line 3: from here on it is not JSON"):
        texts(path)
    assert texts(path, undecodable="skip") == ["a", "b"]


def test_records_without_text_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": null}\n{"text": " "}\n\n{"other": 1}\n{"text": "x"}\n')
    assert texts_and_omissions(path) == (["x"], {"records without text in 'text'": 3})
    assert [document.name for document in documents(str(path))] == ["a.jsonl#3"]


def test_a_missing_field_lists_those_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(record) + "\n" for record in RECORDS))
    with pytest.raises(RemaskError, match=r"a\.jsonl has no field 'body'\. Its fields: other, text\. .*--field"):
        texts(path, field="body")


@pytest.mark.parametrize(("start", "between", "end"), [("", "\n", "\n"), ("[", ",", "]")])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, start: str, between: str, end: str) -> None:
    record = json.dumps({"text": "x" * 2000})
    path = write(tmp_path / "a.jsonl.gz", gzip.compress((start + between.join([record] * 20_000) + end).encode(), 1))
    tracemalloc.start()
    assert sum(len(document.text) for document in documents(str(path))) == 40_000_000
    assert tracemalloc.get_traced_memory()[1] < 16e6
    tracemalloc.stop()
