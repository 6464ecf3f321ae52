"""What the errors of losses do to fits and their intervals."""

from dataclasses import replace

import numpy as np
import pytest
from made import TRUTH, runs

from remask.scaling.fit.isoflop import isoflop
from remask.scaling.fit.points import Points, budgets
from remask.scaling.fit.surface import Fit, Surface, spread_of


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


def test_scatter_is_what_the_errors_of_losses_leave() -> None:
    points = runs(noise=0.02, seed=2)
    known = replace(points, stderr=np.full(len(points), 0.02))
    assert spread_of(points) == pytest.approx(0.02, rel=0.3)
    assert spread_of(known) < 0.01
    assert spread_of(replace(points, stderr=np.full(len(points), 0.012))) == pytest.approx(0.016, rel=0.35)


def test_a_parabola_follows_the_losses_that_are_known_best() -> None:
    """One run of a budget lies far off; where its error says so it is hardly followed."""
    exact, off = runs(), runs()
    off.loss[0] -= 0.2
    first = isoflop(exact, draws=0).parabolas[0].n
    errors = np.full(len(off), 1e-4)
    errors[0] = 0.2
    misled = isoflop(replace(off, stderr=np.full(len(off), 1e-4)), draws=0).parabolas[0].n
    told = isoflop(replace(off, stderr=errors), draws=0).parabolas[0].n
    assert abs(np.log(told / first)) < 0.5 * abs(np.log(misled / first))


def test_errors_of_losses_widen_the_intervals_of_exponents() -> None:
    three = np.concatenate([group[2:5] for group in budgets(runs())])  # three sizes each: no scatter to be seen

    def width(stderr: float) -> float:
        points = runs().take(three)
        law = isoflop(replace(points, stderr=np.full(len(points), stderr)), draws=300).loss
        assert law is not None
        low, high = law.interval() or (0.0, 0.0)
        return high - low

    assert width(0.0) == 0 < width(0.002)
    assert width(0.02) == pytest.approx(10 * width(0.002), rel=0.3)


def test_runs_belong_to_the_budget_they_were_planned_for() -> None:
    """Steps are whole, and families may read twice: compute alone would join these."""
    rows = [{"n": n, "d": c / 6 / n, "loss": 3.0} for c in (1e15, 1.1e15) for n in (1e6, 2e6, 4e6)]
    points = Points.of_rows(rows)
    planned = replace(points, planned=np.repeat([1e15, 1.3e15], 3))
    assert [sorted(group.tolist()) for group in budgets(points)] == [[0, 1, 2, 3, 4, 5]]
    assert [sorted(group.tolist()) for group in budgets(planned)] == [[0, 1, 2], [3, 4, 5]]


def test_a_surface_knows_its_best_size_exponent() -> None:
    law = Surface(1.0, 100.0, 300.0, 0.3, 0.2)
    small, large = law.best(1e18)[0], law.best(1e20)[0]
    assert np.log(large / small) / np.log(100) == pytest.approx(law.size_exponent) == 0.4
