"""Text files as documents: split at lines of <|endoftext|>, at a separator of one's own, or into pieces.

Everything here works on UTF-8 in blocks, so that a file may be larger than the memory.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from remask.data.reading import Document, Reading
from remask.data.streams import utf8_blocks
from remask.errors import RemaskError

END = "<|endoftext|>"
"""On a line of its own in a text file, it ends a document."""
PIECE = 16 * 1024
"""Bytes after which a text file without separators is cut at the next blank line."""
_TRAILING = 64
"""At most so many blanks may follow END on its line."""
_LONGEST = len(END) + _TRAILING
"""Bytes of the longest match of the pattern below."""
_END_LINE = re.compile(
    re.escape(END).encode() + rb"(?<![^\r\n]" + re.escape(END).encode() + rb")[ \t]{0,%d}(?=[\r\n]|\Z)" % _TRAILING
)
"""END where nothing but the start of a line stands before it (the pattern begins with the literal, to be fast)."""


def text_documents(path: Path, name: str, reading: Reading) -> Iterator[Document]:
    """The documents of a text file.

    With a separator the file is split there, else at END lines, else into pieces that continue each other: by a
    hash of their text, pieces divide one long file into training and validation.

    Raises:
        RemaskError: the file is not UTF-8 (or UTF-16 or UTF-32 with a byte-order mark), or its compression is damaged.
    """
    contents = examine_file(path, name, reading)
    if contents is None or not contents.text:
        return
    if reading.separator or contents.ends:
        marker = separator_pattern(reading.separator) if reading.separator else _END_LINE
        longest = 4 * len(reading.separator) if reading.separator else _LONGEST
        texts = (text.decode() for text in between(utf8_blocks(path), marker, longest))
        kept = (text if reading.separator else text.strip("\r\n") for text in texts if text.strip())
        yield from (Document(text, f"{name}#{i}") for i, text in enumerate(kept))
    else:
        for i, (piece, last) in enumerate(pieces(utf8_blocks(path))):
            yield Document(piece.decode(), f"{name}#{i}", ends=last)


@dataclass(frozen=True)
class Contents:
    """The result of a first reading of a text file."""

    invalid: int
    """Number of bytes that are not UTF-8."""
    first: int
    """Offset of the first of them."""
    ends: bool
    """Whether there is a line of END."""
    text: bool
    """Whether there is anything but blanks."""


def examine_file(path: Path, name: str, reading: Reading) -> Contents | None:
    """What is in a file, or None, with a note, where it is not UTF-8 and such files are left out."""
    contents = examine(utf8_blocks(path))
    if not contents.invalid:
        return contents
    if reading.undecodable == "stop":
        raise RemaskError(
            f"{path}: {contents.invalid} bytes are not UTF-8, the first at byte {contents.first}. Convert the file "
            "(iconv -f ENCODING -t UTF-8), or leave such files out with --undecodable skip"
        )
    reading.omissions.add("files that are not UTF-8", f"{name} ({contents.invalid} bytes)")
    return None


def examine(blocks: Iterable[bytes]) -> Contents:
    """Reads a file once, in the memory of a block."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    invalid, first, read, ends, some = 0, 0, 0, False, False
    tail, searched = bytearray(), 0
    for block in blocks:
        offset = read - len(decoder.getstate()[0])  # of the text that is decoded next
        read += len(block)
        text = decoder.decode(block)
        if not text.isascii() and (bad := re.findall("[\udc80-\udcff]", text)):
            first = first if invalid else offset + len(text[: text.index(bad[0])].encode())
            invalid += len(bad)
        some = some or bool(text and not text.isspace())
        if not ends:
            tail += block
            ends = any(match.end() < len(tail) for match in _END_LINE.finditer(tail, searched))
            searched = int(len(tail) > _LONGEST)  # then the first byte only tells what stands before a match
            del tail[: -(_LONGEST + 1)]
    rest = len(decoder.decode(b"", final=True))  # a character that is cut off
    ends = ends or _END_LINE.search(tail, searched) is not None
    return Contents(invalid + rest, first if invalid else read - rest, ends, some or rest > 0)


def separator_pattern(separator: str) -> re.Pattern[bytes]:
    """Matches a separator; a newline in it stands for any line end (\\n, \\r\\n or \\r)."""
    lines = separator.replace("\r\n", "\n").split("\n")
    return re.compile(rb"(?>\r\n|\n|\r)".join(re.escape(line.encode()) for line in lines))


def between(blocks: Iterable[bytes], marker: re.Pattern[bytes], longest: int) -> Iterator[bytes]:
    """What stands between the matches of `marker`, none of which is longer than `longest` bytes.

    A match that reaches the end of what was read so far is decided when more is read.
    """
    buffer, searched = bytearray(), 0
    for block in blocks:
        buffer += block
        while (match := marker.search(buffer, searched)) and match.end() < len(buffer):
            start, stop, match = match.start(), match.end(), None  # a match would keep the buffer from shrinking
            yield bytes(buffer[:start])
            del buffer[:stop]
            searched = 0
        searched = max(searched, len(buffer) - longest)
    last = 0
    for match in marker.finditer(bytes(buffer), searched):
        yield bytes(buffer[last : match.start()])
        last = match.end()
    yield bytes(buffer[last:])


def pieces(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Pieces that together are the whole, each cut at the first blank line after PIECE bytes, and whether it is the
    last one.

    Where no blank line comes in as many bytes again, the cut is at the first newline; where none comes either,
    between two characters.
    """
    buffer = b""
    for block in blocks:
        buffer, start = buffer + block, 0
        while len(buffer) - start > 2 * PIECE:
            stop = _cut(buffer, start)
            yield buffer[start:stop], False
            start = stop
        buffer = buffer[start:]
    start = 0
    while start < len(buffer):
        stop = _cut(buffer, start)
        yield buffer[start:stop], stop == len(buffer)
        start = stop


def _cut(buffer: bytes, start: int) -> int:
    """Where the piece that begins at `start` ends."""
    if len(buffer) - start <= PIECE:
        return len(buffer)
    least, most = start + PIECE, start + 2 * PIECE
    for line_end in (b"\n\n", b"\n"):
        if (place := buffer.find(line_end, least, most)) >= 0:
            return place + len(line_end)
    stop = min(most, len(buffer))
    while stop < len(buffer) and buffer[stop] & 0xC0 == 0x80:  # inside a character
        stop -= 1
    return stop
