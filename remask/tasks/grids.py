"""Puzzles on a square grid of digits: what `Sudoku` and `LatinSquare` share.

A grid is written as `1 2 3 4 / 3 4 1 2 / 2 1 4 3 / 4 3 2 1` and a hole as `_`: each cell is one token of a BPE that was
trained on such text. A question is the cells row by row, 0 where a cell is empty, and the whole grid is the answer.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from remask.tasks.base import Task

Cells = tuple[int, ...]
"""A grid row by row, 0 where a cell is empty."""
FEW = 1000
"""So many grids are compared in all cells at once; of more, cell by cell, those that differ are left out first."""


@dataclass(frozen=True, kw_only=True)
class GridTask(Task):
    """Empty cells are to be filled such that each row and column, and each box where there are any, holds each digit
    once."""

    @property
    @abstractmethod
    def side(self) -> int:
        """The number of rows, of columns and of digits."""

    @property
    @abstractmethod
    def boxes(self) -> bool:
        """Whether the boxes of two by two hold each digit once too."""

    def words(self, question: Cells) -> dict[str, str]:
        return {"puzzle": written(question)}

    def answer(self, question: Cells, rng: np.random.Generator) -> str:
        every = solutions(question, self.boxes)
        return written(every[rng.integers(len(every))].tolist())

    def right(self, question: Cells, answer: str) -> bool:
        """Whether a text is a full grid that keeps the rules and the givens."""
        text = answer.strip()
        cells = [int(sign) for sign in text[: 2 * len(question) + 2 * self.side] if sign in "123456789"]
        if len(cells) != len(question) or written(cells) != text:
            return False
        return all(given in (0, cell) for given, cell in zip(question, cells)) and is_full(cells, self.boxes)


def written(cells: Sequence[int]) -> str:
    """A grid as text."""
    side = side_of(cells)
    rows = (cells[start : start + side] for start in range(0, side * side, side))
    return " / ".join(" ".join(str(digit or "_") for digit in row) for row in rows)


def side_of(cells: Sequence[int]) -> int:
    """The number of rows of a grid."""
    return round(len(cells) ** 0.5)


def is_full(cells: Sequence[int], boxes: bool) -> bool:
    """Whether each row and column, and with `boxes` each box of two by two, holds the digits from 1 on once each."""
    square, side = np.array(cells).reshape(side_of(cells), -1), side_of(cells)
    groups = [square, square.T]
    if boxes:
        groups.append(square.reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(4, 4))
    return all((np.sort(group, axis=1) == np.arange(1, side + 1)).all() for group in groups)


def solutions(cells: Sequence[int], boxes: bool) -> NDArray[np.int8]:
    """(S, side * side) the full grids that agree with the givens, in the order of `grids`."""
    found, puzzle = grids(side_of(cells), boxes), np.array(cells, np.int8)
    given = np.flatnonzero(puzzle)
    for place in given:
        if len(found) < FEW:
            break
        found = found[found[:, place] == puzzle[place]]
    return found[(found[:, given] == puzzle[given]).all(1)]


@cache
def grids(side: int, boxes: bool) -> NDArray[np.int8]:
    """(G, side * side) every full grid, in the order of its digits: 288 of four by four with boxes; without them 12,
    576 and 161,280 of three, four and five."""
    every = list(permutations(range(1, side + 1)))
    some = [every[0]]  # the grids whose first row is 1 2 3 ...; all others are these with other names of the digits
    for _ in range(side - 1):
        some = [above + row for above in some for row in every if fits(above, row, boxes)]
    renamed = np.array(every, np.int8)[:, np.array(some) - 1].reshape(-1, side * side)
    number = (renamed - 1) @ side ** np.arange(side * side, dtype=np.int64)[::-1]
    return renamed[number.argsort()]


def fits(above: Cells, row: Cells, boxes: bool) -> bool:
    """Whether a row can stand below the rows `above`."""
    side = len(row)
    if any(digit in above[column::side] for column, digit in enumerate(row)):
        return False
    second = boxes and len(above) // side % 2 == 1  # the second row of its boxes
    return not second or not any({*row[at : at + 2]} & {*above[-side:][at : at + 2]} for at in (0, 2))
