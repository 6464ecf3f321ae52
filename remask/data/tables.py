"""Tables as records: CSV and TSV by their header, Parquet and Arrow by their schema. Only one column is read."""

import csv
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from remask.data.records import Record, missing_field
from remask.data.streams import name_errors, open_text
from remask.errors import RemaskError, first_line

DELIMITERS = ",;\t|"
"""What may separate the cells of a .csv file."""
ROWS = 1000
"""Rows of a Parquet file that are in memory at once."""


def columns(path: Path) -> list[str]:
    """The names in the first row of a CSV or TSV file."""
    with name_errors(path), open_text(path) as file:
        return _header(_rows(file, path), path)


def csv_records(path: Path, name: str, field: str) -> Iterator[Record]:
    """The rows of a CSV or TSV file. RemaskError where the first row does not name the field."""
    with name_errors(path), open_text(path) as file:
        reader = _rows(file, path)
        header = _header(reader, path)
        if field not in header:
            raise RemaskError(
                f"{name} is a table without a column {field!r}. Its columns: {', '.join(header) or 'none'}. Name the "
                "one that holds the text with --field (the first row must hold the names)"
            )
        column = header.index(field)
        while True:
            where = f"line {reader.line_num + 1}"
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(where, problem=str(error))
                continue
            if len(row) == len(header):
                yield Record(where, row[column])
            elif row:
                yield Record(where, problem=f"it has {len(row)} cells, where the first row has {len(header)}")


def _rows(file: Any, path: Path) -> Any:
    """A reader of the rows, the header among them, with `line_num`."""
    csv.field_size_limit(sys.maxsize)
    suffixes = {suffix.lower() for suffix in path.suffixes}
    first = file.readline()
    delimiter = "\t" if suffixes & {".tsv", ".tab"} else max(DELIMITERS, key=first.count)
    return csv.reader(itertools.chain([first] if first else [], file), delimiter=delimiter, strict=True)


def _header(reader: Any, path: Path) -> list[str]:
    """The first row that a reader gives; none of an empty file."""
    try:
        return next(reader, [])
    except csv.Error as error:
        raise RemaskError(f"cannot read {path}: line 1: {error}") from None


def parquet_records(path: Path, name: str, field: str) -> Iterator[Record]:
    """The rows of a Parquet file. RemaskError where it lacks the field, or the field is not text."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            check_text(file.schema_arrow, name, field)
            yield from batch_records(file.iter_batches(ROWS, columns=[field]), field)
    except (pyarrow.ArrowException, OSError) as error:
        raise RemaskError(f"cannot read {path}: {first_line(error)}") from error


def arrow_records(path: Path, name: str, field: str) -> Iterator[Record]:
    """The rows of an Arrow file, in either of its two forms."""
    import pyarrow
    import pyarrow.ipc

    try:
        with pyarrow.memory_map(str(path)) as file:
            try:
                opened: Any = pyarrow.ipc.open_file(file)
                batches = (opened.get_batch(i) for i in range(opened.num_record_batches))
            except pyarrow.ArrowInvalid:
                file.seek(0)
                batches = opened = pyarrow.ipc.open_stream(file)
            check_text(opened.schema, name, field)
            yield from batch_records(batches, field)
    except (pyarrow.ArrowException, OSError) as error:
        raise RemaskError(f"cannot read {path}: {first_line(error)}") from error


def check_text(schema: Any, name: str, field: str) -> None:
    """RemaskError where a table of this Arrow schema has no text in the field."""
    import pyarrow.types as types

    if field not in schema.names:
        raise missing_field(name, field, schema.names)
    kind = schema.field(field).type
    values = kind.value_type if types.is_dictionary(kind) else kind
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    if not any(test(values) for test in tests):
        raise RemaskError(f"{name}: field {field!r} is not text but {kind}")


def batch_records(batches: Any, field: str) -> Iterator[Record]:
    """The rows of some Arrow record batches (or tables)."""
    number = 0
    for batch in batches:
        for value in batch[field]:
            number += 1
            try:
                yield Record(f"row {number}", value.as_py())
            except UnicodeDecodeError:
                yield Record(f"row {number}", problem=f"field {field!r} holds bytes that are not UTF-8")
