"""Preferences from files: every usual form, rows of ids, and rows that cannot be used, by file and line."""

import json
from pathlib import Path
from typing import Any

import pytest

from remask.data.examples import ExampleEncoder
from remask.data.preferences import encode_preferences, read_preferences
from remask.data.reading import Omissions
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError

GOOD = {"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"}
TEXTS = (("user", "2 + 2 ="),), " 4", " 5"
HI = (("user", "Hi"),), "Hello.", "Go away."


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def gpt(role: str, text: str) -> dict[str, str]:
    return {"from": role, "value": text}


USER, YES, NO = said("user", "Hi"), said("assistant", "Hello."), said("assistant", "Go away.")


@pytest.mark.parametrize(
    ("row", "expected", "is_chat"),
    [
        (GOOD, TEXTS, False),
        (GOOD | {"messages": [USER, YES], "score": 3}, TEXTS, False),
        (GOOD | {"prompt": ""}, ((("user", ""),), " 4", " 5"), False),
        ({"prompt": [USER], "chosen": [YES], "rejected": [NO]}, HI, True),
        ({"messages": [USER], "chosen": [YES], "rejected": [NO]}, HI, True),
        ({"messages": [USER], "chosen": YES, "rejected": NO}, HI, True),
        ({"prompt": [USER], "chosen": "Hello.", "rejected": "Go away."}, HI, True),
        ({"prompt": "Hi", "chosen": [YES], "rejected": [NO]}, HI, True),
        ({"chosen": [USER, YES], "rejected": [USER, NO]}, HI, True),
        ({"chosen": {"messages": [USER, YES]}, "rejected": {"messages": [USER, NO]}}, HI, True),
        ({"prompt": "Hi", "chosen": [USER, YES], "rejected": [USER, NO], "messages": [USER, YES]}, HI, True),
        (
            {"conversations": [gpt("human", "Hi")], "chosen": gpt("gpt", "Hello."), "rejected": gpt("gpt", "Go away.")},
            HI,
            True,
        ),
        (
            {"prompt": [said("system", "Sum."), USER, YES, said("user", "2?")], "chosen": "2", "rejected": "3"},
            ((("system", "Sum."), ("user", "Hi"), ("assistant", "Hello."), ("user", "2?")), "2", "3"),
            True,
        ),
    ],
)
def test_forms(tmp_path: Path, row: Any, expected: Any, is_chat: bool) -> None:
    path = write(tmp_path / "a.jsonl", row)
    (found,) = read_preferences(path)
    before, chosen, rejected = expected
    assert found.chosen.turns == (*before, ("assistant", chosen))
    assert found.rejected.turns == (*before, ("assistant", rejected))
    assert found.chosen.is_chat == found.rejected.is_chat == is_chat and found.chosen.where == f"{path}, line 1"


BAD = [
    ("{", "not JSON"),
    ({"prompt": "a", "chosen": "b"}, "its fields are prompt, chosen, and it needs prompt, chosen and rejected, or"),
    ({"prompt": "a", "completion": "b"}, "its fields are prompt, completion, and it needs"),
    ({"chosen": "a", "rejected": "b"}, "its fields are chosen, rejected, and it needs prompt"),
    (GOOD | {"chosen": " "}, "chosen is empty"),
    (GOOD | {"rejected": ""}, "rejected is empty"),
    (GOOD | {"rejected": None}, "rejected is not text, a message or a list of messages but null"),
    (GOOD | {"prompt": 3}, "prompt is not text but a number"),
    ({"prompt": [USER], "chosen": [YES], "rejected": []}, "rejected: rejected is not a list of messages but empty"),
    ({"chosen": [YES], "rejected": [NO]}, "chosen is a reply alone, and no prompt stands before it"),
    ({"prompt": 3, "chosen": [YES], "rejected": [NO]}, "what stands before chosen is not text or a list .* a number"),
    ({"prompt": [USER, YES], "chosen": [YES], "rejected": [NO]}, "chosen: messages 2 and 3 are both of the assistant"),
    ({"prompt": [USER], "chosen": [said("bot", "x")], "rejected": [NO]}, "chosen: message 1: unknown role 'bot'"),
    ({"chosen": [USER, YES, USER], "rejected": [USER, NO, USER]}, "chosen: the last message is of the user"),
    ({"chosen": [USER, YES], "rejected": [said("user", "Ho"), NO]}, "chosen and rejected answer different conv"),
    ({"prompt": [USER], "chosen": [said("assistant", " ")], "rejected": [NO]}, "chosen: message 2, .* is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "says"), BAD, ids=lambda x: x if isinstance(x, str) else "")
def test_bad_rows_are_named_or_counted(tmp_path: Path, row: Any, says: str) -> None:
    path = write(tmp_path / "a.jsonl", GOOD, "", row, GOOD)
    with pytest.raises(RemaskError, match=rf"a.jsonl, line 3: .*{says}.*--sft.skip_bad"):
        list(read_preferences(path))
    skip = Omissions()
    assert len(list(read_preferences(path, skip))) == 2
    assert list(skip.counts.values()) == [1] and "line 3" in next(skip.lines())


def test_forms_are_not_mixed_within_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD, {"prompt": [USER], "chosen": [YES], "rejected": [NO]})
    with pytest.raises(RemaskError, match="line 2: a row of chats, and those before it in this file are of texts"):
        list(read_preferences(path, Omissions()))


def test_ids_are_those_of_fine_tuning(tmp_path: Path) -> None:
    """Both rows have the ids of one prompt; replies are scored with the token that ends a text. What has the same ids,
    or too many, is named."""
    tokenizer = Tokenizer.bytes()
    end = tokenizer.vocabulary.end
    encoder = ExampleEncoder(tokenizer, [], None)
    path = write(tmp_path / "a.jsonl", GOOD, GOOD | {"rejected": " 4"}, GOOD | {"rejected": " 5" * 9})
    skip = Omissions()
    ((conversation, rows),) = encode_preferences(read_preferences(path), encoder, 16, skip)
    prompt = tokenizer.encode("2 + 2 =")
    assert conversation.turns[-1] == ("assistant", " 4")
    assert [row.ids for row in rows] == [[*prompt, *tokenizer.encode(text), end] for text in (" 4", " 5")]
    assert [row.replies for row in rows] == [[(7, 10)]] * 2
    assert list(skip.counts.values()) == [2]
    with pytest.raises(RemaskError, match=r"line 2: chosen and rejected are the same.*--sft.skip_bad"):
        list(encode_preferences(read_preferences(path), encoder, 64))
    several = GOOD | {"prompt": [USER, YES, said("user", "2?")]}
    (found,) = encode_preferences(
        read_preferences(write(tmp_path / "b.jsonl", several)), ExampleEncoder(tokenizer, [], None, "vicuna"), 999
    )
    assert [len(row.replies) for row in found[1]] == [1, 1], "only the last reply is weighed"
