"""Small files of JSON Lines, of which every line counts: questions, drafts, labelled texts.

The files of a corpus, whose damaged records may be left out, are read by `json_files`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from remask.data.records import type_name
from remask.errors import RemaskError

_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
"""What may be half of a surrogate pair: an escape, or a byte that was no UTF-8."""


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a file of UTF-8 with their line ends, without a byte-order mark.

    RemaskError where it cannot be read, or names the line that is not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except OSError as error:
        raise RemaskError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        wrong = f"byte {error.start} is {error.object[error.start]:#04x}"
        raise RemaskError(f"{path}, line {number}: it is not UTF-8: {wrong}") from None


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1. RemaskError as of `text_lines`."""
    return ((number, line) for number, line in enumerate(text_lines(path), 1) if line.strip())


def value_of(line: str, where: str) -> Any:
    """The value of a line of JSON. RemaskError, with its place `where`, for what is none, and for what is no text."""
    try:
        value = json.loads(line)
        if _HALF.search(line):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError:
        raise RemaskError(f"{where}: it holds bytes that are not UTF-8, or half a surrogate pair") from None
    except json.JSONDecodeError as error:
        raise RemaskError(f"{where}: it is not JSON ({error.msg} at character {error.pos + 1})") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise RemaskError(f"{where}: it is not JSON ({reason})") from None


def object_of(line: str, where: str) -> dict[str, Any]:
    """The same of a line that holds an object."""
    value = value_of(line, where)
    if not isinstance(value, dict):
        raise RemaskError(f"{where}: it is not a JSON object but {type_name(value)}")
    return value
