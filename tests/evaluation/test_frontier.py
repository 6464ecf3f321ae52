"""Speed against quality: real models that write and are judged, and the arithmetic of the comparison."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from remask.cli import main
from remask.errors import RemaskError
from remask.evaluation.frontier import checkpoints, frontier
from remask.evaluation.frontier_points import Point, at_entropy
from remask.evaluation.judging import entropy_of
from remask.evaluation.pareto import pareto_front
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from tests.conftest import Fit

SMALL: dict[str, Any] = {
    "steps": [2, 8],
    "temperatures": [0.6, 1.0, 1.4],
    "texts": 6,
    "length": 16,
    "rule_texts": 2,
    "samplers": ["LeftToRight", "Ancestral", "Confidence"],
}


@pytest.fixture(scope="module")
def runs(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    fit(folder / "ar", steps=60, family=Autoregressive())
    fit(folder / "masked", steps=60, family=Masked(objective="low_variance"))
    fit(folder / "uniform", steps=30, family=Uniform())
    return folder


@pytest.fixture(scope="module")
def found(runs: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("out") / "frontier"
    return frontier(runs, "ar", corpus, out, **SMALL), out


def test_every_family_is_measured(found: tuple[dict[str, Any], Path]) -> None:
    result, out = found
    ways = {(c["model"], c["sampler"], c["steps"]) for c in result["curves"]}
    both = {(m, s, n) for m, s in (("masked", "Ancestral"), ("masked", "Confidence"), ("uniform", "Ancestral"))
            for n in (2, 8)}  # fmt: skip
    assert ways == {("ar", "LeftToRight", 0)} | both
    assert len(result["points"]) == 3 * len(ways)
    for p in result["points"]:
        assert 0 < p["nll"] < 20 and 0 <= p["entropy"] <= math.log(16) and p["tokens_per_second"] > 0
        expected = 16 if p["sampler"] == "LeftToRight" else p["steps"]
        assert p["passes"] <= expected + (p["sampler"] == "LeftToRight")
    hot = {p["temperature"]: p["entropy"] for p in result["points"] if p["model"] == "ar"}
    assert hot[0.6] < hot[1.4]
    assert {(r["model"], r["sampler"]) for r in result["rules"]} == {("ar", "LeftToRight"), ("masked", "Confidence")}
    assert all(r["kind"] == "exact" and r["tokens"] == 32 for r in result["rules"])
    page = (out / "frontier.md").read_text()
    assert "| masked | Confidence | 8 |" in page and (out / "frontier.png").stat().st_size > 10_000


def test_it_goes_on_where_it_was_cut_off(
    found: tuple[dict[str, Any], Path], runs: Path, corpus: Path, tmp_path: Path
) -> None:
    """Measurements that are there are not made again; those that are not come out the same."""
    _, out = found
    kept = json.loads((out / "frontier.json").read_text())
    kept["points"], gone = kept["points"][:-1], kept["points"][-1]
    kept["rules"] = kept["rules"][:-1]
    (tmp_path / "frontier").mkdir()
    (tmp_path / "frontier" / "frontier.json").write_text(json.dumps(kept))
    again = frontier(runs, "ar", corpus, tmp_path / "frontier", **SMALL)
    assert again["points"][:-1] == kept["points"]
    fresh = again["points"][-1]
    assert {k: v for k, v in fresh.items() if k != "tokens_per_second"} == {
        k: v for k, v in gone.items() if k != "tokens_per_second"
    }
    with pytest.raises(RemaskError, match=r"measured otherwise: --texts 6 there, 5 now\. Choose another --out"):
        frontier(runs, "ar", corpus, tmp_path / "frontier", **cast(Any, SMALL | {"texts": 5}))
    kept["settings"]["weights of masked"] = "0" * 16
    (tmp_path / "frontier" / "frontier.json").write_text(json.dumps(kept))
    with pytest.raises(RemaskError, match=r"measured otherwise: weights of masked 0000000000000000 there"):
        frontier(runs, "ar", corpus, tmp_path / "frontier", **SMALL)
    (tmp_path / "frontier" / "frontier.json").write_text("{")
    with pytest.raises(RemaskError, match=r"frontier.json is damaged"):
        frontier(runs, "ar", corpus, tmp_path / "frontier", **SMALL)


def test_the_command(
    found: tuple[dict[str, Any], Path], runs: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = found
    words = ["frontier", str(runs), "--judge", "ar", "--data", str(corpus), "--out", str(out), "--json"]
    for name, value in SMALL.items():
        words += [f"--{name}", json.dumps(value) if isinstance(value, list) else str(value)]
    main(words)
    assert json.loads(capsys.readouterr().out)["settings"]["judge"] == "ar"


POINT = Point(nll=0, nll_error=0.1, entropy=0, entropy_error=0.02, model="m", sampler="s", steps=8, temperature=1,
              passes=8, tokens_per_second=10)  # fmt: skip


def test_models_are_compared_at_equal_entropy() -> None:
    sweep = [replace(POINT, temperature=t, entropy=h, nll=n) for t, h, n in ((0.8, 2.0, 4.0), (1.0, 3.0, 6.0))]
    value, error = at_entropy(sweep, 2.25)
    assert value == 4.5
    assert error == pytest.approx(math.hypot(0.75 * 0.1, 0.25 * 0.1, 2 * 0.75 * 0.02, 2 * 0.25 * 0.02))
    falling = [*sweep, replace(POINT, temperature=1.2, entropy=2.0, nll=9.0)]
    assert at_entropy(falling, 2.5)[0] == 7.5, "the hottest crossing counts"
    assert at_entropy(sweep, 3.5) == (None, None) and at_entropy(sweep[:1], 2.0) == (None, None)


def test_the_pareto_front() -> None:
    assert pareto_front([(10, -5.0), (20, -6.0), (15, -6.5), (5, -5.5)]) == [True, True, False, False]
    ties = [(10, -5.0), (10, -5.0), (10, -5.5), (8, -5.0)]
    assert pareto_front(ties) == [True, True, False, False]


def test_entropy_within_a_text() -> None:
    assert entropy_of(torch.tensor([3, 3, 3, 3])) == 0
    assert entropy_of(torch.tensor([1, 2, 1, 2])) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"judge": "masked"}, "masked is no autoregressive model"),
        ({"judge": "nobody"}, "nobody"),
        ({"only": "nothing"}, r"no model in .* has 'nothing' in its name; it holds ar, masked, uniform"),
        ({"steps": []}, r"steps are \[\]"),
        ({"temperatures": [1.0, 1.0]}, r"temperatures are \[1.0, 1.0\]"),
        ({"texts": 1}, "texts is 1; it must be at least 2"),
        ({"texts": 10**6}, r"has \d+ texts of 16 tokens; 1000000 are asked"),
        ({"samplers": ["Best"]}, "sampler 'Best'"),
        ({"samplers": ["LeftToRight"], "only": "masked"}, "none of the samplers .* fits any of masked"),
        ({"length": 65, "texts": 2}, r"length is 65, and the context of ar 64"),
    ],
)
def test_what_cannot_be_measured(change: dict[str, Any], says: str, runs: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=says):
        frontier(runs, out=tmp_path / "out", **{"judge": "ar", "data": corpus, **SMALL, **change})


def test_a_folder_without_models(tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match="holds no model"):
        checkpoints(tmp_path)
    with pytest.raises(RemaskError, match="is no folder of runs"):
        checkpoints(tmp_path / "missing")
