"""Every kind of source gives its documents; what cannot be read is named."""

import gzip
import json
from pathlib import Path

import pytest

from remask.data.corpus import documents, stamp
from remask.data.reading import Document
from remask.data.text_files import PIECE
from remask.errors import RemaskError

RECORDS = [{"text": "first é", "other": "one"}, {"text": "second 🎉", "other": "two"}]


def texts(source: object, **options: object) -> list[str]:
    return [document.text for document in documents(str(source), **options)]  # type: ignore[arg-type]


def write_records(path: Path) -> Path:
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def test_standard_library() -> None:
    found = list(documents("stdlib"))
    names = [document.name for document in found]
    assert "argparse.py" in names
    assert any(name.startswith("pydoc_data/topics#") for name in names)
    assert not any("site-packages" in name or "/test/" in name or name.startswith("test/") for name in names)
    assert sum(len(document.text) for document in found) > 5_000_000
    assert names == [document.name for document in documents("stdlib")]


def test_synthetic() -> None:
    assert len(texts("synthetic:documents=7,length=5")) == 7


def test_text_without_separators_is_cut_into_pieces_that_continue(tmp_path: Path) -> None:
    text = "A line of prose with é and 🎉.\n" * 30 + "\n"
    whole = text * 60
    (tmp_path / "book.txt").write_text(whole)
    found = list(documents(str(tmp_path / "book.txt")))
    assert "".join(document.text for document in found) == whole
    assert [document.ends for document in found] == [False] * (len(found) - 1) + [True]
    assert all(d.text.endswith("\n\n") and PIECE <= len(d.text.encode()) <= 2 * PIECE for d in found[:-1])


def test_text_without_any_newline_is_cut_between_characters(tmp_path: Path) -> None:
    (tmp_path / "line.txt").write_text("a" + "🎉" * 20_000)
    found = texts(tmp_path / "line.txt")
    assert "".join(found) == "a" + "🎉" * 20_000
    assert len(found) > 1


def test_text_is_split_at_end_of_text_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\nstill one\n<|endoftext|>\ntwo\n<|endoftext|>\n\n<|endoftext|>\n")
    assert list(documents(str(tmp_path / "a.txt"))) == [
        Document("one\nstill one", "a.txt#0"),
        Document("two", "a.txt#1"),
    ]


@pytest.mark.parametrize("separator", ["\n\n", "\\n\\n"])
def test_text_is_split_at_a_separator(tmp_path: Path, separator: str) -> None:
    (tmp_path / "a.txt").write_text("one\n\n\n\ntwo\nmore\n\n")
    assert texts(tmp_path / "a.txt", separator=separator) == ["one", "two\nmore"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json.gz", "a.json"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    path = write_records(tmp_path / name)
    assert texts(path) == ["first é", "second 🎉"]
    assert texts(path, field="other") == ["one", "two"]


def test_parquet(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_list(RECORDS).to_parquet(tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == ["first é", "second 🎉"]


def test_hub_form_streams_a_data_set(tmp_path: Path) -> None:
    write_records(tmp_path / "train.jsonl")
    assert texts(f"hub:{tmp_path}:train") == ["first é", "second 🎉"]


def test_folder_is_read_in_order_without_hidden_and_binary_files(tmp_path: Path) -> None:
    (tmp_path / "sub" / ".git").mkdir(parents=True)
    (tmp_path / "sub" / "b.md").write_text("b")
    (tmp_path / "a.py").write_text("a")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "sub" / ".git" / "config").write_text("no")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\0\0\xff")
    (tmp_path / "empty.txt").write_text("")
    write_records(tmp_path / "z.jsonl")
    assert [d.name for d in documents(str(tmp_path))] == ["a.py#0", "sub/b.md#0", "z.jsonl#0", "z.jsonl#1"]


def test_missing_field_lists_those_there(tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=r"no field 'body'.*other, text"):
        texts(write_records(tmp_path / "a.jsonl"), field="body")


def test_damaged_records_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(RemaskError, match=r"cannot read a\.jsonl"):
        texts(tmp_path / "a.jsonl")


def test_text_that_is_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.txt").write_bytes("é ok\n".encode() + b"caf\xe9 \xff\n")
    (tmp_path / "good.txt").write_text("good")
    with pytest.raises(RemaskError, match=r"bad\.txt: 2 bytes are not UTF-8, the first at byte 9.*skip"):
        texts(tmp_path)
    assert texts(tmp_path, undecodable="skip") == ["good"]
    assert texts(tmp_path, undecodable="skip") == ["good"]
    assert capsys.readouterr().err.count("bad.txt") == 1


def test_missing_and_empty_sources(tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=r"nowhere\.txt"):
        texts(tmp_path / "nowhere.txt")
    with pytest.raises(RemaskError, match="no document with text"):
        texts(tmp_path)
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(RemaskError, match="no document with text"):
        texts(tmp_path / "blank.txt")
    with pytest.raises(RemaskError, match="skip, stop"):
        texts(tmp_path, undecodable="ignore")


def test_stamp_changes_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    before = stamp(str(tmp_path))
    assert before == stamp(str(tmp_path))
    (tmp_path / "a.txt").write_text("ab")
    assert stamp(str(tmp_path)) != before
