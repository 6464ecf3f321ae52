"""Latin squares with holes: unlike a sudoku, one with few givens has many completions, and each of them is right.

Kang et al. 2025, "ParallelBench: Understanding the Tradeoffs of Parallel Decoding in Diffusion LLMs",
arXiv:2510.04767, has the squares without any given.
"""

from dataclasses import dataclass

import numpy as np

from remask.errors import RemaskError
from remask.tasks.grids import Cells, GridTask, grids

SIDES = (3, 5)
"""The smallest and the largest square; of six by six there are 812,851,200."""


@dataclass(frozen=True, kw_only=True)
class LatinSquare(GridTask):
    """The empty cells are to be filled such that each row and each column holds each digit once."""

    size: int = 4
    """Number of rows, of columns and of digits."""
    holes: int = 12
    """Number of empty cells."""

    templates = (
        "Latin square: {puzzle}\nAnswer:",
        "Fill in the missing digits of this latin square: {puzzle}\nFilled:",
        "No digit twice in a row or column: {puzzle}\nSquare:",
    )

    def __post_init__(self) -> None:
        low, high = SIDES
        if not low <= self.size <= high:
            raise RemaskError(f"size={self.size}: the size of a latin square is {low} to {high}")
        if not 1 <= self.holes < self.size**2:
            raise RemaskError(f"holes={self.holes}: a latin square of size {self.size} has 1 to {self.size**2 - 1}")

    @property
    def side(self) -> int:
        return self.size

    @property
    def boxes(self) -> bool:
        return False

    def ask(self, rng: np.random.Generator) -> Cells:
        every = grids(self.size, False)
        square = every[rng.integers(len(every))].copy()
        square[rng.permutation(self.size**2)[: self.holes]] = 0
        return tuple(square.tolist())
