"""Sudoku: every grid is known, every puzzle has one solution, and the checker knows the rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remask.tasks.grids import grids, solutions, written
from remask.tasks.sudoku import Sudoku

GRID = (1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1)
TEXT = "1 2 3 4 / 3 4 1 2 / 2 1 4 3 / 4 3 2 1"


def test_there_are_288_grids_and_each_keeps_the_rules() -> None:
    every = grids(4, True)
    assert len(np.unique(every, axis=0)) == len(every) == 288
    square = every.reshape(-1, 4, 4)
    boxes = every.reshape(-1, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 4)
    for groups in (square, square.transpose(0, 2, 1), boxes):
        assert (np.sort(groups, axis=2) == np.arange(1, 5)).all()


@settings(deadline=None, max_examples=25)
@given(holes=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_a_puzzle_has_its_holes_and_one_solution(holes: int, seed: int) -> None:
    question = Sudoku(holes=holes).ask(np.random.default_rng(seed))
    assert question.count(0) == holes
    assert len(solutions(question, True)) == 1


def test_the_checker_takes_any_solution_and_nothing_else() -> None:
    task = Sudoku()
    assert written(GRID) == TEXT
    one_hole = (0, *GRID[1:])
    assert task.right(one_hole, f" {TEXT}\n")
    assert not task.right(one_hole, TEXT.replace("1 2 3 4 /", "_ 2 3 4 /"))
    assert not task.right(one_hole, TEXT.replace("/ ", ""))
    latin = "1 2 3 4 / 2 1 4 3 / 3 4 1 2 / 4 3 2 1"
    assert not task.right((0, 2, 3, *[0] * 13), latin), "a box holds a digit twice"
    assert not task.right((2, *GRID[1:]), TEXT), "a given was changed"
    empty = (0,) * 16
    assert all(task.right(empty, written(grid)) for grid in grids(4, True)[::30].tolist())
    assert not task.right(empty, TEXT.replace("1 2 3 4", "1 2 4 3"))
    assert task.right(empty, task.answer(empty, np.random.default_rng(0)))


@pytest.mark.parametrize("text", [TEXT[:-1], TEXT + " 1", TEXT.replace("1", "١"), TEXT.replace(" ", "")])
def test_other_ways_of_writing_are_wrong(text: str) -> None:
    assert not Sudoku().right((0, *GRID[1:]), text)
