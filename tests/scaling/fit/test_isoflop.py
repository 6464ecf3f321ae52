"""IsoFLOP parabolas, and the power laws through their minima."""

import math
from dataclasses import replace

import numpy as np
import pytest

from remask.scaling.fit import published
from remask.scaling.fit.analysis import summarise
from remask.scaling.fit.isoflop import gap, isoflop, power
from remask.scaling.fit.law import Surface
from remask.scaling.fit.points import Points, budgets
from tests.scaling.made import TRUTH, runs


def test_parabolas_give_the_exponent() -> None:
    """Exact in the exponent on centred grids, with a known bias in the intercept where alpha is not beta."""
    found = isoflop(runs(wide=4.0))
    assert len(found.parabolas) == 7 and all(p.bracketed for p in found.parabolas)
    assert found.size is not None and found.loss is not None
    assert found.size.p == pytest.approx(TRUTH.size_exponent, abs=1e-6)
    assert found.parabolas[3].n == pytest.approx(TRUTH.best(found.parabolas[3].c)[0], rel=0.05)
    noisy = isoflop(runs(noise=0.004, seed=5, wide=4.0))
    assert noisy.size is not None
    interval = noisy.size.interval()
    assert interval is not None
    assert interval[0] < TRUTH.size_exponent < interval[1] and interval[1] - interval[0] < 0.2


def test_a_loss_that_is_not_well_known_weighs_little() -> None:
    """One run of 0.2 nats too little, which says of itself that it may be: the minima stay where they are."""
    points, wrong = runs(wide=4.0), 22
    loss, stderr = points.loss.copy(), np.full(len(points), 1e-4)
    loss[wrong] -= 0.2
    least = isoflop(replace(points, loss=loss, stderr=stderr), draws=0).parabolas[3].n
    stderr[wrong] = 0.5
    known = isoflop(replace(points, loss=loss, stderr=stderr), draws=0).parabolas[3].n
    true = isoflop(points, draws=0).parabolas[3].n
    assert abs(math.log(known / true)) < 0.02 < abs(math.log(least / true))


def test_nothing_that_scatters_gives_no_interval() -> None:
    points = Points.of_rows(
        [
            {"n": n, "d": c / 6 / n, "loss": float(TRUTH(n, c / 6 / n))}
            for c in (1e18, 1e19, 1e20)
            for n in TRUTH.best(c)[0] * np.array([0.5, 1.0, 2.0])
        ]
    )
    found = isoflop(points)
    assert found.size is not None and found.size.interval() is None


def test_the_interval_of_a_gap_holds_the_truth() -> None:
    """The better family needs a fifth of the compute; each family's resamples are drawn apart."""
    slow = Surface(TRUTH.e, TRUTH.a * 5 ** (TRUTH.alpha * TRUTH.size_exponent), TRUTH.b, TRUTH.alpha, TRUTH.beta)
    slow = replace(slow, b=TRUTH.b * 5 ** (TRUTH.beta * (1 - TRUTH.size_exponent)))
    held, true = 0, None
    for seed in range(60):
        laws = []
        for i, law in enumerate((slow, TRUTH)):
            found = isoflop(runs(law, noise=0.01, seed=2 * seed + i, wide=4.0), 60, (seed, i)).loss
            assert found is not None
            laws.append(found)
        if true is None:
            exact = [isoflop(runs(law, wide=4.0), draws=0).loss for law in (slow, TRUTH)]
            assert exact[0] is not None and exact[1] is not None
            true = gap(exact[0], exact[1], 1e20)[0]
            assert true == pytest.approx(5, rel=0.3)
        interval = gap(laws[0], laws[1], 1e20)[1]
        assert interval is not None
        held += interval[0] <= true <= interval[1]
    assert 48 <= held <= 59, held
    first, second = (summarise(runs(noise=0.01), draws=3, family=i).surface for i in (0, 1))
    assert first is not None and second is not None and first.draws != second.draws, "two families, two draws"


def test_a_minimum_outside_the_sizes_is_said_to_be() -> None:
    points = runs(wide=4.0)
    first = budgets(points)[0]
    kept = np.setdiff1d(np.arange(len(points)), first[points.n[first] < 1.5 * TRUTH.best(1e18)[0]])
    found = isoflop(points.take(kept))
    assert [p.bracketed for p in found.parabolas] == [False] + [True] * 6
    whole = isoflop(points)
    assert found.size is not None and whole.size is not None
    assert found.size.p == pytest.approx(whole.size.p, abs=1e-6)
    falling = Points.of_rows([{"n": n, "d": 1e18 / 6 / n, "loss": 3 - 1e-9 * n} for n in (1e7, 2e7, 4e7)])
    assert not isoflop(falling).parabolas[0].bracketed and isoflop(falling).size is None


def test_the_published_points_of_smdm() -> None:
    """Slopes -0.0626 and -0.0642, exponents of size 0.630 and 0.642, and a gap of 15 to 17."""
    laws = {}
    for name, minima, slope, size in (
        ("masked", published.SMDM_MASKED, -0.0626, 0.630),
        ("ar", published.SMDM_AUTOREGRESSIVE, -0.0642, 0.642),
    ):
        c, n, loss = (np.array([getattr(m, k) for m in minima]) for k in ("c", "n", "loss"))
        laws[name] = power(c, loss)
        assert laws[name].p == pytest.approx(slope, abs=1e-4)
        assert power(c, n).p == pytest.approx(size, abs=5e-4)
        interval = laws[name].interval()
        assert interval is not None and interval[0] <= laws[name].p <= interval[1]
    for c in (6e18, 1e20):
        times, interval = gap(laws["masked"], laws["ar"], c)
        assert 15 < times < 17 and interval is not None and interval[0] < times < interval[1]


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
