"""Measurements kept in a JSON file, to which a command that is run again adds those that are missing.

Where each takes long, they are kept as lines of JSON that are written one by one, beside a file of the settings.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from remask.errors import RemaskError
from remask.files import differences, write_atomically
from remask.terminal import say

T = TypeVar("T")


def read_kept(
    path: Path,
    settings: Mapping[str, Any],
    parse: Callable[[dict[str, Any]], T],
    defaults: Mapping[str, Any] | None = None,
) -> tuple[T, dict[str, Any]]:
    """What `parse` makes of a file of measurements, and the settings of both: those there, and those asked now.

    Settings are compared by name; one that the file does not have, such as the weights of another model, is new there,
    unless `defaults` say what it was before files had it.

    Raises:
        RemaskError: the file is damaged, or was measured with other values of these settings.
    """
    try:
        content = json.loads(path.read_text())
        parsed, before = parse(content), {**(defaults or {}), **content["settings"]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RemaskError(f"{path} is damaged: {error!r}; remove it, or choose another --out") from None
    known = {name: value for name, value in settings.items() if name in before}
    other = differences(before, {**before, **known})
    if other:
        raise RemaskError(f"{path} was measured otherwise: {'; '.join(other)}. Choose another --out")
    return parsed, {**before, **settings}


def keep_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings of measurements, beside those that are there. RemaskError as of `read_kept`."""
    every = read_kept(path, settings, lambda content: None)[1] if path.exists() else dict(settings)
    write_atomically(path, json.dumps({"settings": every}, indent=1) + "\n")


@contextmanager
def adding_lines(path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yields a function that adds a record to a file at once, as a line of JSON."""
    try:
        with open(path, "a", encoding="utf-8") as file:

            def add(record: dict[str, Any]) -> None:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                file.flush()

            yield add
    except OSError as error:
        raise RemaskError(f"cannot write {path}: {error.strerror or error}") from None


def read_lines(path: Path, keep: Callable[[dict[str, Any]], None]) -> None:
    """Gives every record of a file to `keep`. A last line that was cut off is removed from the file first.

    RemaskError, with the line, where one is damaged, so that it is no JSON or `keep` finds no measurement in it.
    """
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_atomically(path, whole)
        say(f"{path}: its last line was cut off, and that question is answered anew")
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            keep(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RemaskError(
                f"{path}, line {number} is damaged: {error!r}; remove it, or choose another --out"
            ) from None
