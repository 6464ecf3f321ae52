"""Revised drafts, written one by one as they are made: to a file from which the same command goes on, or printed.

Beside a file OUT stands OUT.settings.json, which says of which model, drafts and options it holds the results.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from remask.errors import RemaskError
from remask.files import differences, open_to_go_on, write_atomically
from remask.robustness.revising import Revised
from remask.terminal import document

START = b'{"id": '
"""How every line begins."""


def revised_in(line: bytes) -> Revised:
    """The draft of a line. ValueError, TypeError or KeyError where it holds none."""
    record = json.loads(line)
    return Revised(**{field.name: record[field.name] for field in fields(Revised)})


class RevisedFile:
    """Where revised drafts go, and what is known of those that are there."""

    def __init__(self, path: Path | None, ids: Sequence[Any], settings: Mapping[str, Any]) -> None:
        """Opens or begins a file of the drafts with these ids, in their order; without a path they are printed.

        Raises:
            RemaskError: the file has other contents, or was written with other settings, and is left as it is; or
                another process is writing it, or it cannot be written.
        """
        self.ids, self.path = ids, path
        self.done = self.changed = self.tokens = 0
        """Drafts that are written, and their tokens: those changed, and all."""
        self._file: BinaryIO | None = None
        if path is None:
            return
        if path.exists() and not path.is_file():
            raise RemaskError(f"cannot write {path}: it is no regular file; without --out the drafts are printed")
        file = open_to_go_on(path, "--out")
        try:
            self._go_on(path, file, json.loads(document(dict(settings))))
        except BaseException:
            file.close()
            raise
        self._file = file

    def _go_on(self, path: Path, file: BinaryIO, settings: dict[str, Any]) -> None:
        """Reads what is there, and leaves the file at the end of its last whole line."""
        beside = path.with_name(f"{path.name}.settings.json")
        if not os.fstat(file.fileno()).st_size:
            write_atomically(beside, json.dumps(settings, indent=1) + "\n")
            return
        try:
            before = dict(json.loads(beside.read_text()))
        except (OSError, ValueError, TypeError):
            raise RemaskError(f"{path} is there, without a readable {beside.name}; choose another --out") from None
        if other := differences(before, settings):
            raise RemaskError(f"{path} was written otherwise: {'; '.join(other)}. Choose another --out")
        whole = 0
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") and line[: len(START)] == START[: len(line)]:
                break  # cut off
            try:
                if json.loads(line)["id"] != self.ids[number - 1]:
                    raise ValueError
                self._count(revised_in(line))
            except (ValueError, TypeError, KeyError, IndexError):
                raise RemaskError(
                    f"{path}, line {number}, is not the revision of draft {number}; choose another --out"
                ) from None
            whole += len(line)
        file.seek(whole)
        file.truncate()

    def _count(self, one: Revised) -> None:
        self.done += 1
        self.changed += one.changed
        self.tokens += one.tokens

    def known(self) -> Iterator[Revised]:
        """The drafts that an earlier run has written, one by one."""
        if self.path is not None and self.done:
            with open(self.path, "rb") as file:
                for line in islice(file, self.done):
                    yield revised_in(line)

    def add(self, one: Revised) -> None:
        """Writes the next draft at once."""
        line = document({"id": self.ids[self.done]} | asdict(one)) + "\n"
        if self._file is None:
            print(line, end="", flush=True)
        else:
            self._file.write(line.encode())
            self._file.flush()
        self._count(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
