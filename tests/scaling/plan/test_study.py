"""Plans that are damaged."""

from pathlib import Path

import pytest

from remask.errors import RemaskError
from remask.scaling.plan.study import Plan


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=r"holds no plan\.json: make one with `remask scale plan"):
        Plan.load(tmp_path)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(RemaskError, match=r"plan\.json is damaged"):
        Plan.load(tmp_path)
