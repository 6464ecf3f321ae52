"""Runs of one size that share their first steps."""

from pathlib import Path

import pytest

from remask.errors import RemaskError
from remask.scaling.plan.sharing import prefix, saved
from remask.scaling.plan.study import optimizer
from remask.scaling.planning import plan
from tests.scaling.made import SMALL


def test_budgets_that_share_have_sizes_in_common(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = plan(corpus, tmp_path / "study", ["Masked:ceiling=1"], share=True, **SMALL)  # type: ignore[arg-type]
    more = plan(corpus, tmp_path / "study", ["Masked:ceiling=1"], share=True, **SMALL | {"budgets": [3e14]})  # type: ignore[arg-type]
    assert more.runs[: len(made.runs)] == made.runs
    by_name = {run.name: run for run in more.runs}
    sharing = [run for run in more.runs if run.after is not None]
    assert len(sharing) >= 6 and all(run.schedule == "wsd" for run in more.runs)
    for run in sharing:
        before = by_name[str(run.after)]
        assert before.n == run.n and before.steps < run.steps and before.warmup == run.warmup
        assert 0 < optimizer(before).stable(before.steps) < 0.8 * before.steps
    spent = sum(run.flops_exact for run in more.runs)
    assert 0.05 * spent < saved(more.runs) < spent
    shared = sum(prefix(run) * run.flops_exact / run.steps for run in (by_name[str(one.after)] for one in sharing))
    assert saved(more.runs) == pytest.approx(shared)
    assert f"{saved(more.runs):.2e} of them are not spent" in capsys.readouterr().out


def test_a_curriculum_shares_nothing(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=r"Uniform:curriculum=0.5 changes its loss .* plan it without --share"):
        plan(corpus, tmp_path / "study", families=["Uniform:curriculum=0.5"], share=True, time=False)
    assert not (tmp_path / "study").exists()
