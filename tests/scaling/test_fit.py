"""Laws that are known, recovered from runs with and without scatter; published points and runs of others."""

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made import TRUTH, runs

from remask.cli import main
from remask.errors import RemaskError
from remask.scaling.fit import published
from remask.scaling.fit.analysis import plain, summarised
from remask.scaling.fit.huber import huber
from remask.scaling.fit.isoflop import gap, isoflop, power
from remask.scaling.fit.points import Points, budgets, diverged, read
from remask.scaling.fit.surface import Surface, left_out, polished, search, spread_of, surface

MARIN = Path(__file__).resolve().parents[3] / "shared" / "data" / "isoflops" / "marin_202603.csv"
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
    for seed in range(200):
        found = surface(runs(noise=0.003 if relative else 0.008, seed=seed, relative=relative), draws=100, seed=seed)
        for name in held:
            low, high = found.interval(name)
            held[name] += low <= getattr(TRUTH, name) <= high
    assert all(0.83 <= count / 200 <= 0.95 for count in held.values()), held


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


def test_the_polish_only_improves() -> None:
    points = runs(noise=0.01, seed=1)
    weights = np.ones(len(points))
    rough = search(points, weights[None], points.loss[None])[0]
    fine = polished(points, rough, weights)
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
    assert spread_of(runs(noise=0.02, seed=2)) == pytest.approx(0.02, rel=0.3)


def test_some_losses_that_are_exact_among_others_that_are_not() -> None:
    points = runs(noise=0.005)
    found = surface(replace(points, stderr=np.where(np.arange(len(points)) % 3 == 0, 0.05, 0.0)), draws=5)
    assert found.law.alpha == pytest.approx(TRUTH.alpha, abs=0.05) and len({one.alpha for one in found.draws}) == 5


def test_the_best_of_a_surface_is_its_minimum() -> None:
    c = 3e20
    n, d, loss = TRUTH.best(c)
    sizes = np.geomspace(n / 10, n * 10, 4001)
    assert loss == pytest.approx(float(TRUTH(sizes, c / 6 / sizes).min()), rel=1e-6) and 6 * n * d == pytest.approx(c)
    grown = math.log(TRUTH.best(10 * c)[0] / n) / math.log(10)
    assert grown == pytest.approx(TRUTH.size_exponent) == pytest.approx(0.3658 / (0.3478 + 0.3658))


# IsoFLOP curves


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
    for seed in range(100):
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
    assert 80 <= held <= 97, held
    first, second = (summarised(runs(noise=0.01), draws=3, family=i).surface for i in (0, 1))
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


def test_each_budget_is_predicted_by_the_others() -> None:
    exact, noisy = left_out(runs()), left_out(runs(noise=0.01, seed=4))
    assert list(exact) == pytest.approx(list(np.geomspace(1e18, 1e21, 7))) and max(exact.values()) < 1e-9
    assert all(0.002 < error < 0.05 for error in noisy.values())
    apart = runs()
    apart.loss[:7] += 0.5
    errors = list(left_out(apart).values())
    assert errors[0] > 0.3 and max(errors[4:]) < errors[0], "each is predicted without itself"
    with pytest.raises(RemaskError, match="2 budgets: leaving one out needs 3"):
        left_out(runs().take(np.arange(14)))


# Tables and folders


def write(path: Path, rows: list[dict]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def table(law: Surface = TRUTH, family: str = "x") -> list[dict]:
    points = runs(law, wide=4.0)
    return [
        {"name": f"{family}{i}", "family": family, "N": n, "D": d, "loss": loss}
        for i, (n, d, loss) in enumerate(zip(points.n, points.d, points.loss, strict=True))
    ]


def test_a_csv_is_fitted_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = Surface(TRUTH.e + 0.4, TRUTH.a, TRUTH.b, TRUTH.alpha, TRUTH.beta)
    path = write(tmp_path / "runs.csv", table(TRUTH, "ar") + table(slow, "masked"))
    main(["scale", "fit", str(path), "--json", "--draws", "20", "--target", "1e22"])
    out = capsys.readouterr().out
    found = json.loads(out)
    assert found["flops"] == "6ND" and set(found["families"]) == {"ar", "masked"}
    ar = found["families"]["ar"]
    assert ar["surface"]["alpha"] == pytest.approx(TRUTH.alpha, rel=1e-4)
    assert ar["surface"]["best_at"]["N"] == pytest.approx(TRUTH.best(1e22)[0], rel=1e-3)
    assert all(one["error"] < 1e-6 for one in ar["predicted_by_the_others"])
    (between,) = found["gaps"]
    assert (between["slow"], between["fast"]) == ("masked", "ar") and between["times"] > 5
    assert between["at"] == pytest.approx(3.2e19, rel=0.02) and not between["extrapolated"]
    main(["scale", "fit", str(path), "--draws", "20"])
    text = capsys.readouterr().out
    assert "FLOPs are 6ND" in text and "masked needs" in text and "alpha" in text
    assert "extrapolated" not in text
    small = [row for row in table(slow, "masked") if row["N"] * row["D"] * 6 < 5e19]  # the gap lies beyond these
    fewer = write(tmp_path / "fewer.csv", table(TRUTH, "ar") + small)
    main(["scale", "report", str(fewer), "--draws", "20", "--out", str(tmp_path / "page")])
    assert "beyond the budgets tried, by its law" in (tmp_path / "page" / "report.md").read_text()


def test_a_target_is_counted_as_the_runs_are(tmp_path: Path) -> None:
    """The head and attention cost small networks more: at ten times the compute they are less of it."""

    def exact(n: float, d: float) -> float:
        return 6 * n * d * (1 + 40 * n**-0.3)

    rows = [{**row, "C": exact(row["N"], row["D"])} for row in table()]
    (points,) = read(write(tmp_path / "runs.csv", rows)).values()
    n, d, _ = TRUTH.best(1e22)
    assert plain(points, TRUTH, exact(n, d)) == pytest.approx(1e22, rel=1e-3)
    assert plain(runs(), TRUTH, 1e22) == 1e22


def test_diverged_runs_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = table()
    rows[40]["loss"] = 9.0
    rows[44]["loss"] = "nan"
    main(["scale", "fit", str(write(tmp_path / "runs.csv", rows)), "--draws", "5"])
    assert re.search(r"left out, as diverged \(.*\): x40, x44", capsys.readouterr().out)
    assert not diverged(runs(noise=0.01)).any()
    large = Points.of_rows([{"n": 1e5, "d": 1e8, "loss": 3.0}, {"n": 1e8, "d": 1e6, "loss": 4.5}])
    assert not diverged(large).any(), "too large for its tokens, not diverged"
    again = [{"n": 1e6, "d": 1e6 * e, "unique": 1e6, "loss": x} for e, x in ((1, 4.0), (4, 5.1), (64, 6.0))]
    assert diverged(Points.of_rows(again)).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"size": 1, "loss": 2}], r"has no column N, D or C; it has size, loss"),
        ([{"N": 1e6, "D": "many", "loss": 2}], r"line 2: D is 'many', not a number"),
        ([{"name": "a", "N": 1e6, "D": 1e7, "loss": 2}] * 2, r"names two runs 'a'; a run counts once"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, rows: list[dict], says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        read(write(tmp_path / "runs.csv", rows))


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
        read(tmp_path / "nothing")
    with pytest.raises(RemaskError, match="holds no finished run"):
        read(tmp_path)


def test_run_directories_are_read(masked_run: Path, autoregressive_run: Path, tmp_path: Path) -> None:
    for run in (masked_run, autoregressive_run):
        (tmp_path / run.name).symlink_to(run)
    found = read(tmp_path)
    assert set(found) == {"Masked", "Autoregressive"}
    masked, ar = found["Masked"], found["Autoregressive"]
    assert masked.names == ("masked",) and masked.d[0] == 80 * 8 * 64 and masked.c[0] == 6 * masked.n[0] * masked.d[0]
    assert masked.stderr[0] > 0 == ar.stderr[0] and 0 < ar.loss[0] < masked.loss[0] + 1


@pytest.mark.skipif(not MARIN.exists(), reason=f"no runs of others in {MARIN}")
def test_the_runs_of_others_fit() -> None:
    """Three corpora of about 85 runs: a power law of the best size, residuals of hundredths of a nat."""
    for points in read(MARIN).values():
        found = surface(points, draws=20)
        assert 0.3 < found.law.size_exponent < 0.5 and not found.bounded
        assert float(np.sqrt(np.mean(found.residuals**2))) < 0.06
        law = isoflop(points, draws=20)
        assert law.size is not None and 0.35 < law.size.p < 0.5 and len(law.parabolas) >= 7


def test_a_report_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = Surface(TRUTH.e + 0.4, TRUTH.a, TRUTH.b, TRUTH.alpha, TRUTH.beta)
    rows = table(TRUTH, "ar") + [row for row in table(slow, "masked") if row["N"] > 0.9 * TRUTH.best(1e18)[0]]
    path = write(tmp_path / "runs.csv", rows)
    main(["scale", "report", str(path), "--out", str(tmp_path / "page"), "--draws", "20"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "page" / "report.md")
    page = (tmp_path / "page" / "report.md").read_text()
    assert f"{len(rows)} runs of 2 families" in page and "counted as 6ND" in page
    assert "masked needs" in page and "the best size grows as C^0.51" in page
    for name in ("isoflop", "optimum", "residuals"):
        assert f"({name}.png)" in page
        assert (tmp_path / "page" / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
