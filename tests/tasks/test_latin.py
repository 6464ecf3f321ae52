"""Latin squares: every one is known, and any completion that keeps the rules and the givens is right."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remask.tasks.grids import grids, is_full, solutions, written
from remask.tasks.latin import LatinSquare

TEXT = "1 2 3 / 2 3 1 / 3 1 2"


@pytest.mark.parametrize(("side", "number"), [(3, 12), (4, 576)])
def test_the_squares_are_those_that_keep_the_rules(side: int, number: int) -> None:
    """Against all triples, or a known number, of rows."""
    found = grids(side, False)
    assert len(np.unique(found, axis=0)) == len(found) == number
    assert all(is_full(square, False) for square in found.tolist())
    assert found.tolist() == sorted(found.tolist())
    if side == 3:
        every = (a + b + c for a, b, c in product(permutations(range(1, 4)), repeat=3))
        assert [list(one) for one in every if all(len({*one[k::3]}) == 3 for k in range(3))] == found.tolist()


def test_there_are_161280_squares_of_five() -> None:
    found = grids(5, False)
    assert found.shape == (161_280, 25)
    assert all(is_full(square, False) for square in found[::4000].tolist())


@settings(deadline=None, max_examples=25)
@given(size=st.sampled_from([3, 4]), seed=st.integers(0, 2**31), data=st.data())
def test_a_square_has_its_holes_and_every_completion_is_right(size: int, seed: int, data: st.DataObject) -> None:
    task = LatinSquare(size=size, holes=data.draw(st.integers(1, size**2 - 1)))
    question = task.ask(np.random.default_rng(seed))
    assert len(question) == size**2 and question.count(0) == task.holes
    completions = solutions(question, False).tolist()
    right = [grid for grid in grids(size, False).tolist() if task.right(question, written(grid))]
    assert right == completions and completions


def test_what_is_right() -> None:
    task, question = LatinSquare(size=3, holes=8), (1, *[0] * 8)
    assert task.right(question, f" {TEXT}\n")
    assert task.right(question, "1 3 2 / 2 1 3 / 3 2 1"), "another completion"
    for wrong in (
        TEXT[:-1],
        TEXT + " 1",
        TEXT.replace(" ", ""),
        TEXT.replace("1", "١"),
        "1 2 3 / 1 2 3 / 1 2 3",
        "1 2 3 / 2 3 1 / 2 3 1",
        "2 1 3 / 3 2 1 / 1 3 2",
        "_ 2 3 / 2 3 1 / 3 1 2",
        "4 2 3 / 2 3 4 / 3 4 2",
        "1 2 3 4 / 2 1 4 3 / 3 4 1 2 / 4 3 2 1",
    ):
        assert not task.right(question, wrong)


def test_answers_are_all_the_completions() -> None:
    """Each is drawn sooner or later, so that the training rows show that there are several."""
    task, question = LatinSquare(size=3, holes=8), (0, 0, 3, *[0] * 6)
    drawn = {task.answer(question, np.random.default_rng(seed)) for seed in range(60)}
    assert drawn == {written(grid) for grid in solutions(question, False).tolist()} and len(drawn) == 4
