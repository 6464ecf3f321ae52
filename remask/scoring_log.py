"""Scores kept in a JSONL file as they are found, so that the same command goes on where it was stopped.

The first line says of what they are the scores: the model's weights and tokenizer, and how they were found. Then comes
a line for each text. A line that was cut off when the process was killed is dropped, and its text scored again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from remask.errors import RemaskError
from remask.files import differences, open_to_go_on
from remask.likelihood import Estimator
from remask.terminal import document

START = b'{"protocol": {'
"""How every log begins."""


class ScoreLog:
    """A log of scores, or none where there is no file: `done` has the records of earlier runs by the key of a text."""

    def __init__(self, path: Path | None, protocol: Mapping[str, Any]) -> None:
        """Opens or begins a log.

        Raises:
            RemaskError: the log is of another model or protocol, another process writes it, or it is damaged; it is
                left as it is.
        """
        self.done: dict[str, dict[str, Any]] = {}
        self._file = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RemaskError(f"cannot write {path}: {error.strerror or error}") from None
        file = open_to_go_on(path, "--log")
        try:
            self._go_on(path, file, json.loads(document(dict(protocol))))
        except BaseException:
            file.close()
            raise
        self._file = file

    def _go_on(self, path: Path, file: Any, protocol: dict[str, Any]) -> None:
        """Reads what is there, and leaves the file at the end of its last whole line."""
        whole = 0
        for number, line in enumerate(file.readlines(), 1):
            if not line.endswith(b"\n") and (number > 1 or START.startswith(line[: len(START)])):
                break  # cut off
            try:
                record = json.loads(line)
                if number == 1:
                    before = dict(record["protocol"])
                else:
                    self.done[str(record["key"])] = record
            except (ValueError, TypeError, KeyError):
                raise RemaskError(
                    f"{path}, line {number}: this is no log of scores; remove it, or choose another --log"
                ) from None
            if number == 1 and (other := differences(before, protocol)):
                raise RemaskError(f"{path} has other scores: {'; '.join(other)}. Choose another --log")
            whole += len(line)
        file.seek(whole)
        file.truncate()
        if not whole:
            self._write(file, {"protocol": protocol})

    def add(self, record: dict[str, Any]) -> None:
        """Appends a record, which has a "key"."""
        self.done[record["key"]] = record
        if self._file is not None:
            self._write(self._file, record)

    @staticmethod
    def _write(file: Any, record: dict[str, Any]) -> None:
        file.write((document(record) + "\n").encode())
        file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def key_of(*content: Any) -> str:
    """A hash of what is scored: equal texts have equal scores."""
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


def described(estimator: Estimator) -> dict[str, Any]:
    """An estimator as its name and options."""
    options = {f.name: getattr(estimator, f.name) for f in fields(estimator)}
    plain = {
        key: value if isinstance(value, int | float | str | None) else repr(value) for key, value in options.items()
    }
    return {"estimator": estimator.name, **plain}
