"""Countdown: expressions are searched, written and read by the same rules of arithmetic."""

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remask.tasks.countdown import Countdown, atoms, expressions, joined, read, value

TASK = Countdown()


@pytest.mark.parametrize(
    ("numbers", "target", "answer", "right"),
    [
        ((3, 4, 5), 23, "3 + 4 * 5", True),
        ((3, 4, 5), 35, "(3 + 4) * 5", True),
        ((3, 4, 5), 23, " 4*5 +3\n", True),
        ((2, 3, 4), 6, "3 / 2 * 4", True),
        ((2, 3, 4), 6, "3 * 4 / 2", True),
        ((8, 4, 2), 4, "8 / ( 4 / 2 )", True),
        ((8, 4, 2), 1, "8 / 4 / 2", True),
        ((9, 4, 2), 3, "9 - 4 - 2", True),
        ((3, 4, 5), 23, "3 + 4 * 5 = 23", False),
        ((3, 4, 5), 35, "3 + 4 * 5", False),
        ((3, 4, 5), 20, "4 * 5", False),
        ((3, 4, 5), 12, "3 + 4 + 5 + 5 - 5", False),
        ((3, 3, 5), 11, "3 + 3 + 5", True),
        ((3, 5, 5), 11, "3 + 3 + 5", False),
        ((3, 4, 5), 23, "03 + 4 * 5", False),
        ((3, 4, 5), 6, "-3 + 4 + 5", False),
        ((3, 4, 5), 86, "3 ** 4 + 5", False),
        ((1, 2, 2), 1, "1 / ( 2 - 2 )", False),
        ((3, 4, 5), 23, "(3 + 4 * 5", False),
        ((3, 4, 5), 23, "3 + 4 * 5)", False),
        ((3, 4, 5), 23, "3 + 4 5 *", False),
        ((1, 2, 4), 16, "12 + 4", False),
        ((12, 4), 16, "1 2 + 4", False),
        ((3, 4, 5), 23, "((((3)) + ((4)) * 5))", True),
        ((3, 4, 5), 23, "(" * 5000 + "3 + 4 * 5" + ")" * 5000, False),
    ],
)
def test_right(numbers: tuple[int, ...], target: int, answer: str, right: bool) -> None:
    assert TASK.right((numbers, target), answer) == right


@settings(deadline=None, max_examples=20)
@given(numbers=st.lists(st.integers(1, 30), min_size=2, max_size=3), seed=st.integers(0, 2**31))
def test_what_is_written_has_the_value_that_was_computed(numbers: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    terms = atoms(numbers)
    while len(terms) > 1:
        choices = joined(terms)
        for choice in choices:
            assert value(read(choice[-1].text, 99)) == choice[-1].value
        terms = choices[rng.integers(len(choices))]
    target = terms[0].value
    found = list(expressions(atoms(numbers), target, rng))
    assert terms[0].text in found
    assert all(TASK.right((tuple(numbers), target), text) for text in found)


@settings(deadline=None)
@given(text=st.text("0123456789+-*/() ", max_size=12))
def test_values_are_those_of_python(text: str) -> None:
    """On texts that Python reads alike: no sign before a number, no ** or //, no zero before a digit."""
    signs = read(text, 12)
    try:
        ours = value(signs)
    except (ValueError, ZeroDivisionError):
        return
    plain = "".join(f"Fraction({int(sign)})" if sign.isdigit() else sign for sign in signs)
    assert ours == eval(plain, {"Fraction": Fraction})


def test_long_texts_are_refused_at_once() -> None:
    start = time.perf_counter()
    for text in ("9" * 10**6, "(" * 10**6, "3 + 4 * 5" + " + 0" * 10**5, "3" + " " * 10**6 + "x"):
        assert not TASK.right(((3, 4, 5), 23), text)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("numbers", [2, 3, 4])
def test_every_target_can_be_reached(numbers: int) -> None:
    task = Countdown(numbers=numbers, largest=99)
    rng = np.random.default_rng(0)
    for _ in range(5):
        question = task.ask(rng)
        assert len(question[0]) == numbers and 1 <= question[1] <= 100
        assert task.right(question, task.answer(question, rng))
