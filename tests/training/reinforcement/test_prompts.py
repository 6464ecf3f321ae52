"""The prompts of a step."""

from typing import Any

import pytest
import torch

from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.model.attention import FULL, Padded
from remask.tasks.base import split_of, task_of
from remask.training.reinforcement.prompts import Prompts

TOKENIZER = Tokenizer.bytes()
COPY, SORT = task_of("Copy:items=1"), task_of("Sort:items=2")


def prompts(**more: Any) -> Prompts:
    options: dict[str, Any] = {"batch": 12, "group": 3, "room": None, "context": 128, "seed": 5}
    family = Masked().over(TOKENIZER.vocabulary)
    return Prompts(**{"tasks": [COPY, SORT], "tokenizer": TOKENIZER, "family": family, **options, **more})


def test_rows_of_a_step() -> None:
    asked = prompts()
    batch = asked.share(4)
    assert len(batch.tokens) == 12 and batch.global_rows == 12 and batch.global_tokens == 12 * asked.room
    assert isinstance(batch.attention, Padded) and batch.valid is not None
    for row, (task, example) in enumerate(batch.asked):
        given, open_ = batch.tokens[row][batch.valid[row] & ~batch.scored[row]], batch.scored[row]
        assert TOKENIZER.decode(given.tolist()) == example.prompt
        assert int(open_.sum()) == asked.room >= len(TOKENIZER.encode(example.answer)) + 1
        assert split_of(task.key(example.question)) == "train"
    questions = [example.prompt for _, example in batch.asked]
    assert [questions[i : i + 3] for i in range(0, 12, 3)] == [[q] * 3 for q in questions[::3]]
    assert [task for task, _ in batch.asked[::3]] == [COPY, SORT, COPY, SORT]
    assert len(set(questions)) == 4 and {q for q in questions} != {e.prompt for _, e in asked.share(5).asked}


def test_a_step_is_a_function_of_seed_and_number() -> None:
    one, two, other = prompts().share(7), prompts().share(7), prompts(seed=6).share(7)
    assert torch.equal(one.tokens, two.tokens) and one.asked == two.asked and one.asked != other.asked


def test_shares_are_parts_of_the_whole() -> None:
    asked = prompts()
    whole, parts = asked.share(2), [asked.share(2, 0, 6), asked.share(2, 6, 6)]
    assert whole.asked == parts[0].asked + parts[1].asked and [p.offset for p in parts] == [0, 6]
    shape = whole.tokens.shape[1:]
    assert len({len(example.prompt) for _, example in whole.asked}) > 1
    noise = [p.draw(tuple(p.tokens.shape[1:]), torch.Generator().manual_seed(1)) for p in (whole, *parts)]
    assert all(p.tokens.shape[1:] == shape for p in parts) and torch.equal(noise[0], torch.cat(noise[1:]))
    assert torch.equal(whole.tokens, torch.cat([p.tokens for p in parts]))
    with pytest.raises(ValueError, match="divide groups of 3"):
        asked.share(2, 2, 6)


def test_what_reads_from_the_left_needs_no_rule_for_padding() -> None:
    batch = prompts(family=Autoregressive().over(TOKENIZER.vocabulary)).share(0)
    assert batch.attention is FULL and batch.valid is not None and not bool(batch.valid.all())
    moved = batch.to("cpu")
    assert moved.asked == batch.asked and moved.valid is not None


def test_room_and_context() -> None:
    assert prompts(room=9).share(0).scored.sum(1).tolist() == [9] * 12
    with pytest.raises(RemaskError, match=r"a prompt of Copy.* has \d+ tokens, and 60 are to be written, .* of 64"):
        prompts(room=60, context=64)
