"""Files are decompressed by what they are, whatever they are called; damage names the file."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from corpora import texts, write

from remask.errors import RemaskError

TEXT = "one é\n<|endoftext|>\ntwo\n".encode()


def arrow(name: str) -> Callable[[bytes], bytes]:
    """A compression of pyarrow."""

    def compress(data: bytes) -> bytes:
        import pyarrow

        sink = pyarrow.BufferOutputStream()
        with pyarrow.CompressedOutputStream(sink, name) as file:
            file.write(data)
        return sink.getvalue().to_pybytes()

    return compress


COMPRESSIONS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zst": arrow("zstd"),
    "lz4": arrow("lz4"),
}


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_compressed_text_and_records_alone_and_in_a_folder(tmp_path: Path, suffix: str) -> None:
    compress = COMPRESSIONS[suffix]
    text = write(tmp_path / f"a.txt.{suffix}", compress(TEXT))
    rows = write(tmp_path / f"b.JSONL.{suffix.upper()}", compress(b'{"text": "three"}\n'))
    assert texts(text) == ["one é", "two"]
    if suffix != "lzma":  # which has no mark of its own
        assert texts(write(tmp_path / "c" / "named.txt", compress(TEXT))) == ["one é", "two"]
        assert texts(rows) == ["three"]
    assert texts(tmp_path, undecodable="skip")[:3] == ["one é", "two", "three"]


@pytest.mark.parametrize("suffix", ["gz", "bz2", "zst"])
def test_several_streams_in_one_file(tmp_path: Path, suffix: str) -> None:
    compress = COMPRESSIONS[suffix]
    data = compress(b"one\n<|endoftext|>\n") + compress(b"two\n")
    assert texts(write(tmp_path / f"a.txt.{suffix}", data)) == ["one", "two"]


def test_a_plain_file_under_the_name_of_a_compressed_one(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.txt.gz", TEXT)) == ["one é", "two"]


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, suffix: str) -> None:
    whole = COMPRESSIONS[suffix](TEXT * 1000)
    with pytest.raises(RemaskError, match=rf"cannot read .*a\.txt\.{suffix}"):
        texts(write(tmp_path / f"a.txt.{suffix}", whole[: len(whole) * 2 // 3]))
