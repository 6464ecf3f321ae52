"""The attack: what it may change, and that it finds what there is to find."""

import itertools

import numpy as np
import pytest

from remask.errors import RemaskError
from remask.robustness.attack import attack, margin, neutral

SYMBOLS, LENGTH = 4, 5
WEIGHTS = np.random.default_rng(0).normal(size=(LENGTH, SYMBOLS))


def scorer(texts: list[list[int]]) -> list[list[float]]:
    """A linear classifier of two labels: label 0 costs less where the sum of the weights is positive."""
    sums = [sum(WEIGHTS[i, token] for i, token in enumerate(text)) for text in texts]
    return [[-s, s] for s in sums]


def test_only_candidates_are_replaced_by_candidates_within_the_budget() -> None:
    candidates = [1, 2, 3]
    for seed, budget in itertools.product(range(20), (1, 2, 4)):
        text = np.random.default_rng(seed).integers(SYMBOLS, size=LENGTH).tolist()
        for tries in (1, 8):
            after = attack(scorer, text, 0, budget=budget, tries=tries, candidates=candidates, seed=seed)
            changed = [(a, b) for a, b in zip(text, after, strict=True) if a != b]
            assert len(changed) <= budget and all(a in candidates and b in candidates for a, b in changed)
            again = attack(scorer, text, 0, budget=budget, tries=tries, candidates=candidates, seed=seed)
            assert again == after
    assert attack(scorer, [0, 0], 0, budget=2, tries=4, candidates=[1, 2], seed=0) == [0, 0]


def test_with_many_tries_one_replacement_is_the_best_there_is() -> None:
    for seed in range(10):
        text = np.random.default_rng(seed).integers(SYMBOLS, size=LENGTH).tolist()
        every = [[*text[:i], v, *text[i + 1 :]] for i in range(LENGTH) for v in range(SYMBOLS) if v != text[i]]
        best = min(margin(costs, 0) for costs in scorer(every))
        after = attack(scorer, text, 0, budget=1, tries=300, candidates=range(SYMBOLS), seed=seed)
        assert margin(scorer([after])[0], 0) == pytest.approx(best)


def test_it_ends_when_the_label_is_another() -> None:
    text = [int(i) for i in WEIGHTS.argmax(1)]
    for budget in (1, 3, 5):
        after = attack(scorer, text, 0, budget=budget, tries=300, candidates=range(SYMBOLS), seed=1)
        if margin(scorer([after])[0], 0) < 0:
            fewer = sum(a != b for a, b in zip(text, after)) - 1
            shorter = attack(scorer, text, 0, budget=max(fewer, 1), tries=300, candidates=range(SYMBOLS), seed=1)
            assert fewer == 0 or margin(scorer([shorter])[0], 0) >= 0
            return
    raise AssertionError("some budget misleads a linear classifier")


def test_margin() -> None:
    assert margin([1.0, 3.0, 2.5], 0) == 1.5 and margin([1.0, 3.0, 2.5], 1) == -2.0


def test_neutral_tokens() -> None:
    """7 is in texts of both labels alike, 8 in those of one only, and 9 in too few."""
    texts = [(7, 7, 8)] * 6 + [(7, 5)] * 6 + [(9,)] * 2
    labels = [0] * 6 + [1] * 6 + [0, 1]
    assert neutral(texts, labels) == [7]
    assert neutral(texts, labels, least=2) == [7, 9]
    assert neutral(texts, labels, most=2.0) == [5, 7, 8]


def test_bad_numbers() -> None:
    for wrong in ({"budget": 0}, {"tries": 0}, {"candidates": [1]}):
        with pytest.raises(RemaskError, match="an attack needs a budget, tries and two candidates"):
            attack(scorer, [1, 2], 0, **{"budget": 1, "tries": 1, "candidates": [1, 2], "seed": 0} | wrong)
