"""Where text comes from. `documents` reads every kind of source as a stream of documents.

A source is

* a text file, split at lines of <|endoftext|> or at a separator of one's own, or cut into pieces;
* a file of records, of which one field is read: JSON Lines, JSON, CSV, TSV, Parquet, Arrow;
* a folder of such files, the clone of a data set of the Hub, or a folder of `save_to_disk`;
* `hub:OWNER/NAME[:SPLIT[:CONFIG]]`, streamed;
* `stdlib`, the sources and the help of the running Python;
* `synthetic:KEY=VALUE,...`, a random language of known entropy (see `synthetic.py`);
* `task:NAME[+NAME...],KEY=VALUE,...`, questions with exact answers (see `remask/tasks/corpus.py`);
* `gsm8k:FILE,KEY=VALUE,...`, word problems with their solutions (see `remask/tasks/gsm8k/corpus.py`).

Files may be compressed (gzip, bzip2, xz, Zstandard, LZ4), and text may be UTF-8, or UTF-16 or UTF-32 with a
byte-order mark. Nothing but one document has to fit in memory.
"""

from collections.abc import Iterator
from pathlib import Path

from remask.data.folders import Item, folder_items
from remask.data.json_files import json_records
from remask.data.kinds import kind, obstacle
from remask.data.reading import Document, Omissions, Reading, Undecodable
from remask.data.records import record_documents
from remask.data.standard_library import library_documents, library_files
from remask.data.streams import head
from remask.data.tables import arrow_records, columns, csv_records, parquet_records
from remask.data.text_files import text_documents
from remask.errors import RemaskError, unknown


def documents(
    source: str,
    *,
    field: str = "text",
    separator: str | None = None,
    undecodable: Undecodable = "stop",
    omissions: Omissions | None = None,
) -> Iterator[Document]:
    """The documents of a source, always in the same order.

    Arguments:
        source: see the top of this module.
        field: the field of a record, or the column of a table, that holds its text.
        separator: what stands between the documents of a text file; a backslash followed by n is a newline, and a
            newline is any line end.
        undecodable: whether a text file that is not UTF-8, or a record that cannot be read, stops everything
            ("stop") or is noted and left out ("skip").
        omissions: notes what is left out and why.

    Raises:
        RemaskError: the source is missing or damaged, cannot be decoded, lacks the field, or holds no text.
    """
    if undecodable not in ("stop", "skip"):
        raise unknown("value of undecodable", undecodable, ("stop", "skip"))
    if separator is not None:
        separator = separator.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t")
        if not separator:
            raise RemaskError("separator: an empty string separates nothing")
        try:
            separator.encode()
        except UnicodeEncodeError:
            raise RemaskError(f"separator is {separator!r}, which is not UTF-8 and so in no text") from None
    reading = Reading(field, separator, undecodable, Omissions() if omissions is None else omissions)
    empty = True
    for document in _read(source, reading):
        empty = False
        yield document
    if empty:
        reasons = "".join(f"\n{line}" for line in reading.omissions.lines())
        raise RemaskError(f"corpus {source!r} holds no document with text{reasons}")


def stamp(source: str, field: str = "text") -> list[tuple[str, int, int]]:
    """(name, bytes, nanoseconds of the last change) of each file of a source; equal when it is unchanged.

    Sources that are not files are taken to be fixed by their name.
    """
    if source.startswith(("synthetic:", "task:", "hub:")):
        return [(source, 0, 0)]
    if source == "stdlib":
        files = library_files()
    elif source.startswith("gsm8k:"):
        from remask.tasks.gsm8k.corpus import file_of

        files = [_existing(file_of(source))]
    elif Path(source).is_dir():
        items = folder_items(Path(source), field, Omissions())
        files = [path for item in items for path in _files_of(item)]
    else:
        files = [_existing(Path(source))]
    return [(str(f), s.st_size, s.st_mtime_ns) for f, s in ((f, f.stat()) for f in files)]


def _files_of(item: Item) -> list[Path]:
    return sorted(path for path in item.path.iterdir() if path.is_file()) if item.kind == "saved" else [item.path]


def _read(source: str, reading: Reading) -> Iterator[Document]:
    if source == "stdlib":
        yield from library_documents(reading)
    elif source.startswith("synthetic:"):
        from remask.data.synthetic import parse

        texts = parse(source.removeprefix("synthetic:")).texts()
        yield from (Document(text, f"synthetic#{i}") for i, text in enumerate(texts))
    elif source.startswith("task:"):
        from remask.tasks.corpus import parse as parse_task

        yield from parse_task(source).texts()
    elif source.startswith("gsm8k:"):
        from remask.tasks.gsm8k.corpus import documents as gsm8k_documents

        yield from gsm8k_documents(source, reading.omissions)
    elif source.startswith("hub:"):
        from remask.data.hub import hub_documents

        yield from hub_documents(source, reading)
    elif Path(source).is_dir():
        for item in _with_column(folder_items(Path(source), reading.field, reading.omissions), reading):
            yield from _documents_of(item, reading)
    else:
        path = _existing(Path(source))
        if not path.stat().st_size:
            return
        start = head(path)
        item = Item(path, path.name, kind(path, start))
        if reason := obstacle(start, item.kind):
            raise RemaskError(f"{path} is {reason}")
        yield from _documents_of(item, reading)


def _documents_of(item: Item, reading: Reading) -> Iterator[Document]:
    """The documents of a file, or of a folder of `save_to_disk`."""
    path, name, field = item.path, item.name, reading.field
    match item.kind:
        case "text":
            yield from text_documents(path, name, reading)
        case "saved":
            from remask.data.hub import saved_documents

            yield from saved_documents(path, name, reading)
        case "lines" | "json":
            yield from record_documents(json_records(path, field, lines=item.kind == "lines"), name, reading)
        case "csv":
            yield from record_documents(csv_records(path, name, field), name, reading)
        case "parquet":
            yield from record_documents(parquet_records(path, name, field), name, reading)
        case "arrow":
            yield from record_documents(arrow_records(path, name, field), name, reading)


def _with_column(items: list[Item], reading: Reading) -> Iterator[Item]:
    """The items without tables that lack the column, where there is anything else to read."""
    others = any(item.kind != "csv" or reading.field in columns(item.path) for item in items)
    for item in items:
        if others and item.kind == "csv" and reading.field not in columns(item.path):
            reading.omissions.add(f"tables without a column {reading.field!r} (name one with --field)", item.name)
        else:
            yield item


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise RemaskError(
            f"no corpus at {str(path)!r}. A corpus is a text, .jsonl, .csv or .parquet file, a folder, "
            "stdlib, synthetic:KEY=VALUE,..., task:NAME,KEY=VALUE,..., gsm8k:FILE or hub:OWNER/NAME"
        )
    return path
