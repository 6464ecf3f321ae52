"""What `remask scale fit` prints."""

import json
from pathlib import Path

import pytest

from remask.cli import main
from remask.scaling.fit.law import Surface
from tests.scaling.made import TRUTH, table, write


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
    assert "extrapolated beyond the budgets tried" in (tmp_path / "page" / "report.md").read_text()
