"""Laws of repeated data that are known, recovered; and where one family passes another."""

import json
from pathlib import Path

import numpy as np
import pytest

from remask.cli import main
from remask.errors import RemaskError
from remask.scaling.fit import published
from remask.scaling.fit.analysis import Summary, best_epochs
from remask.scaling.fit.law import Surface
from remask.scaling.fit.points import Points
from remask.scaling.fit.repeated import FORMS, Repeated, RepeatedFit, crossing, repeated, values
from remask.scaling.report.pictures import draw
from remask.scaling.report.text import conclusions, numbers, repeated_conclusions

SURFACE = Surface(1.9, 60.0, 250.0, 0.35, 0.36)


SATURATING = Repeated(SURFACE, FORMS["saturating"], (12.0,))


QUOKKA_REPEATED = Repeated(Surface(0.0, 1535.23, 54.21, 0.42, 0.13), FORMS["turning"], (1.49, 0.40, 254.35, 0.39, 0.55))
"""Masked diffusion on repeated data (Ni et al. 2025), 10M to 139M tokens: nats above an irreducible loss not given."""


TURNING = Repeated(SURFACE, FORMS["turning"], (1.2, 0.6, 90.0, 0.3, 0.35))


def runs(law: Repeated, noise: float = 0.0, seed: int = 0, corpora: tuple[float, ...] = (1e6, 4e6, 16e6)) -> Points:
    rng = np.random.default_rng(seed)
    rows = [
        {"n": n, "d": u * epochs, "unique": u, "loss": float(law(n, u, epochs)) + noise * rng.normal()}
        for u in corpora
        for n in (1e5, 4e5, 1.6e6)
        for epochs in (0.5, 1, 2, 4, 8, 16, 32, 64)
        if epochs >= 1
    ]
    return Points.of_rows(rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("law", [SATURATING, TURNING], ids=["saturating", "turning"])
def test_a_law_without_scatter_is_recovered(law: Repeated) -> None:
    found = repeated(runs(law), law.form, draws=0)
    assert values(found.law) == pytest.approx(values(law), rel=1e-4) and not found.bounded
    assert np.abs(found.residuals).max() < 1e-7


def test_intervals_hold_the_number_of_repeats_that_count() -> None:
    held = 0
    for seed in range(16):
        low, high = repeated(runs(SATURATING, 0.01, seed), SATURATING.form, draws=40, seed=seed).interval()["R"]
        held += low <= 12.0 <= high
    assert 12 <= held <= 16, held


def test_repeats_count_less_and_less() -> None:
    law = Repeated(published.CHINCHILLA_CORRECTED, FORMS["saturating"], (published.REPEATS_AUTOREGRESSIVE,))
    assert law.effective(1e9, 1e8, 1.0) == 1e8
    assert law.effective(1e9, 1e8, 4.0) == pytest.approx(4e8, rel=0.05)
    assert law.effective(1e9, 1e8, 1e6) == pytest.approx(1e8 * (1 + 31.5))
    epochs = np.arange(1.0, 1000.0)
    best = epochs[QUOKKA_REPEATED(41e6, 10e6, epochs).argmin()]
    assert 150 < best < 350, "247 epochs at 10 M tokens, as published"
    times = np.arange(500.0, 2000.0)
    assert times[QUOKKA_REPEATED(1e10, 1e12, times).argmin()] == pytest.approx(1030, rel=0.02)
    assert QUOKKA_REPEATED(1e9, 1e9, 1.0) == pytest.approx(3.9198, abs=2e-3)


def test_where_one_family_passes_the_other() -> None:
    """The late one needs 8 times the fresh tokens, and profits from 40 times the repeats."""
    late = Repeated(Surface(1.9, 60.0, 250.0 * 8**0.36, 0.35, 0.36), FORMS["saturating"], (480.0,))
    c = crossing(SATURATING, late, 1e6)
    for ratio, ahead in ((0.9, False), (1.1, True)):
        assert (late.best(ratio * c, 1e6)[2] < SATURATING.best(ratio * c, 1e6)[2]) is ahead
    worse = Repeated(Surface(2.5, 60.0, 250.0, 0.35, 0.36), FORMS["saturating"], (12.0,))
    assert crossing(SATURATING, worse, 1e6) == np.inf and crossing(worse, SATURATING, 1e6) == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: p.take(np.arange(6)), "6 runs are too few for the saturating law of repeated data; it needs 7"),
        (lambda p: p.take(p.epochs < 3), "one or two numbers of epochs"),
        (lambda p: p.take(p.n == 1e5), "all runs have one N"),
        (lambda p: Points.of_rows([{"n": 1e6, "d": 3e6, "loss": 2.0} for _ in range(9)]), "a column U"),
    ],
)
def test_runs_that_cannot_tell(change: object, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        repeated(change(runs(SATURATING)), FORMS["saturating"], draws=0)  # type: ignore[operator]


@pytest.mark.slow
def test_one_corpus_cannot_tell_how_the_turn_moves_with_it() -> None:
    """That constant is held and named; the losses are the law's all the same."""
    points = runs(TURNING, corpora=(1e6,))
    found = repeated(points, FORMS["turning"], draws=0)
    assert found.bounded == ("x",) and np.abs(found.residuals).max() < 1e-5
    more = found.law(4e5, 1e6, np.array([3.0, 50.0]))
    assert more == pytest.approx(TURNING(4e5, 1e6, np.array([3.0, 50.0])), abs=1e-4)


def test_fit_says_what_repeats_are_worth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = Repeated(Surface(1.9, 60.0, 250.0 * 8**0.36, 0.35, 0.36), FORMS["saturating"], (480.0,))
    lines = ["family,N,D,U,loss"]
    for family, law in (("early", SATURATING), ("late", late)):
        points = runs(law, corpora=(1e6,))
        columns = zip(points.n, points.d, points.unique, points.loss, strict=True)
        lines += [f"{family},{','.join(map(repr, map(float, row)))}" for row in columns]
    table = tmp_path / "runs.csv"
    table.write_text("\n".join(lines))
    main(["scale", "fit", str(table), "--draws", "4", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["families"]["early"]["repeated"]["saturating"]["R"] == pytest.approx(12.0, rel=1e-3)
    assert found["families"]["late"]["repeated"]["saturating"]["R"] == pytest.approx(480.0, rel=1e-2)
    (cross,) = found["crossings"]
    assert (cross["early"], cross["late"], cross["U"]) == ("early", "late", 1e6)
    assert cross["C"] == pytest.approx(crossing(SATURATING, late, 1e6), rel=0.02)
    assert any("repeated data, saturating: R = 12" in line for line in numbers(found))
    page = "\n".join(conclusions(found))
    assert "no repeats do harm. 12 (" in page and "On 1e+06 distinct tokens late passes early at" in page


def test_repeated_data_is_drawn(tmp_path: Path) -> None:
    points = runs(SATURATING, corpora=(1e6,))
    law = {"saturating": RepeatedFit(SATURATING, (), np.zeros(len(points)), ())}
    summary = Summary(points, points, (), None, None, None, None, law, ())
    assert draw({"x": summary}, tmp_path, overlay=False) == ["repeated"]
    assert (tmp_path / "repeated.png").stat().st_size > 10_000


def test_harm_is_said_where_it_is_seen() -> None:
    """By the runs themselves: the turning law fits runs without a turn as well."""
    rows = [
        {"n": n, "d": 1e6 * e, "unique": 1e6, "loss": loss, "stderr": 0.01}
        for n, losses in ((1e5, (3.0, 2.5, 2.51)), (4e5, (3.0, 2.4, 2.9)))
        for e, loss in zip((1, 8, 64), losses, strict=True)
    ]
    points = Points.of_rows(rows)
    seen = best_epochs(points)
    assert seen == [
        {"N": 1e5, "best": 8.0, "most": 64.0, "harm": False},
        {"N": 4e5, "best": 8.0, "most": 64.0, "harm": True},
    ]
    laws = {name: {"R": 30.0, "intervals": None, "residual": 0.1, "on_the_edge": []} for name in FORMS}
    assert repeated_conclusions({"repeated": laws, "epochs": seen})[0] == (
        "With 400,000 parameters 8 epochs are best, and 64 do harm."
    )
    assert repeated_conclusions({"repeated": laws, "epochs": seen[:1]})[0] == "Up to 64 epochs no repeats do harm."
