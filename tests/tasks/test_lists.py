"""List operations: what each one does to a list, and which answers are right."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remask.tasks.base import Task, task_of
from remask.tasks.lists import WORDS, ListTask

ITEMS = ("owl", "ant", "cow")
RNG = np.random.default_rng(0)


def test_the_words_are_64_different_ones() -> None:
    assert len(set(WORDS)) == len(WORDS) == 64
    assert all(word.isascii() and word.isalpha() and word.islower() for word in WORDS)


@pytest.mark.parametrize(
    ("name", "question", "answer"),
    [
        ("Copy", (ITEMS,), "owl ant cow"),
        ("Reverse", (ITEMS,), "cow ant owl"),
        ("Sort", (ITEMS,), "ant cow owl"),
        ("Replace", (ITEMS, "ant", "bee"), "owl bee cow"),
        ("Insert", (ITEMS, "bee", 1), "bee owl ant cow"),
        ("Insert", (ITEMS, "bee", 4), "owl ant cow bee"),
        ("Remove", (ITEMS, "owl"), "ant cow"),
    ],
)
def test_operations(name: str, question: tuple[Any, ...], answer: str) -> None:
    task = task_of(name)
    assert task.answer(question, RNG) == answer
    assert task.right(question, answer) and task.right(question, f" {answer}\n")
    assert not task.right(question, answer.replace(" ", "  "))
    assert not task.right(question, " ".join(sorted(answer.split(), reverse=True)) + " owl")


@given(order=st.permutations(ITEMS))
def test_only_one_permutation_is_sorted_and_all_are_shuffled(order: list[str]) -> None:
    text = " ".join(order)
    assert task_of("Sort").right((ITEMS,), text) == (text == "ant cow owl")
    assert task_of("Reverse").right((ITEMS,), text) == (text == "cow ant owl")
    assert task_of("Shuffle").right((ITEMS,), text)
    for i in range(3):
        twice = [*order[:i], order[i - 1], *order[i + 1 :]]
        assert not task_of("Shuffle").right((ITEMS,), " ".join(twice))


def test_shuffled_answers_are_every_permutation_equally_often() -> None:
    task: Task = task_of("Shuffle")
    answers = [task.answer((ITEMS,), RNG) for _ in range(600)]
    counts = [answers.count(answer) for answer in set(answers)]
    assert len(counts) == 6
    assert sum((count - 100) ** 2 / 100 for count in counts) < 25  # chi-square, 5 degrees: p = 1e-4


@pytest.mark.parametrize("name", ["Insert", "Replace"])
def test_every_place_is_asked_for(name: str) -> None:
    task = task_of(f"{name}:items=3")
    assert isinstance(task, ListTask)
    changed = set()
    for _ in range(200):
        question = task.ask(RNG)
        assert question[task.arguments.index("new") + 1] not in question[0]
        changed.add(task.answer(question, RNG).split().index(question[task.arguments.index("new") + 1]))
    assert changed == set(range(4 if name == "Insert" else 3))
