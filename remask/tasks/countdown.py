"""Countdown: an expression of given numbers that has a given value.

The rule is that of the task as it is used for language models (TinyZero; d1, Zhao et al. 2025, arXiv:2504.12216): each
number is used exactly once, with + - * / and parentheses. Division is that of fractions, so that 3 / 2 * 4 is 6. Every
number and sign is written after a space, and so is one token of a BPE that was trained on such text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations
from re import findall

import numpy as np

from remask.errors import RemaskError
from remask.tasks.base import TRIES
from remask.tasks.published import Published

Question = tuple[tuple[int, ...], int]
"""The numbers and the target."""
MOST_NUMBERS = 4
LARGEST_NUMBER = 99
LARGEST_TARGET = 100
WHOLE = frozenset(map(str, range(1, LARGEST_TARGET + 1)))
"""The numbers and targets of published files."""
SIGNS = 8
"""An answer has at most so many numbers, operators and parentheses for each given number. An expression without
needless parentheses has fewer than 4."""


@dataclass(frozen=True, kw_only=True)
class Countdown(Published):
    """An expression of the numbers, each used once, whose value is the target, a whole number from 1 to 100.

    Of a published file as many numbers are given as stand there.
    """

    numbers: int = 3
    """How many numbers are given."""
    largest: int = 20
    """The largest number that may be given; the smallest is 1."""

    templates = (
        "Numbers: {numbers}\nTarget: {target}\nAnswer:",
        "Use each of {numbers} once to make {target}:",
        "Make {target} from {numbers}\nExpression:",
    )

    def __post_init__(self) -> None:
        if not 2 <= self.numbers <= MOST_NUMBERS:
            raise RemaskError(f"numbers={self.numbers}: Countdown takes 2 to {MOST_NUMBERS} numbers")
        if not 1 <= self.largest <= LARGEST_NUMBER:
            raise RemaskError(f"largest={self.largest}: the largest number of Countdown is 1 to {LARGEST_NUMBER}")

    def ask(self, rng: np.random.Generator) -> Question:
        for _ in range(TRIES):
            numbers = rng.integers(1, self.largest + 1, self.numbers).tolist()
            terms = atoms(numbers)
            while len(terms) > 1:
                choices = joined(terms)
                terms = choices[rng.integers(len(choices))]
            if 1 <= terms[0].value <= LARGEST_TARGET:
                return tuple(numbers), terms[0].value
        raise RemaskError(f"{self}: no target from 1 to {LARGEST_TARGET} was found in {TRIES:,} tries")

    def read(self, text: str) -> Question:
        """The numbers and behind them the target, with commas."""
        signs = [sign.strip() for sign in text.split(",")]
        if not 3 <= len(signs) <= MOST_NUMBERS + 1 or not all(sign in WHOLE for sign in signs):
            raise ValueError(
                f"{text[:80]!r} is no countdown: 2 to {MOST_NUMBERS} numbers and a target are wanted, each "
                f"from 1 to {LARGEST_TARGET}, as 44,19,35,98"
            )
        *numbers, target = map(int, signs)
        return tuple(numbers), target

    def key(self, question: Question) -> Question:
        numbers, target = question
        return tuple(sorted(numbers)), target

    def words(self, question: Question) -> dict[str, str]:
        numbers, target = question
        return {"numbers": " ".join(map(str, numbers)), "target": str(target)}

    def answer(self, question: Question, rng: np.random.Generator) -> str:
        numbers, target = question
        for expression in expressions(atoms(numbers), target, rng):
            return expression
        raise RemaskError(f"no expression of the numbers {', '.join(map(str, numbers))} is {target}")

    def right(self, question: Question, answer: str) -> bool:
        """Whether a text is an expression of the numbers, each used once, whose value is the target."""
        numbers, target = question
        signs = read(answer, SIGNS * len(numbers))
        # Compared as text, so that no long number is ever computed with.
        if sorted(sign for sign in signs if sign.isdigit()) != sorted(map(str, numbers)):
            return False
        try:
            return value(signs) == target
        except (ValueError, ZeroDivisionError):
            return False


@dataclass(frozen=True)
class Term:
    """A part of an expression."""

    value: int
    text: str
    level: int
    """How tightly its last operation binds: 0 a sum or difference, 1 a product or quotient, 2 a number."""

    def within(self, level: int) -> str:
        """Its text as an operand that must bind at least as tightly as `level`."""
        return self.text if self.level >= level else f"( {self.text} )"


def atoms(numbers: list[int] | tuple[int, ...]) -> list[Term]:
    """The numbers as terms."""
    return [Term(number, str(number), 2) for number in numbers]


def joined(terms: list[Term]) -> list[list[Term]]:
    """All lists in which two of the terms have become one. Quotients are formed where they are whole."""
    found = []
    for i, j in permutations(range(len(terms)), 2):
        a, b = terms[i], terms[j]
        results = [
            Term(a.value + b.value, f"{a.text} + {b.text}", 0),
            Term(a.value - b.value, f"{a.text} - {b.within(1)}", 0),
            Term(a.value * b.value, f"{a.within(1)} * {b.within(1)}", 1),
        ]
        if b.value and a.value % b.value == 0:
            results.append(Term(a.value // b.value, f"{a.within(1)} / {b.within(2)}", 1))
        rest = [term for k, term in enumerate(terms) if k not in (i, j)]
        found += [[*rest, result] for result in results]
    return found


def expressions(terms: list[Term], target: int, rng: np.random.Generator) -> Iterator[str]:
    """The expressions of all terms with a value, in a random order."""
    if len(terms) == 1:
        if terms[0].value == target:
            yield terms[0].text
        return
    choices = joined(terms)
    for choice in rng.permutation(len(choices)):
        yield from expressions(choices[choice], target, rng)


def read(text: str, most: int) -> list[str]:
    """The numbers, operators and parentheses of a text; none where it holds anything else, or more than `most`."""
    if not set(text) <= set("0123456789+-*/() \n"):
        return []
    signs = findall(r"[0-9]+|[-+*/()]", text)
    return signs if len(signs) <= most else []


def value(signs: list[str]) -> Fraction:
    """The value of an expression; ValueError where it is none, ZeroDivisionError where it has no value."""
    left = signs[::-1]  # the next sign is the last
    result = _sum(left)
    if left:
        raise ValueError("more signs than one expression")
    return result


def _sum(left: list[str]) -> Fraction:
    result = _product(left)
    while left and left[-1] in "+-":
        result = result + _product(left) if left.pop() == "+" else result - _product(left)
    return result


def _product(left: list[str]) -> Fraction:
    result = _factor(left)
    while left and left[-1] in "*/":
        result = result * _factor(left) if left.pop() == "*" else result / _factor(left)
    return result


def _factor(left: list[str]) -> Fraction:
    sign = left.pop() if left else ""
    if sign.isdigit():
        return Fraction(int(sign))
    if sign != "(":
        raise ValueError(f"{sign!r} is no number")
    result = _sum(left)
    if not left or left.pop() != ")":
        raise ValueError("a parenthesis is not closed")
    return result
