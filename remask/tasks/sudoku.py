"""Sudoku of four by four cells, each puzzle with exactly one solution.

There are only 288 grids. The test split holds out puzzles, not grids: the solution of a puzzle for testing is also that
of others for training.
"""

from dataclasses import dataclass

import numpy as np

from remask.errors import RemaskError
from remask.tasks.base import TRIES
from remask.tasks.grids import Cells, GridTask, grids, solutions
from remask.tasks.published import Published

MOST_HOLES = 12
"""A puzzle with fewer than four givens has more than one solution."""


@dataclass(frozen=True, kw_only=True)
class Sudoku(Published, GridTask):
    """The empty cells are to be filled such that each row, column and box of two by two holds 1 to 4.

    Of a published file also puzzles with several solutions are asked, each of which is right.
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

    @property
    def side(self) -> int:
        return 4

    @property
    def boxes(self) -> bool:
        return True

    def ask(self, rng: np.random.Generator) -> Cells:
        every = grids(4, True)
        for _ in range(TRIES):
            puzzle = every[rng.integers(len(every))].tolist()
            for cell in rng.permutation(16):
                digit, puzzle[cell] = puzzle[cell], 0
                if len(solutions(puzzle, True)) > 1:
                    puzzle[cell] = digit
                if puzzle.count(0) == self.holes:
                    return tuple(puzzle)
        raise RemaskError(f"{self}: no puzzle with one solution was found in {TRIES:,} tries")

    def read(self, text: str) -> Cells:
        """The 16 digits of a puzzle, 0 for a hole, with or without a line break after each row."""
        digits = "".join(text.split())
        if len(digits) != 16 or set(digits) - set("01234"):
            raise ValueError(f"{text[:80]!r} is no sudoku: 16 digits from 0 to 4 are wanted, 0 for an empty cell")
        puzzle = tuple(map(int, digits))
        if not len(solutions(puzzle, True)):
            raise ValueError(f"the sudoku {text!r} has no solution")
        return puzzle
