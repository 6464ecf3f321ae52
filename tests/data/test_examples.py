"""Conversations as ids: those of a prompt are what sampling reads, and the replies alone are scored."""

from pathlib import Path

import numpy as np
import pytest
from test_chat import LLADA, text

from remask.data.chat import prompt_ids
from remask.data.conversations import Conversation
from remask.data.examples import Example, ExampleEncoder, Examples, encode_all
from remask.data.reading import Omissions
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError

SAID = (("user", "Hi"), ("assistant", " Yo "), ("user", "?"), ("assistant", "!"))
CHAT = Conversation(SAID, "chats.jsonl, line 3")


def replies(example: Example) -> list[list[int]]:
    return [example.ids[begin:end] for begin, end in example.replies]


def test_a_completion_stands_behind_its_prompt_as_it_is() -> None:
    tokenizer = Tokenizer.bytes()
    pair = Conversation((("user", "a b "), ("assistant", " c")), "x", is_chat=False)
    (one,) = ExampleEncoder(tokenizer, [7], 7).examples(pair)
    assert one.ids == [7, *b"a b ", *b" c", 256]
    assert (one.replies, one.bytes) == ([(5, 8)], 2)
    (one,) = ExampleEncoder(tokenizer, [], None).examples(
        Conversation((("user", ""), ("assistant", "c")), "x", is_chat=False)
    )
    assert one.ids == [*b"c", 256]


@pytest.mark.parametrize("special", [LLADA, ("<|im_start|>", "<|im_end|>")])
def test_each_reply_of_a_chat_in_a_row_of_its_own(special: tuple[str, ...]) -> None:
    tokenizer = text(*special)
    close, end = tokenizer.id(special[-1]), tokenizer.vocabulary.end
    rows = ExampleEncoder(tokenizer, [], None).examples(CHAT)
    for row, upto, said in zip(rows, (1, 3), ("Yo", "!"), strict=True):
        prompt = prompt_ids(tokenizer, SAID[:upto], "chat", [], None)
        assert row.ids[: len(prompt)] == prompt
        assert replies(row) == [[*said.encode(), close, *([end] if end != close else [])]]
        assert row.replies[0] == (len(prompt), len(row.ids))


def test_all_replies_of_a_chat_in_one_row() -> None:
    tokenizer = text(*LLADA)
    close, end = tokenizer.id("<|eot_id|>"), tokenizer.vocabulary.end
    (row,) = ExampleEncoder(tokenizer, [], None, at_once=True).examples(CHAT)
    assert replies(row) == [[*b"Yo", close], [*b"!", close, end]]
    assert row.ids == ExampleEncoder(tokenizer, [], None).examples(CHAT)[1].ids
    with pytest.raises(RemaskError, match=r"line 3: under the template vicuna .* needs the template chat"):
        ExampleEncoder(tokenizer, [], None, "vicuna", at_once=True).examples(CHAT)


def test_the_start_that_a_family_puts_before_every_row_is_not_there_twice() -> None:
    tokenizer = text(*LLADA)
    start = tokenizer.id("<|startoftext|>")
    (given, own) = (ExampleEncoder(tokenizer, bos, start).examples(CHAT)[0].ids for bos in ([start], []))
    assert given == [start, *own] and own[0] != start  # type: ignore[list-item]


def test_plain_text_where_the_tokenizer_has_no_template() -> None:
    tokenizer = Tokenizer.bytes()
    with pytest.raises(
        RemaskError, match=r"chats.jsonl, line 3: this tokenizer has no chat template.*--sft.template v"
    ):
        list(encode_all([CHAT], ExampleEncoder(tokenizer, [], None), 999, Omissions()))
    one, _ = ExampleEncoder(tokenizer, [], None, "vicuna").examples(Conversation((("system", "S."), *SAID), "x"))
    assert bytes(one.ids[:-1]) == b"S. USER: Hi ASSISTANT: Yo"
    assert bytes(one.ids[slice(*one.replies[0])][:-1]) == b" Yo"


def test_what_does_not_fit_a_row_is_named_or_counted() -> None:
    tokenizer = text(*LLADA)
    encoder = ExampleEncoder(tokenizer, [], None)
    longest = max(len(row.ids) for row in encoder.examples(CHAT))
    assert len(list(encode_all([CHAT], encoder, longest))) == 1
    with pytest.raises(
        RemaskError,
        match=rf"line 3: its {longest} tokens do not fit a row of {longest - 1}: give --length {longest} or more",
    ):
        list(encode_all([CHAT], encoder, longest - 1))
    skip = Omissions()
    assert not list(encode_all([CHAT], encoder, longest - 1, skip))
    assert sum(skip.counts.values()) == 1


def test_rows_behind_one_another(tmp_path: Path) -> None:
    rows = [
        [Example([1, 2, 3], [(1, 3)], 5)],
        [Example([4, 5], [(1, 2)], 1), Example([6, 7, 8, 9], [(0, 1), (3, 4)], 2)],
    ]
    found = Examples(rows)
    assert (len(found), found.conversations) == (3, 2)
    assert found.lengths.tolist() == [3, 2, 4] and found.replies.tolist() == [2, 1, 2]
    assert found.firsts.tolist() == [0, 1, 3] and found.bytes.tolist() == [5, 1, 2]
    for i, row in enumerate([*rows[0], *rows[1]]):
        ids, scored = found[i]
        assert ids.tolist() == row.ids
        assert np.flatnonzero(scored).tolist() == [k for a, b in row.replies for k in range(a, b)]
