"""Folders as people have them, and what of them is not read."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from corpora import texts, texts_and_omissions, write

from remask.data.corpus import documents, stamp
from remask.data.folders import split_of
from remask.data.tokens import prepare
from remask.errors import RemaskError

SPLITS = "files of validation or test splits (name one with --validation to use it)"
CARDS = "files that describe a data set"


@pytest.fixture
def datasets() -> Any:
    """The package, imported where it is needed: it takes seconds."""
    import datasets

    return datasets


def names(source: Path) -> list[str]:
    return [document.name for document in documents(str(source))]


def test_a_folder_is_read_in_order_without_hidden_binary_and_empty_files(tmp_path: Path) -> None:
    write(tmp_path / "sub" / "b.md", "b")
    write(tmp_path / "a.py", "a")
    write(tmp_path / "package.json", '{"name": "text"}')
    write(tmp_path / ".hidden.txt", "no")
    write(tmp_path / "sub" / ".git" / "config", "no")
    write(tmp_path / "image.png", b"\x89PNG\0\0\xff")
    write(tmp_path / "paper.pdf", b"%PDF-1.4 \xff")
    write(tmp_path / "empty.txt", "")
    write(tmp_path / "z.jsonl", '{"text": "c"}\n')
    assert names(tmp_path) == ["a.py#0", "package.json#0", "sub/b.md#0", "z.jsonl#0"]
    assert texts_and_omissions(tmp_path)[1] == {
        "hidden files and folders": 2,
        "empty files": 1,
        "files that look binary": 1,
        "files that are no text": 1,
    }


def test_compressed_files_and_utf_16_in_a_folder(tmp_path: Path) -> None:
    many = "\n<|endoftext|>\n".join(f"number {i}" for i in range(50))
    write(tmp_path / "a.txt", many.encode("utf-16"))
    write(tmp_path / "b.txt.gz", gzip.compress(many.encode()))
    write(tmp_path / "c.txt", "text".encode("utf-16-le"))
    write(tmp_path / "fixtures" / "broken", b"\x1f\x8b no gzip")
    found, omissions = texts_and_omissions(tmp_path)
    assert len(found) == 100 and omissions == {"files that are no text": 1, "files that cannot be decompressed": 1}
    write(tmp_path / "d.txt.gz", b"\x1f\x8b no gzip")
    with pytest.raises(RemaskError, match=r"cannot read .*d\.txt\.gz"):
        texts(tmp_path)


def test_json_in_a_folder_holds_records_if_its_first_one_has_the_field(tmp_path: Path) -> None:
    write(tmp_path / "a.json", '{"text": "one"}\n{"text": "two"}\n')
    write(tmp_path / "b.json", '[{"text": "three"}]')
    write(tmp_path / "c.json", '{"other": "four"}\n')
    assert texts(tmp_path) == ["one", "two", "three", '{"other": "four"}\n']


@pytest.mark.parametrize("layout", ["data/{}-00000-of-00001.parquet", "{}.jsonl", "{}/x.jsonl", "c4-{}.00001.json.gz"])
def test_the_clone_of_a_data_set_is_read_without_card_validation_and_test(
    datasets: Any, tmp_path: Path, layout: str
) -> None:
    for split in ("train", "validation", "test"):
        path = tmp_path / layout.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = datasets.Dataset.from_dict({"text": [f"{split} {i}" for i in range(2)]})
        if path.suffix == ".parquet":
            data.to_parquet(path)
        else:
            lines = "".join(f'{{"text": "{text}"}}\n' for text in data["text"]).encode()
            write(path, gzip.compress(lines) if path.suffix == ".gz" else lines)
    write(tmp_path / "README.md", "---\nlicense: mit\n---\n# A data set\n" * 100)
    write(tmp_path / ".gitattributes", "*.parquet filter=lfs")
    assert texts_and_omissions(tmp_path) == (
        ["train 0", "train 1"],
        {"hidden files and folders": 1, SPLITS: 2, CARDS: 1},
    )


def test_splits_of_text_files(tmp_path: Path) -> None:
    for name in ("train-00.txt", "train_clean.txt", "valid.txt", "test.txt", "README.md"):
        write(tmp_path / name, name)
    assert names(tmp_path) == ["train-00.txt#0", "train_clean.txt#0"]


def test_files_keep_their_place_where_nothing_is_for_training(tmp_path: Path) -> None:
    for name in ("test.txt", "valid.txt", "README.md", "src/test/a.py"):
        write(tmp_path / name, name)
    assert names(tmp_path) == ["README.md#0", "src/test/a.py#0", "test.txt#0", "valid.txt#0"]


@pytest.mark.parametrize(
    ("name", "kind", "split"),
    [
        ("data/train-00000-of-00002.parquet", "parquet", "train"),
        ("train_sft-00000-of-00003.parquet", "parquet", "train"),
        ("en/c4-validation.00000-of-00008.json.gz", "json", "held out"),
        ("dev.csv", "csv", "held out"),
        ("train-test.jsonl", "lines", None),
        ("latest.jsonl", "lines", None),
        ("test/pos/1.txt", "text", "held out"),
        ("test/train/1.txt", "text", "train"),
        ("test_flight.txt", "text", None),
        ("train.py", "text", None),
        ("saved/test", "saved", "held out"),
    ],
)
def test_the_split_that_a_name_tells(name: str, kind: str, split: str | None) -> None:
    assert split_of(name, kind) == split  # type: ignore[arg-type]


def test_a_folder_of_save_to_disk(datasets: Any, tmp_path: Path) -> None:
    data = datasets.Dataset.from_dict({"text": [f"document {i}" for i in range(6)], "n": range(6)})
    data.save_to_disk(tmp_path / "saved")
    assert texts(tmp_path / "saved") == data["text"][:]
    data.select([4, 2]).save_to_disk(tmp_path / "some")
    assert texts(tmp_path / "some") == ["document 4", "document 2"]
    with pytest.raises(RemaskError, match=r"saved has no field 'body'\. Its fields: n, text"):
        texts(tmp_path / "saved", field="body")
    with pytest.raises(RemaskError, match="field 'n' is not text but int64"):
        texts(tmp_path / "saved", field="n")
    assert any(name.endswith(".arrow") for name, _, _ in stamp(str(tmp_path / "saved")))


def test_a_saved_data_set_with_splits(datasets: Any, tmp_path: Path) -> None:
    splits = {split: datasets.Dataset.from_dict({"text": [split]}) for split in ("train", "validation", "test")}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    assert texts_and_omissions(tmp_path / "saved") == (["train"], {SPLITS: 2, CARDS: 1})


def test_a_prepared_folder_is_named(tmp_path: Path) -> None:
    prepare("synthetic:documents=20,length=5", tmp_path / "corpus" / "out", tokenizer="bytes")
    with pytest.raises(RemaskError, match=r"out' is prepared already: train on it with `remask train --data"):
        texts(tmp_path / "corpus" / "out")
    write(tmp_path / "corpus" / "a.txt", "a")
    assert texts_and_omissions(tmp_path / "corpus") == (["a"], {"folders written by `remask prepare`": 1})


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_pointers_of_git_lfs_are_not_the_data(tmp_path: Path, name: str) -> None:
    write(tmp_path / "b.txt", "b")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    path = write(tmp_path / name, pointer)
    for source in (path, tmp_path):
        with pytest.raises(RemaskError, match=rf"{name} is a pointer of Git LFS.*git lfs pull"):
            texts(source)
    path.rename(tmp_path / "picture.png")
    assert texts_and_omissions(tmp_path) == (["b"], {"files that are no text": 1})


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04 a.docx", "a zip archive"),
        (b"%PDF-1.4", "a PDF"),
        (b"\0" * 257 + b"ustar\0", "a tar archive: unpack it"),
        (b"<!DOCTYPE html><html>", "a web page, saved in place of the data"),
    ],
)
def test_a_file_without_text_is_named_for_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    with pytest.raises(RemaskError, match=rf"a\.jsonl is {what}"):
        texts(write(tmp_path / "a.jsonl", content))
    with pytest.raises(RemaskError, match=rf"a\.jsonl\.gz is {what}"):
        texts(write(tmp_path / "a.jsonl.gz", gzip.compress(content)))
