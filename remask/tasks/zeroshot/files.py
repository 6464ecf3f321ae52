"""The files of benchmarks: JSON Lines, or plain text with one item a line."""

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from remask.data.json_lines import json_value
from remask.errors import RemaskError
from remask.tasks.zeroshot.base import Benchmark, Question, benchmark
from remask.tasks.zeroshot.rows import Row


def file_of(entry: str, folder: Path | None) -> tuple[Benchmark, Path | None]:
    """The benchmark of an entry NAME or NAME=FILE, and its file; None where it has none in the folder.

    In the folder it is NAME.jsonl, or has one of the benchmark's other names. RemaskError where FILE does not exist.
    """
    name, given, path = entry.partition("=")
    found = benchmark(name)
    if given:
        if not Path(path).is_file():
            raise RemaskError(f"{name}: there is no file {path}")
        return found, Path(path)
    if folder is not None and not folder.is_dir():
        raise RemaskError(f"files is {folder}, which is no folder")
    names = names_of(found)
    return found, next((folder / one for one in names if (folder / one).is_file()), None) if folder else None


def names_of(found: Benchmark) -> tuple[str, ...]:
    """The names under which the file of a benchmark is looked for, the first that exists first."""
    return (f"{found.name}.jsonl", *found.other_files)


def questions_of(found: Benchmark, path: Path, limit: int | None = None) -> Iterator[tuple[int, Question]]:
    """(line, question) of the first `limit` rows of a file; empty lines are no rows.

    Raises:
        RemaskError: the file cannot be read, or a row is no question, with file, line and field.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            rows = ((number, line.rstrip("\r\n")) for number, line in enumerate(file, start=1) if not line.isspace())
            for number, line in islice(rows, limit):
                where = f"{path}, line {number}"
                yield number, found.question(Row(fields_of(line, path, where), where))
    except OSError as error:
        raise RemaskError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RemaskError(f"{path} is not UTF-8: {error.reason}") from None


def fields_of(line: str, path: Path, where: str) -> dict[str, object]:
    """The fields of a line: those of its JSON object; of a .txt file, one field `text`."""
    if path.suffix == ".txt":
        return {"text": line}
    value = json_value(line, where)
    if not isinstance(value, dict):
        raise RemaskError(f"{where}: it is not a JSON object")
    return value


def fingerprint_of(path: Path) -> str:
    """A hash of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
