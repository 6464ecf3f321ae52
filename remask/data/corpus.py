"""Where text comes from. `documents` reads every kind of source as a stream of documents.

A source is `stdlib` (the sources and help topics of the running Python, a corpus on every machine),
`synthetic:KEY=VALUE,...` (see `synthetic.py`), `hub:OWNER/NAME[:SPLIT[:CONFIG]]` (streamed), a JSON
Lines or Parquet file, a folder, or a text file.
"""

import mmap
import os
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from remask.errors import RemaskError, unknown
from remask.terminal import say

END = "<|endoftext|>"
"""On a line of its own in a text file, it ends a document."""
PIECE = 16 * 1024
"""Bytes after which a text file without separators is cut at the next blank line."""
TABLES = {".jsonl": "json", ".jsonl.gz": "json", ".json.gz": "json", ".parquet": "parquet"}
"""Files of records, by suffix. A `.json` file is one too when it is named itself, not in a folder."""

Undecodable = Literal["stop", "skip"]


@dataclass(frozen=True)
class Document:
    """A text and where it came from."""

    text: str
    name: str
    ends: bool = True
    """False where the next document continues this one: no end-of-text token stands between."""


def documents(
    source: str,
    *,
    field: str = "text",
    separator: str | None = None,
    undecodable: Undecodable = "stop",
) -> Iterator[Document]:
    """The documents of a source, always in the same order.

    Arguments:
        source: see the top of this module.
        field: the field of a record that holds its text.
        separator: what stands between the documents of a text file; a backslash followed by n is a newline.
        undecodable: whether a file that is not UTF-8 stops everything or is skipped with a line saying so.

    Raises:
        RemaskError: the source is missing, damaged, not UTF-8, lacks the field, or holds no text.
    """
    if undecodable not in ("stop", "skip"):
        raise unknown("value of undecodable", undecodable, ("stop", "skip"))
    if separator is not None:
        separator = separator.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t")
        if not separator:
            raise RemaskError("separator: an empty string separates nothing")
    empty = True
    for document in _read(source, field, separator, undecodable):
        empty = False
        yield document
    if empty:
        raise RemaskError(f"corpus {source!r} holds no document with text")


def stamp(source: str) -> list[tuple[str, int, int]]:
    """(name, bytes, nanoseconds of the last change) of each file of a source; equal when it is unchanged.

    Sources that are not files are taken to be fixed by their name.
    """
    if source.startswith(("synthetic:", "hub:")):
        return [(source, 0, 0)]
    if source == "stdlib":
        files = _library_files()
    else:
        path = Path(source)
        files = _folder_files(path) if path.is_dir() else [_existing(path)]
    return [(str(f), s.st_size, s.st_mtime_ns) for f, s in ((f, f.stat()) for f in files)]


def _read(source: str, field: str, separator: str | None, undecodable: Undecodable) -> Iterator[Document]:
    if source == "stdlib":
        yield from _standard_library(undecodable)
    elif source.startswith("synthetic:"):
        from remask.data.synthetic import parse

        texts = parse(source.removeprefix("synthetic:")).texts()
        yield from (Document(text, f"synthetic#{i}") for i, text in enumerate(texts))
    elif source.startswith("hub:"):
        yield from _hub(source, field)
    elif Path(source).is_dir():
        for path in _folder_files(Path(source)):
            name = path.relative_to(source).as_posix()
            yield from _file(path, name, _table_kind(path), field, separator, undecodable)
    else:
        path = _existing(Path(source))
        kind = "json" if path.suffix == ".json" else _table_kind(path)
        yield from _file(path, path.name, kind, field, separator, undecodable)


def _file(
    path: Path, name: str, kind: str | None, field: str, separator: str | None, undecodable: Undecodable
) -> Iterator[Document]:
    """The documents of one file: records when `kind` names a reader of `datasets`, else text."""
    if path.stat().st_size == 0:
        return
    if path.suffix != ".gz" and kind != "parquet" and not _decodable(path, undecodable):
        return
    if kind is None:
        yield from _text(path, name, separator)
    else:
        yield from _records(kind, {"data_files": str(path), "split": "train"}, name, field)


def _text(path: Path, name: str, separator: str | None) -> Iterator[Document]:
    """A text file split at the separator, else at END lines, else into pieces that continue each other.

    Pieces let a hash of the text divide one long file into training and validation. The file is
    mapped, not read, so that its size does not matter.
    """
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # freed, not closed: `re` may hold it
        line_of_its_own = re.compile(rb"^" + re.escape(END.encode()) + rb"[ \t\r]*$", re.MULTILINE)
        marker = re.compile(re.escape(separator.encode())) if separator else line_of_its_own
        if separator or marker.search(data):
            texts = (data[start:stop].decode() for start, stop in _between(marker, data))
            kept = (text if separator else text.strip("\r\n") for text in texts if text.strip())
            yield from (Document(text, f"{name}#{i}") for i, text in enumerate(kept))
        else:
            cuts = list(_pieces(data))
            if any(data[start:stop].strip() for start, stop in cuts):
                for i, (start, stop) in enumerate(cuts):
                    yield Document(data[start:stop].decode(), f"{name}#{i}", ends=stop == len(data))


def _between(marker: re.Pattern[bytes], data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """(start, stop) of what stands between the matches of `marker`."""
    start = 0
    for match in marker.finditer(data):
        yield start, match.start()
        start = match.end()
    yield start, len(data)


def _pieces(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """(start, stop) of pieces that end at the first blank line after PIECE bytes.

    Where none comes in as many bytes again, at the first newline; where none, between two characters.
    """
    start = 0
    while start < len(data):
        stop = len(data)
        if stop - start > PIECE:
            least, most = start + PIECE, start + 2 * PIECE
            for line in (b"\n\n", b"\n"):
                if (found := data.find(line, least, most)) >= 0:
                    stop = found + len(line)
                    break
            else:
                stop = min(most, stop)
                while stop < len(data) and data[stop] & 0xC0 == 0x80:  # inside a character
                    stop -= 1
        yield start, stop
        start = stop


def _decodable(path: Path, undecodable: Undecodable) -> bool:
    """Whether a file is UTF-8; when it is not, raises or says so once, as `undecodable` asks."""
    bad, first = _invalid_bytes(path)
    if bad and undecodable == "stop":
        raise RemaskError(
            f"{path}: {bad} bytes are not UTF-8, the first at byte {first}. Convert the file, "
            "or leave such files out with undecodable=skip"
        )
    if bad:
        _say_once(f"skipped {path}: {bad} bytes are not UTF-8")
    return not bad


def _invalid_bytes(path: Path) -> tuple[int, int]:
    """How many bytes of a file are not UTF-8, and the offset of the first."""
    count, first, offset = 0, 0, 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            block += file.readline()  # a newline is never inside a character
            text = block.decode("utf-8", "surrogateescape")
            if not text.isascii() and (bad := re.findall("[\udc80-\udcff]", text)):
                if not count:
                    before = text[: text.index(bad[0])]
                    first = offset + len(before.encode("utf-8"))
                count += len(bad)
            offset += len(block)
    return count, first


@cache
def _say_once(text: str) -> None:
    say(text)


def _records(kind: str, options: dict[str, Any], name: str, field: str) -> Iterator[Document]:
    """The texts of a data set that `datasets` streams; errors of any kind it raises name the source."""
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # its errors are raised as well as logged
    try:
        for i, record in enumerate(datasets.load_dataset(kind, streaming=True, **options)):
            if field not in record:
                raise RemaskError(f"{name} has no field {field!r}. Its fields: {', '.join(sorted(record))}")
            text = record[field]
            if text is not None and not isinstance(text, str):
                kind = type(text).__name__
                raise RemaskError(f"{name}: field {field!r} of record {i} is not text but {kind}")
            if text and text.strip():
                yield Document(text, f"{name}#{i}")
    except (RemaskError, GeneratorExit):
        raise
    except Exception as error:  # pyarrow, fsspec, the hub and zlib each have their own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RemaskError(f"cannot read {name}: {reason}") from error


def _hub(source: str, field: str) -> Iterator[Document]:
    """`hub:OWNER/NAME[:SPLIT[:CONFIG]]`."""
    name, split, config = [*source.removeprefix("hub:").split(":", 2), "", ""][:3]
    if not name:
        raise RemaskError(f"{source!r}: write hub:OWNER/NAME[:SPLIT[:CONFIG]]")
    yield from _records(name, {"name": config or None, "split": split or "train"}, source, field)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise RemaskError(
            f"no corpus at {str(path)!r}. A corpus is a text, .jsonl or .parquet file, a folder, "
            "stdlib, synthetic:KEY=VALUE,... or hub:OWNER/NAME"
        )
    return path


def _table_kind(path: Path) -> str | None:
    return next((kind for suffix, kind in TABLES.items() if path.name.endswith(suffix)), None)


def _folder_files(folder: Path) -> list[Path]:
    """The records and text files under a folder, sorted by path; hidden ones and binary ones are left out."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    found = [path for path in found if path.is_file() and (_table_kind(path) or not _binary(path))]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _binary(path: Path) -> bool:
    """Whether a file has a zero byte near its start, as no text has."""
    with path.open("rb") as file:
        return b"\0" in file.read(8192)


def _library_files() -> list[Path]:
    """The modules of the running Python's standard library, without its tests and generated files."""
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
    found = []
    for parent, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in left_out]
        found += [Path(parent, name) for name in names if name.endswith(".py")]
    generated = root / "pydoc_data" / "topics.py"
    found = [path for path in found if path != generated and not path.name.startswith("_sysconfigdata")]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _standard_library(undecodable: Undecodable) -> Iterator[Document]:
    """Each module of the standard library, then each topic of Python's help."""
    from pydoc_data.topics import topics

    root = Path(sysconfig.get_path("stdlib"))
    for path in _library_files():
        if _decodable(path, undecodable) and (text := path.read_bytes().decode()).strip():
            yield Document(text, path.relative_to(root).as_posix())
    for topic, text in sorted(topics.items()):
        yield Document(text, f"pydoc_data/topics#{topic}")
