"""Errors and intervals of shares, against scipy, the plain formulas and known values."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from remask.evaluation.proportions import binomial_error, mean_error, wilson


@pytest.mark.parametrize("n", [1, 30, 1319])
def test_wilsons_interval_is_that_of_scipy(n: int) -> None:
    for right in {0, 1, n // 2, n}:
        ci = binomtest(right, n).proportion_ci(0.95, method="wilson")
        assert wilson(right / n, n) == pytest.approx((ci.low, ci.high), abs=1e-9)
    assert wilson(0, 1319)[1] > 0.002 and wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_errors() -> None:
    assert binomial_error(0, 60) == pytest.approx(math.sqrt(2 / 64 * 62 / 64 / 64)) == binomial_error(60, 60)
    assert mean_error(np.array([1, 1, 0.5, 0])) == pytest.approx(np.std([1, 1, 0.5, 0], ddof=1) / 2)
    assert mean_error(np.ones(4)) == binomial_error(4, 4)
    assert mean_error(np.zeros(1)) == binomial_error(0, 1)
