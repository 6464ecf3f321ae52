"""JSON Lines whose rows are read as a whole: questions, drafts, labelled and dated texts.

Files of a corpus, of which one field is looked at, are read by `json_files.py`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from remask.errors import RemaskError

_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape that may be half of a surrogate pair."""


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The values of a file, each with the place where it stands, "FILE, line 3"; blank lines hold none.

    Only \\n ends a line, with or without \\r before it, so that U+2028 may stand in a text. The file is opened once, so
    that it may be a pipe. RemaskError where it cannot be read, and, with the line, for what `json_value` refuses.
    """
    for number, line in text_lines(path):
        where = f"{path}, line {number}"
        yield where, json_value(line, where)


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file that are not blank, with their numbers from 1. RemaskError as of `json_lines`."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, require_utf8(line, f"{path}, line {number}").rstrip("\r\n")
    except OSError as error:
        raise RemaskError(f"cannot read {path}: {error.strerror or error}") from None


def require_utf8(line: str, where: str) -> str:
    """The line; RemaskError where it holds lone surrogates, by which bytes that are not UTF-8 were replaced."""
    try:
        line.encode()
    except UnicodeEncodeError:
        raise RemaskError(f"{where}: it is not UTF-8") from None
    return line


def json_value(line: str, where: str) -> Any:
    """The value of a line. RemaskError where it is not JSON, or holds half a surrogate pair, which is no character."""
    try:
        value = json.loads(line)
        if _HALF.search(line):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise RemaskError(f"{where}: it is not JSON ({error.msg} at character {error.pos + 1})") from None
    except UnicodeEncodeError:
        raise RemaskError(f"{where}: it holds half a surrogate pair, which is no character") from None
    except RecursionError:
        raise RemaskError(f"{where}: it is nested too deeply") from None
    except ValueError:  # Python converts no more than some thousand digits
        raise RemaskError(f"{where}: it holds a number of too many digits") from None
    return value
