"""The page of `remask scale report`."""

from pathlib import Path

import pytest

from remask.cli import main
from remask.scaling.fit.law import Surface
from tests.scaling.made import TRUTH, table, write


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
