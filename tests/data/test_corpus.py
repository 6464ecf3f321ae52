"""Every kind of source gives its documents, and what cannot be read is named."""

from pathlib import Path

import pytest
from corpora import texts, write

from remask.data.corpus import stamp
from remask.errors import RemaskError


def test_synthetic() -> None:
    assert len(texts("synthetic:documents=7,length=5")) == 7


def test_missing_and_empty_sources(tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=r"nowhere\.txt"):
        texts(tmp_path / "nowhere.txt")
    with pytest.raises(RemaskError, match="no document with text"):
        texts(tmp_path)
    with pytest.raises(RemaskError, match="no document with text"):
        texts(write(tmp_path / "blank.txt", "\n \n"))
    with pytest.raises(RemaskError, match=r"no document with text\nnot read: files that look binary \(1\): image\.png"):
        texts(write(tmp_path / "sub" / "image.png", b"\x89PNG\0\0\xff").parent)
    with pytest.raises(RemaskError, match="skip, stop"):
        texts(tmp_path, undecodable="ignore")
    with pytest.raises(RemaskError, match="an empty string separates nothing"):
        texts(tmp_path, separator="")


def test_stamp_changes_with_the_file(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "a")
    before = stamp(str(tmp_path))
    assert before == stamp(str(tmp_path))
    write(tmp_path / "a.txt", "ab")
    assert stamp(str(tmp_path)) != before
