"""An analysis as plain data."""

from pathlib import Path

import pytest

from remask.scaling.fit.document import to_6nd
from remask.scaling.fit.source import read_source
from tests.scaling.made import TRUTH, runs, table, write


def test_a_target_is_counted_as_the_runs_are(tmp_path: Path) -> None:
    """The head and attention cost small networks more: at ten times the compute they are less of it."""

    def exact(n: float, d: float) -> float:
        return 6 * n * d * (1 + 40 * n**-0.3)

    rows = [{**row, "C": exact(row["N"], row["D"])} for row in table()]
    (points,) = read_source(write(tmp_path / "runs.csv", rows)).families.values()
    n, d, _ = TRUTH.best(1e22)
    assert to_6nd(points, TRUTH, exact(n, d)) == pytest.approx(1e22, rel=1e-3)
    assert to_6nd(runs(), TRUTH, 1e22) == 1e22
