"""The synthetic language: its probabilities sum to one, and its entropy is what sampling finds."""

from itertools import product

import numpy as np
import pytest

from remask.data.synthetic import HiddenMarkov, parse
from remask.errors import RemaskError


@pytest.mark.parametrize("seed", range(3))
def test_probabilities_sum_to_one_and_give_the_entropy(seed: int) -> None:
    language = HiddenMarkov(symbols=3, states=3, seed=seed)
    every = np.array(list(product(range(3), repeat=6)))
    log_prob = language.log_prob(every)
    assert np.exp(log_prob).sum() == pytest.approx(1, abs=1e-12)
    assert -(np.exp(log_prob) * log_prob).sum() == pytest.approx(language.entropy(6), abs=1e-12)


def test_samples_have_the_exact_entropy() -> None:
    language = HiddenMarkov(symbols=5, states=4, seed=1)
    surprise = -language.log_prob(language.sample(20_000, 12, np.random.default_rng(0)))
    error = surprise.std() / np.sqrt(len(surprise))
    assert abs(surprise.mean() - language.entropy(12)) < 4 * error


def test_uniform_language_has_the_entropy_of_dice() -> None:
    assert HiddenMarkov(symbols=6, sharpness=0).entropy(10) == pytest.approx(10 * np.log(6))


def test_every_state_is_reached() -> None:
    language = HiddenMarkov(symbols=2, states=7, seed=3)
    assert (np.linalg.matrix_power(language.transition, 7 * 7) + np.eye(7))[0].min() > 0
    assert np.allclose(language.transition.sum(axis=1), 1)


def test_corpus_is_repeatable_and_draw_gives_fresh_texts() -> None:
    corpus = parse("symbols=4,length=20,documents=50,seed=2")
    assert corpus.texts() == corpus.texts()
    assert corpus.texts() != parse("symbols=4,length=20,documents=50,seed=2,draw=1").texts()
    assert all(len(text) == 20 and set(text) <= set("abcd") for text in corpus.texts())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("symbol=4", "symbols"),
        ("symbols=x", "'x' is not a number"),
        ("symbols=40", "2 to 26"),
        ("length=0", "at least 1"),
    ],
)
def test_wrong_options_are_named(options: str, message: str) -> None:
    with pytest.raises(RemaskError, match=message):
        parse(options)
