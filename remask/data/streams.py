"""Files as streams of bytes or text, whatever their compression and encoding.

Compression is recognised by the first bytes of a file and not by its name, since downloads are often compressed
under a plain name, or unpacked under a compressed one. The memory that a stream takes does not grow with the file.
"""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from remask.errors import RemaskError, first_line

BLOCK = 1 << 20
"""Bytes that are read at once."""
HEAD = 8192
"""Bytes at the start of a file that tell what it is."""
COMPRESSIONS = {".gz", ".gzip", ".bz2", ".xz", ".lzma", ".zst", ".zstd", ".lz4"}
"""Suffixes of compressed files."""
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_MARKS = {  # the longer marks first: that of UTF-32 begins as that of UTF-16 does
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def open_bytes(path: Path) -> BinaryIO:
    """The content of a file, decompressed."""
    with path.open("rb") as file:
        start = file.read(8)
    kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
    if kind == "gzip":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if kind == "bz2":
        return cast(BinaryIO, bz2.open(path, "rb"))
    if kind == "xz" or path.suffix.lower() == ".lzma":
        return cast(BinaryIO, lzma.open(path, "rb"))
    if kind is None:
        return path.open("rb")
    import pyarrow

    return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), kind), BLOCK)  # type: ignore[arg-type]


def head(path: Path) -> bytes:
    """The first bytes of a file, decompressed."""
    with name_errors(path), open_bytes(path) as file:
        return file.read(HEAD)


def encoding(start: bytes) -> str:
    """The encoding that a byte-order mark at the start of a file names; UTF-8 without one."""
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")


def open_text(path: Path) -> TextIO:
    """The text of a file without its byte-order mark, with its line ends as they are.

    Lines end at \\n, \\r\\n or \\r. Bytes that are not UTF-8 become lone surrogates (U+DC80 to U+DCFF), so that one
    damaged record does not hide the others.
    """
    name = encoding(head(path))
    errors = "surrogateescape" if name.startswith("utf-8") else "strict"
    return io.TextIOWrapper(open_bytes(path), encoding=name, errors=errors, newline="")


def utf8_blocks(path: Path) -> Iterator[bytes]:
    """The content of a text file as UTF-8 without its byte-order mark, in blocks.

    Bytes of a file without a mark come as they are, whether or not they are UTF-8. RemaskError for a damaged file.
    """
    name = encoding(head(path))
    with name_errors(path), open_bytes(path) as file:
        if name == "utf-8-sig":
            file.read(len(codecs.BOM_UTF8))
        if name.startswith("utf-8"):
            while block := file.read(BLOCK):
                yield block
            return
        decoder = codecs.getincrementaldecoder(name)()
        while block := file.read(BLOCK):
            yield decoder.decode(block).encode()
        decoder.decode(b"", final=True)


@contextmanager
def name_errors(path: Path) -> Iterator[None]:
    """Errors of decompressing and decoding name the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise RemaskError(
            f"{path} is not {error.encoding.upper()}, as its byte-order mark says: {error.reason}"
        ) from None
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise RemaskError(f"cannot read {path}: {first_line(error)}") from error
