"""Preferences from JSON Lines: two replies to what was said before, of which the first is preferred.

A row has one of these forms, and all rows of a file have the same one:

    {"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"}                         # texts, as they are
    {"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "Hello."}], ...}
    {"chosen": [{"role": "user", ...}, {"role": "assistant", ...}], "rejected": [...]}       # each a whole chat

In a chat, `messages` or `conversations` may stand in place of `prompt`, which may also be the text of one user's turn;
a reply may be a list, one message, an object with `messages`, or text behind a list. Where chosen and rejected begin
with what was said before, other fields are not looked at. Conversations are read by `remask.data.conversations`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remask.data.conversations import (
    SHAREGPT,
    Bad,
    Conversation,
    lacking,
    messages_of,
    read_rows,
    refuse,
    text_of,
)
from remask.data.examples import Example, ExampleEncoder, fitting_rows
from remask.data.reading import Omissions
from remask.data.records import type_name

REPLIES = ("chosen", "rejected")
BEFORE = ("prompt", "messages", "conversations")
"""Fields that may hold what was said before the replies."""
NEEDED = "prompt, chosen and rejected, or chats in chosen and rejected that begin with the prompt"


@dataclass(frozen=True)
class Preference:
    """A conversation with two last replies."""

    chosen: Conversation
    rejected: Conversation
    """It differs in the last reply alone."""


def read_preferences(path: Path, skip: Omissions | None = None) -> Iterator[Preference]:
    """The preferences of a file, or of the files of a folder, in order; errors as of `read_conversations`."""
    return read_rows(path, skip, _preference)


def encode_preferences(
    preferences: Iterable[Preference],
    encoder: ExampleEncoder,
    length: int,
    skip: Omissions | None = None,
    most: int | None = None,
) -> Iterator[tuple[Conversation, list[Example]]]:
    """Each preference as its chosen conversation, with the rows of the chosen and of the rejected reply. Two that do
    not fit, or have the same ids, are noted in `skip` or raise a RemaskError, as of `encode_all`."""
    for one in preferences:
        try:
            rows = [fitting_rows(each, encoder, length, most)[-1] for each in (one.chosen, one.rejected)]
            if rows[0].ids == rows[1].ids:
                raise Bad("chosen and rejected are the same, so that neither is preferred")
        except Bad as problem:
            refuse(one.chosen.where, str(problem), skip)
        else:
            yield one.chosen, rows


def _preference(row: dict[str, Any], where: str) -> tuple[str, Preference]:
    before = next((row[name] for name in BEFORE if row.get(name) is not None), None)
    if not all(name in row for name in REPLIES):
        raise lacking(row, NEEDED)
    if all(isinstance(row[name], str) for name in REPLIES) and not isinstance(before, list):
        if "prompt" not in row:
            raise lacking(row, NEEDED)
        prompt = ("user", text_of(row, "prompt"))
        texts = [(prompt, ("assistant", text_of(row, name, empty=False))) for name in REPLIES]
        return "texts", Preference(*(Conversation(turns, where, is_chat=False) for turns in texts))
    chats = [_chat(row[name], before, name) for name in REPLIES]
    if chats[0][:-1] != chats[1][:-1]:
        raise Bad("chosen and rejected answer different conversations; they may differ in the last reply alone")
    return "chats", Preference(*(Conversation(turns, where) for turns in chats))


def _chat(reply: Any, before: Any, name: str) -> tuple[tuple[str, str], ...]:
    """The turns of a chat that ends with a reply, in any of its forms, behind what was said `before`."""
    if isinstance(reply, dict):
        reply = reply.get("messages", [reply])
    first = next((part[0] for part in (reply, before) if isinstance(part, list) and part), None)
    sharegpt = isinstance(first, dict) and "from" in first
    role, text = ("from", "value") if sharegpt else ("role", "content")
    if isinstance(reply, str):
        reply = [{role: "assistant", text: reply}]
    if not isinstance(reply, list):
        raise Bad(f"{name} is not text, a message or a list of messages but {type_name(reply)}")
    speaker = reply[0].get(role) if reply and isinstance(reply[0], dict) else None
    if SHAREGPT.get(str(speaker), speaker) == "assistant":
        if before is None:
            raise Bad(f"{name} is a reply alone, and no prompt stands before it")
        said = [{role: "user", text: before}] if isinstance(before, str) else before
        if not isinstance(said, list):
            raise Bad(f"what stands before {name} is not text or a list of messages but {type_name(said)}")
        reply = [*said, *reply]
    try:
        turns = tuple(messages_of({name: reply}, name, role, text))
    except Bad as problem:
        raise Bad(f"{name}: {problem}") from None
    if turns[-1][0] != "assistant":
        raise Bad(f"{name}: the last message is of the {turns[-1][0]}, and must be of the assistant")
    return turns
