"""Documents with their dates, from JSON Lines: {"text": "We show that", "date": "2008-05-13"}."""

import re
from pathlib import Path
from typing import Literal

from remask.data.json_lines import numbered_lines, object_of
from remask.data.records import type_name
from remask.errors import RemaskError

Period = Literal["year", "month", "day"]
LENGTHS = {"year": 4, "month": 7, "day": 10}
"""Characters of a date that say of which period it is."""
DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")


def dated_texts(path: Path, by: str, field: str, length: int) -> list[tuple[str, str]]:
    """(text, first `length` characters of its date) of each line; RemaskError, with the line, for one without."""
    found = []
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        record = object_of(line, where)
        text, date = record.get(field), record.get(by)
        if not isinstance(text, str) or not text:
            raise RemaskError(
                f"{where}: field {field!r} is {type_name(text)}; it must be a text; --field names another"
            )
        date = str(date) if isinstance(date, int) and not isinstance(date, bool) else date
        if not isinstance(date, str) or not DATE.match(date) or len(date) < length:
            wanted = "YYYY-MM-DD"[:length]
            raise RemaskError(f"{where}: field {by!r} is {date!r}; it must be a date that begins with {wanted}")
        found.append((text, date[:length]))
    if not found:
        raise RemaskError(f"{path} holds no documents")
    return found
