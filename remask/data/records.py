"""Records to documents: one text from each, by the type that it has in its file.

Every reader of records (JSON, tables, Parquet, Arrow) yields `Record`s, and `record_documents` decides what is a
document, what is left out and what stops everything, so that this is the same for all of them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from remask.data.reading import Document, Reading
from remask.errors import RemaskError

PATIENCE = 1000
"""So many records without the field, and none with it, mean that the name of the field is wrong."""


@dataclass(frozen=True)
class Record:
    """One record of a file, with nothing of it but the field that was asked for."""

    where: str
    """Its place in the file, such as `line 3`."""
    text: object = None
    """The value of the field."""
    fields: tuple[str, ...] | None = None
    """The names of the fields that the record has, where it lacks the one that was asked for."""
    problem: str | None = None
    """Why the record cannot be read."""


def record_documents(records: Iterable[Record], name: str, reading: Reading) -> Iterator[Document]:
    """The documents among the records of one file.

    Records without text (the field is missing, null or blank) are noted and left out. So are records that cannot be
    read, if `reading.undecodable` is "skip".

    Raises:
        RemaskError: a record cannot be read, and `reading.undecodable` is "stop"; or no record has the field.
    """
    some, lacking, fields = False, 0, {}
    for i, record in enumerate(records):
        if record.fields is not None and not some:
            lacking += 1
            fields |= dict.fromkeys(record.fields[:PATIENCE])
            if lacking == PATIENCE:
                raise missing_field(name, reading.field, fields)
        some = some or (record.fields is None and record.problem is None)
        problem = record.problem or _problem(record.text, reading.field)
        if problem and reading.undecodable == "stop":
            raise RemaskError(
                f"{name}, {record.where}: {problem}. Mend the record, or leave such records out with --undecodable skip"
            )
        if problem:
            reading.omissions.add("records that cannot be read", f"{name}, {record.where} ({problem})")
        elif isinstance(record.text, str) and record.text.strip():
            yield Document(record.text, f"{name}#{i}")
        else:
            reading.omissions.add(f"records without text in {reading.field!r}", f"{name}, {record.where}")
    if lacking and not some:
        raise missing_field(name, reading.field, fields)


def missing_field(name: str, field: str, fields: Iterable[str]) -> RemaskError:
    """The error for a file whose records or columns have other names."""
    known = sorted(fields)
    return RemaskError(
        f"{name} has no field {field!r}. Its fields: {', '.join(known) or 'none'}. Name one with --field"
    )


def _problem(text: object, field: str) -> str | None:
    """Why a value is no text; None where it is one, or is absent."""
    if text is None:
        return None
    if not isinstance(text, str):
        return f"field {field!r} is not text but {type_name(text)}"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            what = "bytes that are not UTF-8" if "\udc80" <= text[error.start] <= "\udcff" else "half a surrogate pair"
            return f"field {field!r} holds {what}"
    return None


def type_name(value: object) -> str:
    """What JSON calls the type of a value."""
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object", str: "text"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
