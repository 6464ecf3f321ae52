"""Text files: where documents end, pieces that are the whole text, byte-order marks, encodings and line ends."""

import gzip
import tracemalloc
from pathlib import Path

import pytest
from corpora import texts, texts_and_omissions, write
from hypothesis import given, settings
from hypothesis import strategies as st

from remask.data.corpus import documents
from remask.data.reading import Document
from remask.data.streams import BLOCK
from remask.data.text_files import _END_LINE, _LONGEST, PIECE, between, examine, pieces, separator_pattern
from remask.errors import RemaskError


def blocks(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in blocks of these sizes, and a last one."""
    cuts = [0]
    for size in sizes:
        cuts.append(min(cuts[-1] + size, len(data)))
    return [data[a:b] for a, b in zip(cuts, [*cuts[1:], len(data)], strict=True) if b > a]


def test_text_without_separators_is_cut_into_pieces_that_continue(tmp_path: Path) -> None:
    text = "A line of prose with é and 🎉.\n" * 30 + "\n"
    whole = text * 60
    write(tmp_path / "book.txt", whole)
    found = list(documents(str(tmp_path / "book.txt")))
    assert "".join(document.text for document in found) == whole
    assert [document.ends for document in found] == [False] * (len(found) - 1) + [True]
    assert all(d.text.endswith("\n\n") and PIECE <= len(d.text.encode()) <= 2 * PIECE for d in found[:-1])


def test_text_without_any_newline_is_cut_between_characters(tmp_path: Path) -> None:
    write(tmp_path / "line.txt", "a" + "🎉" * 20_000)
    found = texts(tmp_path / "line.txt")
    assert "".join(found) == "a" + "🎉" * 20_000
    assert len(found) > 1


def test_text_is_split_at_end_of_text_lines(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "one\nstill one\n<|endoftext|>\ntwo <|endoftext|>\n<|endoftext|>\n\n<|endoftext|>\n")
    assert list(documents(str(tmp_path / "a.txt"))) == [
        Document("one\nstill one", "a.txt#0"),
        Document("two <|endoftext|>", "a.txt#1"),
    ]


@pytest.mark.parametrize("separator", ["\n\n", "\\n\\n"])
def test_text_is_split_at_a_separator(tmp_path: Path, separator: str) -> None:
    write(tmp_path / "a.txt", "one\n\n\n\ntwo\nmore\n\n")
    assert texts(tmp_path / "a.txt", separator=separator) == ["one", "two\nmore"]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_carriage_returns(tmp_path: Path, end: str) -> None:
    """Separators are found whatever the line ends are; the line ends of the text itself stay."""
    lines = f"one{end}still one{end}<|endoftext|>{end}two{end}<|endoftext|> {end}three"
    assert texts(write(tmp_path / "a.txt", lines)) == [f"one{end}still one", "two", "three"]
    lines = f"one{end}still one{end}{end}two"
    assert texts(write(tmp_path / "b.txt", lines), separator="\\n\\n") == [f"one{end}still one", "two"]
    assert texts(tmp_path / "b.txt", separator="\\r\\n\\r\\n") == [f"one{end}still one", "two"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, encoding: str) -> None:
    whole = "<|endoftext|>\nfirst é 🎉\n<|endoftext|>\nsecond\n"
    assert texts(write(tmp_path / "a.txt", whole.encode(encoding))) == ["first é 🎉", "second"]
    assert texts(write(tmp_path / "a.txt.gz", gzip.compress(whole.encode(encoding)))) == ["first é 🎉", "second"]
    assert texts(write(tmp_path / "b.txt", "prose".encode(encoding))) == ["prose"]


def test_damaged_and_unmarked_utf_16_are_named(tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=r"a\.txt is not UTF-16-LE, as its byte-order mark says"):
        texts(write(tmp_path / "a.txt", "text".encode("utf-16")[:-1]))
    with pytest.raises(RemaskError, match=r"b\.txt is probably UTF-16LE without a byte-order mark.*iconv"):
        texts(write(tmp_path / "b.txt", "some text".encode("utf-16-le")))


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    write(tmp_path / "bad.txt", "é ok\n".encode() + b"caf\xe9 \xff\n")
    write(tmp_path / "good.txt", "good")
    with pytest.raises(RemaskError, match=r"bad\.txt: 2 bytes are not UTF-8, the first at byte 9.*skip"):
        texts(tmp_path)
    found, omissions = texts_and_omissions(tmp_path, undecodable="skip")
    assert found == ["good"] and omissions == {"files that are not UTF-8": 1}


@pytest.mark.parametrize("at", [0, 3, BLOCK - 1, BLOCK, BLOCK + 5])
def test_invalid_bytes_are_counted_across_blocks(at: int) -> None:
    data = b"x" * at + b"\xe9" + b"y" * (2 * BLOCK - at) + "é".encode()[:1]
    found = examine(blocks(data, [BLOCK, BLOCK]))
    assert (found.invalid, found.first) == (2, at)


PARTS = st.lists(st.sampled_from(["<|endoftext|>", "\n", "\r\n", "\r", " ", "é", "x<", "|endoftext|>"]), max_size=30)
SIZES = st.lists(st.integers(1, 30), max_size=20)


@settings(max_examples=200, deadline=None)
@given(PARTS, SIZES)
def test_blocks_do_not_change_what_is_found(parts: list[str], sizes: list[int]) -> None:
    data = "".join(parts).encode()
    parted = blocks(data, sizes)
    for marker, longest in ((_END_LINE, _LONGEST), (separator_pattern("\n\n"), 8), (separator_pattern("x<"), 8)):
        assert list(between(parted, marker, longest)) == list(between([data], marker, longest)) == marker.split(data)
    assert examine(parted) == examine([data])
    assert examine([data]).ends == bool(_END_LINE.search(data))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 3 * PIECE), max_size=10), st.sampled_from(["é", "é\n", "a line\n\n"]))
def test_blocks_do_not_change_the_pieces(sizes: list[int], text: str) -> None:
    data = (text * (5 * PIECE)).encode()[: 4 * PIECE]
    assert list(pieces(blocks(data, sizes))) == list(pieces([data]))
    assert b"".join(piece for piece, _ in pieces([data])) == data


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt.gz", gzip.compress(b"A line of text.\n" * 4_000_000, 1))  # 64 MB
    tracemalloc.start()
    assert sum(len(document.text) for document in documents(str(path))) == 64_000_000
    assert tracemalloc.get_traced_memory()[1] < 16e6
    tracemalloc.stop()
