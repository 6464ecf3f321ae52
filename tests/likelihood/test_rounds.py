"""Draws until an error is reached: rounds that are unbiased, and draws that are reported."""

import math

import pytest
import torch
from tables import any_order

from likelihood.cases import FAMILY, TABLE, TEXT, assert_mean, scores
from remask.errors import RemaskError
from remask.likelihood import Request, score
from remask.likelihood.count import Count

MANY = [Request(TEXT, noise_key=i) for i in range(150)]
PAIRS = Count(draws=64, group=2)


def test_the_first_look_has_the_bound_as_mean() -> None:
    found = scores(TABLE, FAMILY, MANY, estimator=PAIRS, error=1e6, tokens=2**14)
    assert {estimate.draws for estimate in found} == {18}, (
        "of 9 pairs, the first number of groups of which an error is believed"
    )
    assert_mean(torch.tensor([e.nats for e in found], dtype=torch.float64), any_order(TABLE, TEXT))


def test_draws_end_at_the_error_and_are_reported() -> None:
    """The true error is no larger than the one asked for, and not much larger than the reported one."""
    found = scores(TABLE, FAMILY, MANY, estimator=PAIRS, error=1.0, tokens=2**14)
    draws = [estimate.draws for estimate in found]
    assert set(draws) <= {18, 26, 38, 56, 64} and len(set(draws)) > 1 and sum(draws) < 0.8 * 64 * len(MANY)
    assert all(estimate.stderr < 1.0 / 1.1 for estimate in found if estimate.draws < 64)
    values = torch.tensor([e.nats for e in found], dtype=torch.float64) - any_order(TABLE, TEXT)
    assert float(values.square().mean().sqrt()) < 1.0
    reported = torch.tensor([e.stderr for e in found], dtype=torch.float64).square().mean().sqrt()
    assert 0.8 < float(values.square().mean().sqrt() / reported) < 1.3


def test_an_error_that_is_not_reached_takes_all_draws() -> None:
    few = MANY[:5]
    until = scores(TABLE, FAMILY, few, estimator="count", draws=24, error=1e-9)
    for a, b in zip(until, scores(TABLE, FAMILY, few, estimator="count", draws=24, group=2), strict=True):
        assert a.nats == pytest.approx(b.nats) and a.stderr == pytest.approx(b.stderr) and a.draws == b.draws == 24


def test_what_is_exact_is_read_once() -> None:
    for estimator, draws in (("chain", 4), ("rule", 1), ("enumeration", 15)):
        (found,) = scores(TABLE, FAMILY, [Request(TEXT)], estimator=estimator, error=1e-9)
        assert (found.stderr, found.draws) == (0.0, draws)


def test_ids_and_order_are_those_of_the_requests() -> None:
    requests = [Request(TEXT, id="a"), Request((1, 1, 2, 0)), Request(TEXT, noise_key=1, id="c")]
    found = score(TABLE, FAMILY, requests, estimator="count", draws=64, error=0.2)
    assert [name for name, _ in found] == ["a", 1, "c"]


@pytest.mark.parametrize("error", [0.0, -1.0, math.nan])
def test_an_error_that_cannot_be(error: float) -> None:
    with pytest.raises(RemaskError, match=r"error is .*; it must be above 0, in nats"):
        score(TABLE, FAMILY, MANY, error=error)
