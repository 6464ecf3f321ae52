"""Laws of every task: its answers are right, its splits share nothing, and its checker takes any text."""

import hashlib
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.tasks.base import Example, Task, split_of, task_of, tasks
from remask.tasks.lists import ListTask

NAMES = sorted(tasks())
each_task = pytest.mark.parametrize("name", NAMES)
seeds = st.integers(0, 2**31)
any_text = st.lists(st.integers(0, 0x10FFFF).map(chr)).map("".join)
HOSTILE = (
    "",
    " ",
    "\0",
    "(" * 10_000,
    "9" * 10_000,
    "9**9**9",
    "٣ + ٤",
    "²",
    "1/0",
    "\ud800",
    "{items}",
    "1 2 / " * 999,
)


def some(task: Task, count: int, split: str = "train", seed: int = 0, template: int | None = None) -> list[Example]:
    return list(islice(task.examples(split, seed, template), count))  # type: ignore[arg-type]


def test_the_tasks_of_the_folder_are_found() -> None:
    assert {
        "Copy",
        "Reverse",
        "Sort",
        "Shuffle",
        "Replace",
        "Insert",
        "Remove",
        "Sudoku",
        "LatinSquare",
        "Countdown",
    } <= set(NAMES)


@each_task
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_every_answer_is_right(name: str, seed: int) -> None:
    task = task_of(name)
    for example in some(task, 4, seed=seed):
        assert task.right(example.question, example.answer)
        assert not task.right(example.question, example.answer + example.answer)
        assert example.answer.startswith(" ") and example.answer.split(" ")[1]
        assert example.prompt[-1:].strip()


@each_task
@settings(max_examples=30, deadline=None)
@given(text=st.one_of(st.sampled_from(HOSTILE), any_text, st.text("0123456789+-*/() _")))
def test_any_text_is_right_or_wrong(name: str, text: str) -> None:
    task = task_of(name)
    for example in some(task, 1):
        assert task.right(example.question, text) in (True, False)
        assert not task.right(example.question, f"{text}x")


@each_task
def test_examples_are_repeatable_and_use_every_template(name: str) -> None:
    task = task_of(name)
    first = some(task, 30, seed=5)
    assert first == some(task, 30, seed=5)
    assert first != some(task, 30, seed=6)
    assert len(task.templates) >= 3
    starts = [template.partition("{")[0] for template in task.templates]
    assert len(set(starts)) == len(starts)
    assert {start for start in starts for one in first if one.prompt.startswith(start)} == set(starts)
    for number, start in enumerate(starts):
        assert all(one.prompt.startswith(start) for one in some(task, 3, template=number))


@each_task
def test_no_question_is_in_two_splits(name: str) -> None:
    task = task_of(f"{name}:items=2") if issubclass(tasks()[name], ListTask) else task_of(name)
    train = {task.key(example.question) for example in some(task, 300)}
    valid, test = ({task.key(example.question) for example in some(task, 20, split)} for split in ("valid", "test"))
    assert train and valid and test and not train & test and not valid & (train | test)


def test_the_splits_have_their_shares_of_the_hash() -> None:
    """The test split is what it was when there were two splits only."""
    found = Counter(split_of(i) for i in range(4000))
    assert all(200 < found[split] < 300 for split in ("valid", "test")) and found.total() == 4000
    first = [hashlib.blake2b(repr(i).encode(), digest_size=4).digest()[0] < 16 for i in range(4000)]
    assert [split_of(i) == "test" for i in range(4000)] == first


@each_task
def test_tokens_of_prompt_and_answer_are_those_of_the_whole(name: str) -> None:
    examples = some(task_of(name), 150)
    for tokenizer in (Tokenizer.train((one.text for one in examples), 600), Tokenizer.bytes()):
        for one in examples[:40]:
            prompt, answer, whole = (tokenizer.encode(text) for text in (one.prompt, one.answer, one.text))
            assert prompt + answer == whole


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Sorted", "Did you mean 'Sort'"),
        ("Sort:item=3", "Did you mean 'items'"),
        ("Sort:items=0", "lists of 1 to 63 items"),
        ("Sort:items=64", "lists of 1 to 63 items"),
        ("Remove:items=1", "lists of 2 to 63 items"),
        ("Sort:items=few", "a whole number"),
        ("Sudoku:holes=17", "1 to 12 holes"),
        ("Sudoku:holes=0", "1 to 12 holes"),
        ("LatinSquare:size=6", "latin square is 3 to 5"),
        ("LatinSquare:holes=16", "size 4 has 1 to 15"),
        ("LatinSquare:size=3,holes=0", "size 3 has 1 to 8"),
        ("Countdown:numbers=5", "2 to 4 numbers"),
        ("Countdown:largest=100", "1 to 99"),
    ],
)
def test_wrong_options_are_named(name: str, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        task_of(name)


def test_a_task_without_a_question_says_so() -> None:
    with pytest.raises(RemaskError, match=r"none of 4,000 questions is of the test split"):
        next(task_of("Countdown:numbers=2,largest=1").examples("test"))


def test_unknown_split_and_template() -> None:
    with pytest.raises(RemaskError, match="unknown split 'dev'"):
        some(task_of("Sort"), 1, "dev")
    with pytest.raises(RemaskError, match="templates 0 to 2"):
        some(task_of("Sort"), 1, template=3)


def test_the_documentation_shows_real_examples() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert some(task_of(name), 1, "test", template=0)[0].text in page
        assert f"| `{name}` |" in page
