"""Where runs come from: tables that cannot be used, and folders of run directories."""

from pathlib import Path

import pytest

from remask.errors import RemaskError
from remask.scaling.fit.source import read_source
from tests.scaling.made import write


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
        read_source(write(tmp_path / "runs.csv", rows))


def test_run_directories_are_read(masked_run: Path, autoregressive_run: Path, tmp_path: Path) -> None:
    for run in (masked_run, autoregressive_run):
        (tmp_path / run.name).symlink_to(run)
    found = read_source(tmp_path).families
    assert set(found) == {"Masked", "Autoregressive"}
    masked, ar = found["Masked"], found["Autoregressive"]
    assert masked.names == ("masked",) and masked.d[0] == 80 * 8 * 64 and masked.c[0] == 6 * masked.n[0] * masked.d[0]
    assert masked.stderr[0] > 0 == ar.stderr[0] and 0 < ar.loss[0] < masked.loss[0] + 1
