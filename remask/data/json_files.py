"""JSON files as records: one record a line (JSON Lines), an array of records, or records written over several lines.

Nothing but the field that is asked for is looked at, so that the other fields may hold what they like. Numbers are
not converted: a file of very large ones is read as any other.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from remask.data.records import Record, type_name
from remask.data.streams import BLOCK, encoding, head, name_errors, open_text

_DECODER = json.JSONDecoder(strict=False, parse_int=lambda _: 0, parse_float=lambda _: 0.0)
"""Accepts a tab or a newline inside a string, as many writers leave them."""
_BETWEEN = re.compile(r"[\s,\[\]]*")
"""What stands between the records of an array."""


def json_records(path: Path, field: str, lines: bool) -> Iterator[Record]:
    """The records of a JSON file.

    Arguments:
        path: the file, compressed or not.
        field: the field that is asked for.
        lines: whether its name promises one record a line. If not, records may take several lines.
    """
    with name_errors(path), open_text(path) as file:
        yield from records_in(file, text_of(head(path)), field, lines)


def records_in(file: TextIO, start: str, field: str, lines: bool) -> Iterator[Record]:
    """The same of an open file, of which `start` is the beginning without blanks."""
    if start.startswith("[") or (not lines and not _is_record(start)):
        yield from _sequence(file, field)
    else:
        yield from _lines(file, field)


def first_record(start: bytes) -> dict[str, Any] | None:
    """The first record of a JSON file, as far as its first bytes `start` hold it as a whole; None otherwise."""
    try:
        record, _ = _DECODER.raw_decode(text_of(start).lstrip("[ \t\r\n"))
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def text_of(start: bytes) -> str:
    """The first bytes of a file as text, without the blanks before it."""
    return start.decode(encoding(start), errors="replace").lstrip()


def _is_record(start: str) -> bool:
    """Whether the first line is a record, as far as the start of a file tells."""
    line, end, _ = start.partition("\n")
    try:
        return not end or isinstance(_DECODER.decode(line), dict)
    except (ValueError, RecursionError):
        return False


def _lines(file: TextIO, field: str) -> Iterator[Record]:
    for number, line in enumerate(file, start=1):
        if line.isspace():
            continue
        try:
            value = _DECODER.decode(line)
        except json.JSONDecodeError as error:
            yield Record(f"line {number}", problem=f"it is not JSON ({error.msg} at character {error.pos + 1})")
        except RecursionError:
            yield Record(f"line {number}", problem="it is nested too deeply")
        else:
            yield _record(value, field, number)


def _sequence(file: TextIO, field: str) -> Iterator[Record]:
    """Records that follow each other, in an array or not. Keeps no more in memory than the longest of them needs."""
    buffer, at, number, wanted, ended = "", 0, 1, BLOCK, False
    while True:
        between = _BETWEEN.match(buffer, at)
        start = between.end() if between else at
        number, at = number + buffer.count("\n", at, start), start
        try:
            value, stop = _DECODER.raw_decode(buffer, at)
        except (json.JSONDecodeError, RecursionError) as error:
            if not ended:  # a record that is not yet here as a whole
                more = file.read(wanted)
                ended, buffer, at, wanted = not more, buffer[at:] + more, 0, 2 * wanted
            elif at == len(buffer):
                return
            else:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
                return (yield Record(f"line {number}", problem=f"from here on it is not JSON ({reason})"))
        else:
            yield _record(value, field, number)
            number, at, wanted = number + buffer.count("\n", at, stop), stop, BLOCK


def _record(value: object, field: str, number: int) -> Record:
    if not isinstance(value, dict):
        return Record(f"line {number}", problem=f"it is not a JSON object but {type_name(value)}")
    fields = None if field in value else tuple(value)
    return Record(f"line {number}", value.get(field), fields)
