"""Drafts, which a masked model is to revise, and how they are read from files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remask.data.json_lines import numbered_lines, value_of
from remask.data.records import type_name
from remask.errors import RemaskError


@dataclass(frozen=True)
class Draft:
    """A text to be revised, and what stands before it and stays."""

    prompt: str
    text: str
    ended: bool = False
    """Whether the text has ended, so that an end-of-text token follows it."""


def drafts_of(path: Path) -> list[tuple[Any, Draft]]:
    """(id, draft) of a file: JSON lines with `text`, and `prompt`, `ended` and `id` where they are given, or what
    `remask sample --json` prints. RemaskError names the file, the line and what is wrong with it."""
    found: list[tuple[Any, Draft]] = []
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        value = value_of(line, where)
        for record in value if isinstance(value, list) else [value]:
            found.append(draft_of(record, where, len(found) + 1))
    if not found:
        raise RemaskError(f"{path} has no drafts")
    return found


def draft_of(record: Any, where: str, number: int) -> tuple[Any, Draft]:
    """(id, draft) of a record; its id is `number` unless it has one."""
    if not isinstance(record, dict):
        raise RemaskError(f"{where}: it is not a JSON object but {type_name(record)}")
    text, prompt, ended = record.get("text"), record.get("prompt", ""), record.get("ended", False)
    if not isinstance(text, str) or not text:
        there = ", ".join(map(repr, record)) or "no fields"
        raise RemaskError(f"{where}: the field 'text' must be text and not empty; the line has {there}")
    if not isinstance(prompt, str) or not isinstance(ended, bool):
        raise RemaskError(f"{where}: the field 'prompt' must be text, and 'ended' true or false")
    return record.get("id", number), Draft(prompt, text, ended)
