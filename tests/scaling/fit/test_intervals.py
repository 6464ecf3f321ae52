"""Intervals from resamples."""

from dataclasses import replace

import numpy as np
import pytest

from remask.scaling.fit.intervals import Fit
from tests.scaling.made import TRUTH


def drawn(alpha: np.ndarray, beta: np.ndarray) -> Fit:
    """A fit whose resamples have these exponents."""
    return Fit(TRUTH, tuple(replace(TRUTH, alpha=a, beta=b) for a, b in zip(alpha, beta, strict=True)), np.zeros(1))


def test_joint_intervals_hold_both_at_once() -> None:
    rng = np.random.default_rng(0)
    alpha, beta = rng.normal(0.3, 0.01, 2000), rng.normal(0.4, 0.05, 2000)
    fit, inside = drawn(alpha, beta), {}
    joint = fit.joint(("alpha", "beta"))
    for name, values in (("alpha", alpha), ("beta", beta)):
        (low, high), (least, most) = joint[name], fit.interval(name)
        assert low < least < most < high
        inside[name] = (low <= values) & (values <= high)
    assert np.mean(inside["alpha"] & inside["beta"]) == pytest.approx(0.9, abs=0.005)


def test_constants_that_make_up_for_each_other() -> None:
    alpha = np.random.default_rng(0).normal(0.3, 0.02, 200)
    assert drawn(alpha, 0.7 - alpha).correlation("alpha", "beta") == pytest.approx(-1)
    assert drawn(alpha, alpha).correlation("alpha", "beta") == pytest.approx(1)
    assert np.isnan(drawn(alpha, np.full(200, 0.3)).correlation("alpha", "beta"))
