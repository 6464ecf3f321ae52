"""Conversations from JSON Lines: prompts with their completions, instructions with their outputs, chats of many turns.

A row has one of these forms, and all rows of a file have the same one:

    {"prompt": "2 + 2 =", "completion": " 4"}                                  # or "response"
    {"instruction": "Translate to French.", "input": "cat", "output": "chat"}  # input may be left out
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}

Other fields are not looked at.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from remask.data.kinds import SUFFIXES, plain_suffix
from remask.data.reading import Omissions
from remask.data.records import type_name
from remask.data.streams import name_errors, open_text
from remask.errors import RemaskError, unknown

ROLES = ("system", "user", "assistant")
SHAREGPT = {"human": "user", "gpt": "assistant"}
"""Other names of the roles, as ShareGPT's files have them."""
SHOWN = 10
"""So many fields of a row are named where it has none of those that are wanted."""
SKIPPED = "rows that are no conversation to learn from"
T = TypeVar("T")


@dataclass(frozen=True)
class Conversation:
    """What was said, and where it stands."""

    turns: tuple[tuple[str, str], ...]
    """Pairs of role, one of ROLES, and text."""
    where: str
    """The file and the line."""
    is_chat: bool = True
    """Whether it has turns, around which a template belongs; False for a prompt and its completion, text as it is."""


class Bad(Exception):
    """What is wrong with a row."""


def conversation_files(path: Path) -> list[Path]:
    """The file itself, or the files of JSON Lines in a folder and below. Empty where there are none."""
    every = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else []
    return [p for p in every if SUFFIXES.get(plain_suffix(p)) == "lines"]


def read_conversations(path: Path, skip: Omissions | None = None) -> Iterator[Conversation]:
    """The conversations of a file, or of the files of a folder, in order.

    Rows that cannot be used are noted in `skip` and left out. Without it they raise a RemaskError that names file and
    line, as does, in either case, a row of another form than those before it in its file.
    """
    yield from read_rows(path, skip, _conversation)


def read_rows(path: Path, skip: Omissions | None, read: Callable[[dict[str, Any], str], tuple[str, T]]) -> Iterator[T]:
    """What `read` makes of the rows of a file, or of the files of a folder, in order; errors as of
    `read_conversations`. `read` is given a row and its place, raises Bad, and names the form of the row too."""
    for file in conversation_files(path):
        form: str | None = None
        with name_errors(file), open_text(file) as lines:
            for number, line in enumerate(lines, start=1):
                if line.isspace():
                    continue
                where = f"{file}, line {number}"
                try:
                    own, found = read(_parse(line), where)
                except Bad as problem:
                    refuse(where, str(problem), skip)
                    continue
                if form not in (None, own):
                    raise RemaskError(
                        f"{where}: a row of {own}, and those before it in this file are of {form}; put rows of "
                        "different forms into different files"
                    )
                form = own
                yield found


def _conversation(row: dict[str, Any], where: str) -> tuple[str, Conversation]:
    form = FORMS[_form_of(row)]
    return form.fields, Conversation(tuple(form.read(row)), where, form.is_chat)


def refuse(where: str, problem: str, skip: Omissions | None) -> None:
    """Notes a row that cannot be used, or raises a RemaskError that names it."""
    if skip is None:
        raise RemaskError(f"{where}: {problem}. Mend the row, or leave such rows out with --sft.skip_bad")
    skip.add(SKIPPED, f"{where} ({problem})")


def _parse(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line, strict=False)
    except json.JSONDecodeError as error:
        raise Bad(f"it is not JSON ({error.msg} at character {error.pos + 1})") from None
    except RecursionError:
        raise Bad("it is nested too deeply") from None
    except ValueError:  # Python converts no more than some thousand digits
        raise Bad("it holds a number of too many digits") from None
    if not isinstance(row, dict):
        raise Bad(f"it is not a JSON object but {type_name(row)}")
    return row


def _form_of(row: dict[str, Any]) -> str:
    found = [name for name, form in FORMS.items() if name in row and any(one in row for one in form.answers)]
    if len(found) == 1:
        return found[0]
    if found:
        raise Bad(f"it has {' and '.join(FORMS[name].fields for name in found)}, and one of them is wanted")
    raise lacking(row, "; ".join(form.fields for form in FORMS.values()))


def lacking(row: dict[str, Any], needed: str) -> Bad:
    """That a row has none of the forms that are `needed`, in words."""
    there = f"{', '.join([*row][:SHOWN]) or 'none'}{f' and {len(row) - SHOWN} more' if len(row) > SHOWN else ''}"
    return Bad(f"its fields are {there}, and it needs {needed}")


def text_of(row: dict[str, Any], name: str, empty: bool = True) -> str:
    """A field that holds text. Bad where it does not, or is blank and may not be `empty`."""
    value = row[name]
    if not isinstance(value, str):
        raise Bad(f"{name} is not text but {type_name(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Bad(f"{name} is not UTF-8") from None
    if not empty and not value.strip():
        raise Bad(f"{name} is empty")
    return value


def _completion(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "completion" in row and "response" in row:
        raise Bad("it has completion and response, and one of them is wanted")
    yield "user", text_of(row, "prompt")
    yield "assistant", text_of(row, "completion" if "completion" in row else "response", empty=False)


def _instruction(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    asked = text_of(row, "instruction", empty=False)
    more = text_of(row, "input") if row.get("input") is not None else ""
    yield "user", f"{asked}\n\n{more}" if more.strip() else asked
    yield "assistant", text_of(row, "output", empty=False)


def messages_of(row: dict[str, Any], field: str, role_field: str, text_field: str) -> Iterator[tuple[str, str]]:
    """The turns of a field that holds a list of messages. Bad where they are no conversation with a reply."""
    messages = row[field]
    if not isinstance(messages, list) or not messages:
        raise Bad(f"{field} is not a list of messages but {type_name(messages) if messages != [] else 'empty'}")
    replies, before = 0, ""
    for number, message in enumerate(messages, start=1):
        fields = message if isinstance(message, dict) else {}
        if missing := [name for name in (role_field, text_field) if name not in fields]:
            one = f"{{'{role_field}': '{'human' if role_field == 'from' else 'user'}', '{text_field}': '...'}}"
            raise Bad(f"message {number} has no {' and no '.join(missing)}: a message is {one}")
        role = message[role_field]
        role = SHAREGPT.get(role, role) if isinstance(role, str) else role
        if role not in ROLES:
            raise Bad(f"message {number}: {unknown(role_field, str(role), ROLES)}")
        try:
            text = text_of(message, text_field, empty=role == "user")
        except Bad as problem:
            raise Bad(f"message {number}, of the {role}: {problem}") from None
        if role == "system" and number > 1:
            raise Bad(f"message {number} is of the system, which can only speak first")
        if role == before:
            raise Bad(f"messages {number - 1} and {number} are both of the {role}")
        if role == "assistant" and before != "user":
            raise Bad(f"message {number} is of the assistant, and no user spoke before it")
        replies, before = replies + (role == "assistant"), role
        yield role, text
    if not replies:
        raise Bad("no message is of the assistant")


@dataclass(frozen=True)
class Form:
    """A form of the rows."""

    fields: str
    """The fields that it has, in words."""
    answers: tuple[str, ...]
    """One of these must be there, beside the field that names the form."""
    read: Callable[[dict[str, Any]], Iterator[tuple[str, str]]]
    is_chat: bool = True


FORMS = {
    "prompt": Form("prompt and completion (or response)", ("completion", "response"), _completion, is_chat=False),
    "instruction": Form("instruction and output", ("output",), _instruction),
    "messages": Form("messages", ("messages",), lambda row: messages_of(row, "messages", "role", "content")),
    "conversations": Form(
        "conversations", ("conversations",), lambda row: messages_of(row, "conversations", "from", "value")
    ),
}
