"""An analysis as plain data."""

from pathlib import Path

import numpy as np
import pytest

from remask.scaling.fit.analysis import Analysis, influential, summarise
from remask.scaling.fit.document import describe, to_6nd
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


def test_the_largest_residual_is_named() -> None:
    points = runs(noise=0.004, seed=1)
    points.loss[17] += 0.2
    found = describe(Analysis({"": summarise(points, draws=20)}, []))["families"][""]
    assert found["surface"]["largest_residual_run"] == points.names[17]


def test_a_run_that_carries_an_exponent_is_listed() -> None:
    """The smallest network's loss is off; runs that scatter alike, or not at all, are not listed."""
    points = runs(noise=0.002, seed=1).take(np.arange(0, 49, 2))
    even = summarise(points, draws=0)
    assert influential(even) == [] == influential(summarise(runs().take(np.arange(0, 49, 2)), draws=0))
    assert even.surface is not None
    points.loss[0] += 0.1
    found = influential(summarise(points, draws=0))
    assert [(one["run"], one["exponent"]) for one in found] == [("row 1", "alpha"), ("row 1", "size_exponent")]
    for one in found:
        true = getattr(even.surface.law, one["exponent"])
        assert one["without"] == pytest.approx(true, abs=0.005) and abs(one["value"] - true) > 0.015
