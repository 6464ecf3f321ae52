"""One entry for one text and for many: lazily, batched, in any order."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tables import Counting

from likelihood.cases import FAMILY, MASKED, MODEL, TABLE, TEXT, TEXTS, V, one, scores
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.likelihood import Request, choose, score
from remask.vocabulary import Vocabulary


@pytest.mark.parametrize("guidance", [0.0, 1.3])
@pytest.mark.parametrize("estimator", ["auto", "count", "smdm", "llada", "chain", "rule"])
def test_neither_place_nor_neighbours_change_a_value(estimator: str, guidance: float) -> None:
    options = {"estimator": estimator, "draws": 24, "guidance": guidance, "seed": 3}
    many = scores(MODEL, MASKED, TEXTS, **options)
    for tokens in (1, 50, 5000):
        for a, b in zip(many, scores(MODEL, MASKED, TEXTS, tokens=tokens, **options), strict=True):
            assert b.nats == pytest.approx(a.nats, rel=1e-5)
            assert b.stderr == pytest.approx(a.stderr, rel=1e-3, abs=1e-6)
    (first,) = scores(MODEL, MASKED, TEXTS[:1], **options)
    assert first.nats == pytest.approx(many[0].nats, rel=1e-5)
    backwards = scores(MODEL, MASKED, [Request((4, 4, 4, 4)), *TEXTS[::-1]], **options)[:0:-1]
    for a, b in zip(many, backwards, strict=True):
        assert b.nats == pytest.approx(a.nats, rel=1e-5)


def test_ids_and_order() -> None:
    requests = [Request(TEXT, id="a"), Request(TEXT[:2], TEXT[2:]), Request(TEXT, id=("b", 1))]
    assert [name for name, _ in score(TABLE, FAMILY, requests)] == ["a", 1, ("b", 1)]


def test_batches_keep_to_the_budget_and_sort_by_length() -> None:
    counted, lengths = Counting(MODEL), [3, 20, 4, 19, 3, 20, 4, 19]
    requests = [Request([i % V for i in range(n)], noise_key=k) for k, n in enumerate(lengths)]
    scores(counted, MASKED, requests, estimator="count", draws=4, tokens=80)
    assert sum(counted.sizes) == 32
    assert counted.calls == 5, "16 rows of 3 or 4 in one call, 16 of 19 or 20 in calls of 4"


def endless(read: list[int]) -> Iterator[Request]:
    """Requests without an end, of 8 tokens; notes how many were read."""
    number = 0
    while True:
        read.append(number)
        yield Request([(number >> i) % 2 for i in range(8)], noise_key=number)
        number += 1


def test_requests_are_read_as_they_are_needed() -> None:
    read: list[int] = []
    found = score(MODEL, MASKED, endless(read), estimator="count", draws=4, tokens=64)
    assert read == [], "nothing is read before the first estimate is asked for"
    for number in range(300):
        name, estimate = next(found)
        assert name == number and estimate.tokens == 8
        assert len(read) <= number + 2 * 64 * 64 // 32 + 2, "no more than two windows ahead"


def test_an_interruption_keeps_what_was_yielded() -> None:
    class Interrupted(Counting):
        def __call__(self, *given: Any, **options: Any) -> torch.Tensor:
            if self.calls == 150:
                raise KeyboardInterrupt
            return super().__call__(*given, **options)

    kept = []
    with pytest.raises(KeyboardInterrupt):
        for name, estimate in score(Interrupted(MODEL), MASKED, endless([]), estimator="count", draws=4, tokens=64):
            kept.append((name, estimate))
    assert len(kept) > 100
    again = score(MODEL, MASKED, endless([]), estimator="count", draws=4, tokens=64)
    assert kept == [next(again) for _ in kept]


def test_progress_is_shown_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    scores(TABLE, FAMILY, [Request(TEXT)] * 2)
    assert capsys.readouterr().err == ""
    scores(TABLE, FAMILY, [Request(TEXT)] * 2, show=True)
    assert "scoring: 30/30 rows" in capsys.readouterr().err


def test_what_cannot_be_scored_is_named() -> None:
    family = Autoregressive().over(Vocabulary(size=V + 1, end=9))
    with pytest.raises(RemaskError, match="no tokens"):
        list(score(TABLE, FAMILY, [Request(())]))
    with pytest.raises(RemaskError, match="draws is 0; it must be at least 1"):
        one(draws=0)
    with pytest.raises(RemaskError, match=r"unknown estimator 'mean'.*Known: auto, chain, count, draws, enumeration"):
        one("mean")
    with pytest.raises(RemaskError, match="does not fit Autoregressive models; these do: auto, exact"):
        score(MODEL, family, TEXTS, estimator="count")


@pytest.mark.parametrize(
    ("estimator", "options", "says"),
    [
        ("count", {"strata": 4}, "strata is for the estimators llada, smdm, not for 'count'"),
        ("llada", {"strata": 3, "draws": 16}, "strata is 3; it must divide the 16 draws"),
        ("smdm", {"strata": 0, "draws": 16}, "strata is 0"),
    ],
)
def test_options_that_an_estimator_does_not_have(estimator: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        choose(FAMILY, estimator, **options)


def test_a_model_that_predicts_nan_is_named() -> None:
    class Broken(Counting):
        def __call__(self, *given: Any, **options: Any) -> torch.Tensor:
            return super().__call__(*given, **options) * float("nan")

    with pytest.raises(RemaskError, match="the model predicts nan"):
        list(score(Broken(TABLE), FAMILY, [Request(TEXT)]))
