"""The files of benchmarks: JSON Lines, or plain text with one item a line."""

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from remask.data.json_lines import numbered_lines, object_of
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
    for number, line in islice(numbered_lines(path), limit):
        where = f"{path}, line {number}"
        fields = {"text": line.rstrip("\r\n")} if path.suffix == ".txt" else object_of(line, where)
        yield number, found.question(Row(fields, where))


def fingerprint_of(path: Path) -> str:
    """A hash of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
