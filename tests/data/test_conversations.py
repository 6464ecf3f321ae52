"""Conversations from files: every usual form, and rows that cannot be used are named with file and line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from remask.data.conversations import Conversation, conversation_files, read_conversations
from remask.data.reading import Omissions
from remask.errors import RemaskError

PAIR = (("user", "2 + 2 ="), ("assistant", " 4"))
OTHERS: list[dict[str, Any]] = [
    {"instruction": "Add.", "output": "4"},
    {"messages": [{"role": "user", "content": "2"}, {"role": "assistant", "content": "4"}]},
    {"conversations": [{"from": "human", "value": "2"}, {"from": "gpt", "value": "4"}]},
]
GOOD = {"prompt": "2 + 2 =", "completion": " 4"}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def message(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


@pytest.mark.parametrize(
    ("row", "turns", "is_chat"),
    [
        (GOOD, PAIR, False),
        ({"prompt": "2 + 2 =", "response": " 4", "id": [1]}, PAIR, False),
        ({"instruction": "Add.", "output": "4"}, (("user", "Add."), ("assistant", "4")), True),
        ({"instruction": "Add.", "input": "2, 2", "output": "4"}, (("user", "Add.\n\n2, 2"), ("assistant", "4")), True),
        ({"instruction": "Add.", "input": None, "output": "4"}, (("user", "Add."), ("assistant", "4")), True),
        (
            {"messages": [message("system", "Sum."), message("user", "2"), message("assistant", "4")], "prompt": "2"},
            (("system", "Sum."), ("user", "2"), ("assistant", "4")),
            True,
        ),
        (
            {"conversations": [{"from": "human", "value": "2"}, {"from": "gpt", "value": "4"}]},
            (("user", "2"), ("assistant", "4")),
            True,
        ),
    ],
)
def test_forms(tmp_path: Path, row: Any, turns: tuple[tuple[str, str], ...], is_chat: bool) -> None:
    path = write(tmp_path / "a.jsonl", row)
    assert list(read_conversations(path)) == [Conversation(turns, f"{path}, line 1", is_chat)]


BAD = [
    ("{", "not JSON"),
    ("[1]", "not a JSON object but a list"),
    ('{"id": ' + "9" * 5000 + "}", "too many digits"),
    ({f"f{i}": 1 for i in range(1000)}, "its fields are f0, .*, f9 and 990 more, and it needs"),
    ({"prompt": "a"}, "its fields are prompt, and it needs prompt and completion"),
    ({"prompt": "a", "completion": "\n "}, "completion is empty"),
    ({"prompt": 3, "completion": "b"}, "prompt is not text but a number"),
    ({"prompt": "a", "completion": "b", "messages": []}, "prompt and completion .* and messages"),
    ({"instruction": "a", "output": ""}, "output is empty"),
    ({"messages": []}, "messages is not a list of messages but empty"),
    ({"messages": "a"}, "messages is not a list of messages but text"),
    ({"messages": [{"content": "a"}]}, r"message 1 has no role: a message is \{'role': 'user', 'content': '...'\}"),
    ({"messages": ["a"]}, "message 1 has no role and no content: a message is"),
    ({"conversations": [{"from": "human"}]}, "message 1 has no value: a message is .'from': 'human', 'value': "),
    ({"prompt": "a", "completion": "b", "response": "c"}, "it has completion and response, and one of them is wanted"),
    ({"messages": [message("users", "a")]}, "message 1.*unknown role 'users'.*user"),
    ({"messages": [message("user", "a")]}, "no message is of the assistant"),
    ({"messages": [message("user", "a"), message("assistant", " ")]}, "message 2, of the assistant: content is empty"),
    ({"messages": [message("user", "a"), message("user", "b")]}, "messages 1 and 2 are both of the user"),
    ({"messages": [message("assistant", "a")]}, "message 1 is of the assistant, and no user spoke before it"),
    ({"messages": [message("user", "a"), message("system", "b")]}, "message 2 is of the system"),
]


@pytest.mark.parametrize(("row", "says"), BAD)
def test_bad_rows_are_named_or_counted(tmp_path: Path, row: Any, says: str) -> None:
    good = next((one for one in OTHERS if not one.keys().isdisjoint(row)), GOOD) if "prompt" not in row else GOOD
    path = write(tmp_path / "a.jsonl", good, "", row, good)
    with pytest.raises(RemaskError, match=rf"a.jsonl, line 3: .*{says}.*--sft.skip_bad"):
        list(read_conversations(path))
    skip = Omissions()
    assert len(list(read_conversations(path, skip))) == 2
    assert list(skip.counts.values()) == [1]
    assert "line 3" in next(skip.lines())


def test_forms_are_not_mixed_within_a_file(tmp_path: Path) -> None:
    other = {"instruction": "Add.", "output": "4"}
    path = write(tmp_path / "a.jsonl", GOOD, other)
    for skip in (None, Omissions()):
        with pytest.raises(RemaskError, match=r"a.jsonl, line 2: a row of instruction and output, .* prompt and"):
            list(read_conversations(path, skip))
    write(tmp_path / "a.jsonl", GOOD)
    write(tmp_path / "b.jsonl", other)
    assert len(list(read_conversations(tmp_path))) == 2


def test_files_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", GOOD)
    (tmp_path / "deep").mkdir()
    with gzip.open(tmp_path / "deep" / "a.jsonl.gz", "wt") as file:
        file.write(json.dumps(GOOD))
    (tmp_path / "README.md").write_text("# Chats\n")
    assert [path.name for path in conversation_files(tmp_path)] == ["b.jsonl", "a.jsonl.gz"]
    assert [one.turns for one in read_conversations(tmp_path)] == [PAIR, PAIR]
    assert conversation_files(tmp_path / "README.md") == conversation_files(tmp_path / "none") == []
