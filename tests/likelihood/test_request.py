"""The noise of a request is that of its content, or of its key."""

import numpy as np
import pytest

from likelihood.cases import FAMILY, TABLE, TEXT, one, scores
from remask.likelihood import Request


def test_the_seed_is_a_function_of_content_and_seed() -> None:
    request = Request((1, 2), (3,))
    assert request.noise_seed(0) == Request([1, 2], [3], bytes=7, id="x").noise_seed(0)
    assert request.noise_seed(0) == Request(np.array([1, 2]), np.array([3])).noise_seed(0)  # type: ignore[arg-type]
    others = [
        Request((1, 2), (4,)),
        Request((1, 3), (3,)),
        Request((2,), (3, 1)),
        Request((1, 2, 3)),
        Request((12,), (3,)),
    ]
    assert len({r.noise_seed(0) for r in [request, *others]} | {request.noise_seed(1)}) == len(others) + 2
    assert request.noise_seed(0) == 8134899605750936186, "another version of Python or of this package draws the same"


def test_a_key_takes_the_place_of_the_content() -> None:
    a, b = Request((1, 2), (3,), noise_key="question 1"), Request((2, 2), (4,), noise_key="question 1")
    assert a.noise_seed(3) == b.noise_seed(3) != Request((1, 2), (3,), noise_key="question 2").noise_seed(3)


@pytest.mark.parametrize("estimator", ["count", "smdm", "llada"])
def test_answers_of_one_question_share_masks(estimator: str) -> None:
    """The masks of a shorter answer are those of the longer one's first tokens, where the counts agree."""
    from remask.likelihood import choose

    made = choose(FAMILY, estimator, draws=32)
    pair = [Request((0, 1, 2), (1,), noise_key=5), Request((2, 2, 2), (1,), noise_key=5)]
    first, second = ([copy.hidden.tolist() for copy in made.copies(r, FAMILY) if copy.hidden is not None] for r in pair)
    assert first == second
    apart = [copy.hidden.tolist() for copy in made.copies(Request((0, 1, 2), (1,)), FAMILY) if copy.hidden is not None]
    assert apart != first


def test_the_seed_is_the_noise() -> None:
    first, again, other = (one("count", seed=s, draws=14) for s in (1, 1, 2))
    assert first == again
    assert first.nats != other.nats
    same = scores(TABLE, FAMILY, [Request(TEXT)] * 2, estimator="count", draws=14)
    assert same[0] == same[1], "equal requests have equal answers, wherever they stand"
    keyed = scores(TABLE, FAMILY, [Request(TEXT, noise_key=i) for i in range(2)], estimator="count", draws=14)
    assert keyed[0].nats != keyed[1].nats
