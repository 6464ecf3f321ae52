"""Runs as arrays: which belong to one budget, and which have diverged."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from remask.cli import main
from remask.scaling.fit.points import Points, budgets, find_diverged
from tests.scaling.made import runs, table, write


def test_runs_belong_to_the_budget_they_were_planned_for() -> None:
    """Steps are whole, and families may read twice: compute alone would join these."""
    rows = [{"n": n, "d": c / 6 / n, "loss": 3.0} for c in (1e15, 1.1e15) for n in (1e6, 2e6, 4e6)]
    points = Points.of_rows(rows)
    planned = replace(points, planned=np.repeat([1e15, 1.3e15], 3))
    assert [sorted(group.tolist()) for group in budgets(points)] == [[0, 1, 2, 3, 4, 5]]
    assert [sorted(group.tolist()) for group in budgets(planned)] == [[0, 1, 2], [3, 4, 5]]


def test_diverged_runs_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = table()
    rows[40]["loss"] = 9.0
    rows[44]["loss"] = "nan"
    main(["scale", "fit", str(write(tmp_path / "runs.csv", rows)), "--draws", "5"])
    assert re.search(r"left out, as diverged \(.*\): x40, x44", capsys.readouterr().out)
    assert not find_diverged(runs(noise=0.01)).any()
    large = Points.of_rows([{"n": 1e5, "d": 1e8, "loss": 3.0}, {"n": 1e8, "d": 1e6, "loss": 4.5}])
    assert not find_diverged(large).any(), "too large for its tokens, not diverged"
    again = [{"n": 1e6, "d": 1e6 * e, "unique": 1e6, "loss": x} for e, x in ((1, 4.0), (4, 5.1), (64, 6.0))]
    assert find_diverged(Points.of_rows(again)).tolist() == [False, True, False]


def test_a_corpus_that_is_not_read_to_its_end() -> None:
    points = Points.of_rows([{"n": 1e6, "d": 3e6, "unique": 1e7, "loss": 2.0}])
    assert points.seen == 3e6 and points.epochs == 1
