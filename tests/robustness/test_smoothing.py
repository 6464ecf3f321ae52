"""The vote, on a masked model so small that all masks and all ways to fill them are enumerated."""

import itertools
import math
from collections import Counter

import pytest

from remask.errors import RemaskError
from remask.robustness.certificate import certified_radius, lower_bound
from remask.robustness.classification import Classifier
from remask.robustness.smoothing import Smoothing
from remask.robustness.voting import certify, count_votes, fill, vote
from robustness.letters import MASK, checkpoint, classifier, log_probs, texts

LENGTH = 4
ONE_STEP = Smoothing(rate=0.75, votes=300, draws=2000, steps=1)
"""Three of four tokens are hidden, and drawn independently of each other."""


def exact(one: Classifier) -> dict[tuple[int, ...], list[float]]:
    """The probability of each label for every text, by enumeration and not by the package's own loops."""
    every = texts(LENGTH)
    label = dict(zip(every, one.predict(every), strict=True))
    of_kept: dict[tuple[int, int], list[float]] = {}
    for place, token in itertools.product(range(LENGTH), range(3)):
        given = log_probs(one.checkpoint, [token if i == place else MASK for i in range(LENGTH)])
        found = [0.0, 0.0]
        for text in every:
            if text[place] == token:
                nats = sum(float(given[i, text[i]]) for i in range(LENGTH) if i != place)
                found[label[text]] += math.exp(nats)
        of_kept[place, token] = found
    return {text: [sum(of_kept[i, text[i]][c] for i in range(LENGTH)) / LENGTH for c in range(2)] for text in every}


def test_votes_have_the_probabilities_of_enumeration() -> None:
    one = classifier(seed=2)
    p = exact(one)
    for text in [(0, 1, 2, 0), (2, 2, 1, 0)]:
        assert sum(p[text]) == pytest.approx(1)
        found = count_votes(ONE_STEP, one, one.checkpoint, text, 2000, seed=5)
        assert abs(found[0] / 2000 - p[text][0]) < 4 * math.sqrt(0.25 / 2000)


def test_no_attack_on_the_model_contradicts_a_radius() -> None:
    """With exact probabilities, every text within the radius of every text has the same answer."""
    certified = 0
    for seed in range(6):
        p = exact(classifier(seed=seed, sharpness=4.0))
        for text, (first, second) in p.items():
            label, probability = (0, first) if first > second else (1, second)
            radius = certified_radius(probability, LENGTH, ONE_STEP.kept(LENGTH))
            if radius is None:
                continue
            certified += radius > 0
            near = [t for t in p if sum(a != b for a, b in zip(t, text)) <= radius]
            assert all(p[t][label] > 0.5 for t in near)
    assert certified > 20


def test_a_certificate_from_votes() -> None:
    one = classifier(seed=2)
    for text in [(0, 1, 2, 0), (2, 2, 1, 0), (1, 1, 1, 1)]:
        certified = certify(ONE_STEP, one, one.checkpoint, text, seed=3)
        assert sum(certified.counts) == 2000 and (certified.length, certified.kept) == (4, 1)
        assert certified.probability == lower_bound(certified.counts[certified.choice], 2000, 0.05)
        assert certified.radius == certified_radius(certified.probability, 4, 1)
        assert certified == certify(ONE_STEP, one, one.checkpoint, text, seed=3), "the same again"
        assert certified.choice == vote(ONE_STEP, one, one.checkpoint, text, seed=3).choice


def test_the_draws_of_a_bound_are_not_those_that_chose_the_label() -> None:
    """Else the label that has the most votes by luck would have its luck in the bound too."""
    one, how = classifier(seed=2), Smoothing(rate=0.75, votes=40, draws=40, steps=1)
    chosen = [vote(how, one, one.checkpoint, (0, 1, 2, 0), seed).counts for seed in range(6)]
    bounded = [certify(how, one, one.checkpoint, (0, 1, 2, 0), seed).counts for seed in range(6)]
    assert sum(a == b for a, b in zip(chosen, bounded)) < 4


def test_it_abstains_where_the_votes_do_not_tell() -> None:
    one = classifier(seed=2)
    few = Smoothing(rate=0.75, votes=1, draws=2, steps=1)
    assert certify(few, one, one.checkpoint, (0, 1, 2, 0)).radius is None, "two votes prove nothing at 0.05"


@pytest.mark.parametrize("steps", [1, 4])
def test_kept_tokens_stay_and_sets_are_uniform(steps: int) -> None:
    one = classifier("a{text}b{label}", seed=1)
    how = Smoothing(rate=0.5, steps=steps)
    text = (0, 1, 2, 0, 1, 2)
    order = [fill(how, one, one.checkpoint, text, 200, seed=s) for s in (0, 0, 1)]
    assert order[0] == order[1] != order[2]
    assert all(sum(a == b for a, b in zip(copy, text)) >= how.kept(6) for copy in order[0])
    assert all(token < 3 for copy in order[0] for token in copy), "no masks are left"
    same = Counter(
        i for copy in fill(how, one, one.checkpoint, text, 2000, seed=9) for i in range(6) if copy[i] == text[i]
    )
    assert min(same.values()) > 2000 * 0.5 - 4 * math.sqrt(2000 * 0.25), "each token is kept in half of the copies"


def test_what_is_hidden_does_not_matter() -> None:
    """The copies of two texts are the same wherever the tokens in which they differ are hidden."""
    one = classifier(seed=1)
    how = Smoothing(rate=0.75, steps=2)
    first = fill(how, one, one.checkpoint, (0, 1, 2, 0), 100, seed=4)
    second = fill(how, one, one.checkpoint, (0, 1, 1, 0), 100, seed=4)
    same = sum(a == b for a, b in zip(first, second))
    assert 60 <= same < 100, "three of four, and those that happen to be filled alike"


def test_models_that_do_not_fit() -> None:
    left = classifier(left=True)
    with pytest.raises(RemaskError, match="filled in by a masked model, and this one is Autoregressive"):
        vote(ONE_STEP, left, left.checkpoint, (0, 1))
    assert sum(vote(ONE_STEP, left, checkpoint(), (0, 1)).counts) == 300, "a masked one fills in for it"
    for wrong in ({"rate": 0.0}, {"rate": 1.1}, {"votes": 0}, {"draws": 0}, {"alpha": 1.0}, {"steps": 0}):
        with pytest.raises(RemaskError, match=f"{next(iter(wrong))} is "):
            Smoothing(**wrong)
