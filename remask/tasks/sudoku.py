"""Sudoku of four by four cells, each puzzle with exactly one solution.

A grid is written as `1 2 3 4 / 3 4 1 2 / 2 1 4 3 / 4 3 2 1` and a hole as `_`: each cell is one token of a BPE that was
trained on such text. There are only 288 grids. The test split holds out puzzles, not grids: the solution of a puzzle
for testing is also that of others for training.
"""

from dataclasses import dataclass
from functools import cache
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from remask.errors import RemaskError
from remask.tasks.base import TRIES, Task

MOST_HOLES = 12
"""A puzzle with fewer than four givens has more than one solution."""


@dataclass(frozen=True, kw_only=True)
class Sudoku(Task):
    """The empty cells are to be filled such that each row, column and box of two by two holds 1 to 4.

    A question is the 16 cells row by row, 0 where a cell is empty. The whole grid is the answer.
    """

    holes: int = 6
    """Number of empty cells."""

    templates = (
        "Sudoku: {puzzle}\nAnswer:",
        "Fill the empty cells of this sudoku: {puzzle}\nFilled:",
        "Puzzle: {puzzle}\nSolution:",
    )

    def __post_init__(self) -> None:
        if not 1 <= self.holes <= MOST_HOLES:
            raise RemaskError(f"holes={self.holes}: a sudoku of 16 cells with one solution has 1 to {MOST_HOLES} holes")

    def ask(self, rng: np.random.Generator) -> tuple[int, ...]:
        for _ in range(TRIES):
            puzzle = grids()[rng.integers(len(grids()))].copy()
            for cell in rng.permutation(16):
                digit, puzzle[cell] = puzzle[cell], 0
                if len(solutions(puzzle)) > 1:
                    puzzle[cell] = digit
                if np.count_nonzero(puzzle == 0) == self.holes:
                    return tuple(puzzle.tolist())
        raise RemaskError(f"{self}: no puzzle with one solution was found in {TRIES:,} tries")

    def words(self, question: tuple[int, ...]) -> dict[str, str]:
        return {"puzzle": written(question)}

    def answer(self, question: tuple[int, ...], rng: np.random.Generator) -> str:
        every = solutions(np.array(question))
        return written(every[rng.integers(len(every))].tolist())

    def right(self, question: tuple[int, ...], answer: str) -> bool:
        """Whether a text is a full grid that keeps the rules and the givens."""
        return answer.strip() in {written(grid) for grid in solutions(np.array(question)).tolist()}


def written(cells: tuple[int, ...] | list[int]) -> str:
    """A grid as text."""
    rows = (cells[start : start + 4] for start in range(0, 16, 4))
    return " / ".join(" ".join(str(digit or "_") for digit in row) for row in rows)


def solutions(puzzle: NDArray[np.integer]) -> NDArray[np.int64]:
    """(S, 16) the grids that agree with the givens of a puzzle, (16,) digits with 0 for a hole."""
    given = puzzle > 0
    return grids()[(grids()[:, given] == puzzle[given]).all(axis=1)]


@cache
def grids() -> NDArray[np.int64]:
    """(288, 16) every filled grid, row by row."""
    rows = list(permutations(range(1, 5)))
    # Where the left box of two rows holds four digits, so does the right one.
    halves = [above + below for above, below in product(rows, rows) if len({*above[:2], *below[:2]}) == 4]
    filled = (upper + lower for upper, lower in product(halves, halves))
    return np.array([grid for grid in filled if all(len({*grid[column::4]}) == 4 for column in range(4))])
