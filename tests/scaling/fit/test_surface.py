"""The surface fitted to runs: known laws recovered, and errors that are as large as they say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from remask.cli import main
from remask.errors import RemaskError
from remask.scaling.fit import published
from remask.scaling.fit.huber import huber
from remask.scaling.fit.isoflop import isoflop
from remask.scaling.fit.law import Surface
from remask.scaling.fit.points import Points
from remask.scaling.fit.source import read_source
from remask.scaling.fit.surface import best_on_grid, least_squares_surface, scatter_of, surface, without_each_budget
from tests.scaling.made import TRUTH, runs, table, write

LAWS = [TRUTH, published.CHINCHILLA, published.QUOKKA, Surface(0.5, 3e4, 90.0, 0.7, 0.25)]


@pytest.mark.parametrize("law", LAWS)
def test_a_surface_without_scatter_is_recovered(law: Surface) -> None:
    points = runs(law)
    for found in (surface(points, draws=0).law, huber(points)):
        for name in ("e", "a", "b", "alpha", "beta"):
            assert getattr(found, name) == pytest.approx(getattr(law, name), rel=1e-4), name


@pytest.mark.parametrize("relative", [False, True], ids=["even scatter", "scatter with the loss"])
def test_intervals_hold_the_truth_as_often_as_they_say(relative: bool) -> None:
    held = dict.fromkeys(("e", "alpha", "beta", "size_exponent"), 0)
    for seed in range(80):
        found = surface(runs(noise=0.003 if relative else 0.008, seed=seed, relative=relative), draws=60, seed=seed)
        for name in held:
            low, high = found.interval(name)
            held[name] += low <= getattr(TRUTH, name) <= high
    assert all(0.82 <= count / 80 <= 0.96 for count in held.values()), held


def test_a_flat_direction_is_said_to_be_undetermined() -> None:
    """Losses that do not depend on D: B has no value, and the fit says so."""
    found = surface(flat(), draws=0)
    assert "B" in found.bounded or "beta" in found.bounded


def flat() -> Points:
    rows = [{"n": n, "d": d, "loss": 1.5 + 400 * n**-0.35} for n in (1e7, 1e8, 1e9) for d in (1e9, 1e10, 1e11)]
    return Points.of_rows(rows)


def test_constants_are_never_negative() -> None:
    points = runs(noise=0.3, seed=3)
    for one in surface(points, draws=50).draws:
        assert min(one.e, one.a, one.b) >= 0 and one.alpha > 0 and one.beta > 0


def test_the_descent_only_improves() -> None:
    points = runs(noise=0.01, seed=1)
    weights = np.ones(len(points))
    rough, fine = best_on_grid(points, weights), least_squares_surface(points, weights)
    squares = [float(((law(points.n, points.d) - points.loss) ** 2).sum()) for law in (rough, fine)]
    assert squares[1] <= squares[0] * (1 + 1e-12)


def test_monte_carlo_errors_enter_the_weights() -> None:
    """A run with a large error hardly pulls."""
    points = runs()
    losses, errors = points.loss.copy(), np.zeros(len(points))
    losses[::7] += 0.5
    pulled = surface(Points(**{**vars(points), "loss": losses}), draws=0).law
    errors[::7] = 5.0
    known = surface(Points(**{**vars(points), "loss": losses, "stderr": errors + 1e-4}), draws=0).law
    assert abs(known.alpha - TRUTH.alpha) < 1e-3 < abs(pulled.alpha - TRUTH.alpha)
    assert scatter_of(runs(noise=0.02, seed=2)) == pytest.approx(0.02, rel=0.3)


def test_some_losses_that_are_exact_among_others_that_are_not() -> None:
    points = runs(noise=0.005)
    found = surface(replace(points, stderr=np.where(np.arange(len(points)) % 3 == 0, 0.05, 0.0)), draws=5)
    assert found.law.alpha == pytest.approx(TRUTH.alpha, abs=0.05) and len({one.alpha for one in found.draws}) == 5


def test_each_budget_is_predicted_by_the_others() -> None:
    exact, noisy = without_each_budget(runs()), without_each_budget(runs(noise=0.01, seed=4))
    assert list(exact) == pytest.approx(list(np.geomspace(1e18, 1e21, 7))) and max(exact.values()) < 1e-9
    assert all(0.002 < error < 0.05 for error in noisy.values())
    apart = runs()
    apart.loss[:7] += 0.5
    errors = list(without_each_budget(apart).values())
    assert errors[0] > 0.3 and max(errors[4:]) < errors[0], "each is predicted without itself"
    with pytest.raises(RemaskError, match="2 budgets: leaving one out needs 3"):
        without_each_budget(runs().take(np.arange(14)))


def test_too_few_runs_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RemaskError, match="5 runs are too few for a law of five constants; it needs 6"):
        surface(runs().take(np.arange(5)))
    with pytest.raises(RemaskError, match="one or two values of N"):
        surface(Points.of_rows([{"n": 1e6, "d": d, "loss": 3 - d / 1e10} for d in np.geomspace(1e8, 1e9, 8)]))
    with pytest.raises(RemaskError, match="run row 1 has N = -1"):
        surface(Points.of_rows([{"n": n, "d": 2e8 + abs(n), "loss": 3.0} for n in (-1, 2, 3, 4, 5, 6)]))
    main(["scale", "fit", str(write(tmp_path / "few.csv", table()[:4]))])
    assert "4 runs are too few" in capsys.readouterr().out
    with pytest.raises(RemaskError, match="neither a CSV nor a folder of runs"):
        read_source(tmp_path / "nothing")
    with pytest.raises(RemaskError, match="holds no finished run"):
        read_source(tmp_path)


MARIN = Path(__file__).resolve().parents[4] / "shared" / "data" / "isoflops" / "marin_202603.csv"


@pytest.mark.skipif(not MARIN.exists(), reason=f"no runs of others in {MARIN}")
def test_the_runs_of_others_fit() -> None:
    """Three corpora of about 85 runs: a power law of the best size, residuals of hundredths of a nat."""
    for points in read_source(MARIN).families.values():
        found = surface(points, draws=20)
        assert 0.3 < found.law.size_exponent < 0.5 and not found.bounded
        assert float(np.sqrt(np.mean(found.residuals**2))) < 0.06
        law = isoflop(points, draws=20)
        assert law.size is not None and 0.35 < law.size.p < 0.5 and len(law.parabolas) >= 7


def test_scatter_is_what_the_errors_of_losses_leave() -> None:
    points = runs(noise=0.02, seed=2)
    known = replace(points, stderr=np.full(len(points), 0.02))
    assert scatter_of(points) == pytest.approx(0.02, rel=0.3)
    assert scatter_of(known) < 0.01
    assert scatter_of(replace(points, stderr=np.full(len(points), 0.012))) == pytest.approx(0.016, rel=0.35)
