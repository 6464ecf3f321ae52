"""The certificate: its bounds against other people's, its combinatorics against enumeration, and its promise against
every attack there is."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tables import UNHURRIED

from remask.errors import RemaskError
from remask.robustness.certificate import certified_radius, lower_bound, touched


@given(st.integers(1, 600), st.data(), st.sampled_from([0.001, 0.05, 0.3]))
@UNHURRIED
def test_the_bound_is_that_of_scipy_and_solves_its_equation(draws: int, data: st.DataObject, alpha: float) -> None:
    successes = data.draw(st.integers(0, draws))
    found = lower_bound(successes, draws, alpha)
    test = stats.binomtest(successes, draws, alternative="greater")
    assert found == pytest.approx(test.proportion_ci(1 - alpha, "exact").low, abs=1e-9)
    if successes:
        tail = math.fsum(stats.binom.pmf(range(successes, draws + 1), draws, found))
        assert tail == pytest.approx(alpha, rel=1e-6)


def test_the_bound_by_hand() -> None:
    assert lower_bound(0, 10, 0.05) == 0
    assert lower_bound(500, 500, 0.05) == pytest.approx(0.05 ** (1 / 500))
    assert lower_bound(1, 20, 0.1) == pytest.approx(1 - 0.9 ** (1 / 20))


@pytest.mark.parametrize("p", [0.02, 0.3, 0.5, 0.77, 0.99])
def test_the_bound_is_wrong_no_more_often_than_it_says(p: float) -> None:
    weights = stats.binom.pmf(range(41), 40, p)
    wrong = math.fsum(w for k, w in enumerate(weights) if lower_bound(k, 40, 0.1) > p)
    assert wrong <= 0.1


@pytest.mark.parametrize(
    ("length", "kept", "changed"), [(5, 2, 1), (6, 3, 2), (6, 1, 5), (4, 4, 1), (5, 0, 5), (5, 2, 0)]
)
def test_touched_is_the_share_of_the_sets(length: int, kept: int, changed: int) -> None:
    sets = list(itertools.combinations(range(length), kept))
    share = Fraction(sum(any(i < changed for i in one) for one in sets), len(sets))
    assert touched(length, kept, changed) == share


def smoothed(of_set: np.ndarray, length: int, kept: int, text: tuple[int, ...], symbols: int) -> float:
    """The probability of label 1, for a classifier that is a table over the sets of kept places and what is there."""
    total = 0.0
    for number, places in enumerate(itertools.combinations(range(length), kept)):
        state = sum(text[i] * symbols**j for j, i in enumerate(places))
        total += float(of_set[number, state])
    return total / math.comb(length, kept)


@pytest.mark.parametrize(("length", "kept", "symbols"), [(4, 1, 3), (5, 2, 2), (6, 1, 2)])
def test_no_attack_contradicts_a_radius(length: int, kept: int, symbols: int) -> None:
    """Exact probabilities, random classifiers, and every text within the radius."""
    certified, texts = 0, list(itertools.product(range(symbols), repeat=length))
    for seed in range(12):
        rng = np.random.default_rng(seed)
        table = rng.beta(0.5, 0.15, (math.comb(length, kept), symbols**kept))  # mostly near 1
        p = {text: smoothed(table, length, kept, text, symbols) for text in texts}
        for text in texts:
            for label, probability in ((1, p[text]), (0, 1 - p[text])):
                radius = certified_radius(probability, length, kept)
                if radius is None:
                    continue
                certified += radius > 0
                near = [t for t in texts if sum(a != b for a, b in zip(t, text)) <= radius]
                assert all((p[t] > 0.5) == (label == 1) for t in near)
    assert certified > 20


@pytest.mark.parametrize(("length", "kept", "probability"), [(6, 2, 0.9), (8, 3, 0.95), (10, 2, 0.8), (5, 1, 1.0)])
def test_one_more_token_can_be_too_many(length: int, kept: int, probability: float) -> None:
    """The radius is the largest that can be had: some classifier says otherwise one token beyond it."""
    radius = certified_radius(probability, length, kept)
    assert radius is not None and radius < length
    sets = list(itertools.combinations(range(length), kept))
    sets.sort(key=lambda one: not any(i <= radius for i in one))  # first those that touch the first radius + 1 tokens
    right = sets[: math.floor(probability * len(sets))]  # the label wherever these are kept and the text is as it was
    left = [one for one in right if not any(i <= radius for i in one)]
    assert len(left) / len(sets) <= 0.5


def test_abstaining_and_extremes() -> None:
    assert certified_radius(0.5, 10, 3) is None
    assert certified_radius(0.2, 10, 3) is None
    assert certified_radius(0.50001, 10, 3) == 0
    assert certified_radius(0.6, 10, 0) == 10, "what reads nothing cannot be misled"
    assert certified_radius(1.0, 10, 10) == 0, "what reads all can be misled by one token"


def test_bad_numbers() -> None:
    with pytest.raises(RemaskError, match="alpha is 0; it must lie between 0 and 1"):
        lower_bound(1, 2, 0)
    with pytest.raises(RemaskError, match="3 votes of 2"):
        lower_bound(3, 2, 0.1)
    with pytest.raises(RemaskError, match="5 kept and 0 changed tokens are not among 4"):
        touched(4, 5, 0)
