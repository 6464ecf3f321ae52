"""Plans: sizes around the best one, FLOPs by both conventions, and finished runs that move the next budget."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from remask.cli import main
from remask.data.tokens import open_tokens
from remask.errors import RemaskError
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.scaling.fit.law import Surface
from remask.scaling.fit.published import CHINCHILLA_CORRECTED, QUOKKA
from remask.scaling.plan.ladder import ladder
from remask.scaling.plan.settings import Settings
from remask.scaling.plan.study import Plan
from remask.scaling.planning import Planner, parse_family, plan
from tests.scaling.made import SMALL


@pytest.mark.parametrize("convention", ["6ND", "exact"])
def test_runs_spend_their_budget(corpus: Path, tmp_path: Path, convention: str) -> None:
    families = ["Autoregressive", "Masked:objective=low_variance", "Interpolating:alpha_0=0.5"]
    how = {"optimizer": "adamw", "convolution": 0, "rule": "kaplan"} if convention == "6ND" else {}
    made = plan(corpus, tmp_path / "study", families, flops=convention, **SMALL, **how)  # type: ignore[arg-type]
    assert len(made.runs) == 3 * 2 * 5 and len({run.name for run in made.runs}) == 30
    for run in made.runs:
        spent = run.flops_6n if convention == "6ND" else run.flops_exact
        each = spent / run.steps
        assert run.budget - each <= spent <= run.budget
        assert run.tokens == run.steps * 4 * 32
        assert run.epochs == pytest.approx(run.tokens / open_tokens(corpus).manifest["train"]["tokens"])
        reads = 1.5 if run.label.startswith("Inter") else 1.0
        assert run.flops_6n == pytest.approx(6 * run.n * run.tokens * reads)
        wanted = 0.003239 - 0.0001395 * np.log(run.n) if how else 2e-2 * (128 / run.width * 4 * 32 / 4096) ** 0.5
        assert run.lr == pytest.approx(min(2e-2, wanted)) and run.hours is None
        assert (run.optimizer, run.convolution) == (("adamw", 0) if how else ("muon", 5))
    for label, law in zip(families, (CHINCHILLA_CORRECTED, QUOKKA, QUOKKA), strict=True):
        sizes = [run.n for run in made.runs if run.label == label and run.budget == 1e14]
        best = law.best(1e14)[0]
        assert sizes == sorted(sizes) and sizes[0] < best < sizes[-1]
        assert sizes[2] == pytest.approx(best, rel=0.35)


def test_a_study_of_repeated_data(corpus: Path, tmp_path: Path) -> None:
    options = {**SMALL, "epochs": [4, 1, 16], "parameters": [5e4, 2e5], "share": True}
    made = plan(corpus, tmp_path / "study", ["Autoregressive"], **options)  # type: ignore[arg-type]
    assert len({run.n for run in made.runs}) == 2 and len(made.runs) == 6
    for run, epochs in zip(made.runs, [1, 4, 16] * 2, strict=True):
        assert run.epochs == pytest.approx(epochs, rel=0.01) and f"-{epochs}x-{run.n}" in run.name
        assert run.flops_6n == run.budget == 6 * run.n * run.tokens
        fresh = float(CHINCHILLA_CORRECTED(run.n, run.tokens))
        assert run.loss == pytest.approx(fresh, rel=1e-3) if epochs == 1 else run.loss > fresh
    assert [run.after is not None for run in made.runs] == [False, True, True] * 2
    again = plan(corpus, tmp_path / "study", ["Autoregressive"], **options | {"epochs": [2, 4]})  # type: ignore[arg-type]
    assert again.runs[:6] == made.runs and [round(run.epochs) for run in again.runs[6:]] == [2, 2]
    for change, says in (({"parameters": []}, "needs both"), ({"epochs": [0.0]}, r"epochs are \[0.0\]")):
        with pytest.raises(RemaskError, match=says):
            plan(corpus, tmp_path / "other", ["Autoregressive"], **options | change)  # type: ignore[arg-type]
    with pytest.raises(RemaskError, match="less than one step"):
        plan(corpus, tmp_path / "other", ["Autoregressive"], **options | {"epochs": [1e-4]})  # type: ignore[arg-type]


def test_a_plan_is_kept_added_to_and_read_again(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    options = ["--data", str(corpus), "--out", str(out), "--length", "32", "--batch", "4", "--no-time"]
    main(["scale", "plan", *options, "--families", '["Masked"]', "--budgets", "[3e13]"])
    text = capsys.readouterr().out
    assert "5 runs on" in text and "counted as 6ND" in text and "FLOPs in all" in text
    first = Plan.load(out)
    main(["scale", "plan", *options, "--families", '["Masked","Autoregressive"]', "--budgets", "[3e13,1e14]", "--json"])
    found = json.loads(capsys.readouterr().out)
    second = Plan.load(out)
    assert len(found["runs"]) == len(second.runs) == 20
    assert [run.name for run in second.runs][:5] == [run.name for run in first.runs]
    with pytest.raises(RemaskError, match="is another study: "):
        plan(corpus, out, flops="exact", **SMALL)  # type: ignore[arg-type]


def test_runs_planned_with_other_defaults_are_told_apart(corpus: Path, tmp_path: Path) -> None:
    """A family that is named by its label alone must be what it was when the study began."""
    out = tmp_path / "study"
    first = plan(corpus, out, **SMALL)  # type: ignore[arg-type]
    (label,) = {run.label for run in first.runs if run.family["name"] == "Masked"}
    older = [replace(r, family=r.family | {"bell": 0.0}) if r.label == label else r for r in first.runs]
    replace(first, runs=tuple(older)).save(out)
    with pytest.raises(RemaskError, match=f"has runs of {label} with bell=0.0, which is no default any more"):
        plan(corpus, out, **SMALL)  # type: ignore[arg-type]


def finished(folder: Path, runs, law: Surface) -> None:
    """Run directories as training leaves them, of a family with a known law."""
    for run in runs:
        latest = folder / "runs" / run.name / "latest"
        latest.mkdir(parents=True)
        loss = float(law(run.n, run.tokens))
        valid = {"nats": loss * 1000, "tokens": 1000, "stderr": 0.0}
        about = {"step": run.steps, "steps": run.steps, "tokens_a_step": 128, "validation": valid}
        about |= {"parameters": run.n, "reads": 1.0, "unique_tokens": 10**9}
        (latest / "config.json").write_text(json.dumps({"family": run.family, "about": about}))


def best_size(folder: Path, plan: Plan, c: float) -> float:
    """Where the next sizes of a masked family would stand around."""
    settings = Settings(None, "6ND", 32, 4, lambda shape, tokens: 1e-3)  # type: ignore[arg-type]
    return Planner(folder, plan, settings, 5, 2.0, False).best_size("Masked", QUOKKA, c)


def test_what_was_measured_moves_the_next_budget(corpus: Path, tmp_path: Path) -> None:
    """A family whose best size is three times that of the law it was planned with."""
    out = tmp_path / "study"
    truth = Surface(QUOKKA.e, QUOKKA.a * 3 ** (QUOKKA.alpha + QUOKKA.beta), QUOKKA.b, QUOKKA.alpha, QUOKKA.beta)
    options = {**SMALL, "spread": 3.0}
    first = plan(corpus, out, ["Masked"], **{**options, "budgets": [1e14]})  # type: ignore[arg-type]
    assert best_size(out, first, 1e15) == pytest.approx(QUOKKA.best(1e15)[0])
    finished(out, first.runs, truth)
    moved = best_size(out, first, 1e15)
    assert moved == pytest.approx(truth.best(1e15)[0], rel=0.25) and moved > 2 * QUOKKA.best(1e15)[0]
    second = plan(corpus, out, ["Masked"], **{**options, "budgets": [1e14, 1e15]})  # type: ignore[arg-type]
    middle = [run for run in second.runs if run.budget == 1e15][2]
    assert middle.n == pytest.approx(moved, rel=0.3)
    assert [run.name for run in second.runs][:5] == [run.name for run in first.runs], "what is planned stays"


def test_a_budget_that_falls_to_one_side_gets_more_sizes(corpus: Path, tmp_path: Path) -> None:
    out, small = tmp_path / "study", {**SMALL, "budgets": [1e14]}
    first = plan(corpus, out, ["Masked"], **small)  # type: ignore[arg-type]
    assert plan(corpus, out, ["Masked"], **small).runs == first.runs, "nothing is known yet"  # type: ignore[arg-type]
    sizes = [run.n for run in first.runs]
    best = sizes[-1] * 2.0  # where N and D of least loss are
    d = 1e14 / 6 / best
    finished(out, first.runs, Surface(1.0, 10.0 * best**0.3, 10.0 * d**0.3, 0.3, 0.3))
    moved = best_size(out, first, 1e15)
    assert moved == pytest.approx(sizes[-1] * 10**QUOKKA.size_exponent, rel=0.01), "the best tried is the best known"
    begun = replace(first.runs[0], name="begun", budget=1e15, steps=first.runs[0].steps * 10)
    finished(out, [begun], Surface(1.0, 10.0 * best**0.3, 10.0 * d**0.3, 0.3, 0.3))
    both = replace(first, runs=(*first.runs, begun))
    assert best_size(out, both, 1e15) == moved, "one run of a budget says nothing"
    more = plan(corpus, out, ["Masked"], **small).runs[5:]  # type: ignore[arg-type]
    assert [run.n / sizes[-1] for run in more] == pytest.approx([2, 4], rel=0.2)
    finished(out, more, Surface(1.0, 10.0 * best**0.3, 10.0 * d**0.3, 0.3, 0.3))
    assert len(plan(corpus, out, ["Masked"], **small).runs) == 7, "bracketed now"  # type: ignore[arg-type]


def test_the_smallest_budgets_have_all_their_sizes(corpus: Path, tmp_path: Path) -> None:
    """Around a best size that no network is as small as."""
    made = plan(corpus, tmp_path / "s", ["Masked"], **SMALL | {"budgets": [3e8], "spread": 1.7})  # type: ignore[arg-type]
    smallest = replace(ladder()[0], convolution=5)
    assert QUOKKA.best(3e8)[0] < smallest.non_embedding == made.runs[0].n and len(made.runs) == 5


def test_families_are_spelled_with_options() -> None:
    assert parse_family("Masked:objective=low_variance") == Masked(objective="low_variance")
    assert parse_family("Interpolating:alpha_0=0.25,variant=A") == Interpolating(alpha_0=0.25, variant="A")
    with pytest.raises(RemaskError, match="unknown family 'Maskd'"):
        parse_family("Maskd")
    with pytest.raises(RemaskError, match="unknown option of Masked 'alpha'"):
        parse_family("Masked:alpha=1")
    with pytest.raises(RemaskError, match="alpha_0 is 'x'; it must be a number"):
        parse_family("Interpolating:alpha_0=x")


@pytest.mark.parametrize(
    ("options", "says"),
    [({"batch": 10**9}, "FLOPs is less than one step of 1000000000 rows"),
     ({"budgets": []}, r"budgets are \[\]"),
     ({"budgets": [1e13, 1e13]}, "all different"), ({"budgets": [1e40]}, "is not on the ladder"),
         ({"budgets": [1e5]}, "less than one step of 4 rows .* of a network of 10,480 parameters"),
     ({"families": []}, "families is empty"), ({"length": 10**6}, r"split of .* less than a row of 1000000"),
     ({"sizes": 2}, "sizes is 2; it must be at least 3"),
     ({"spread": 1.0}, "spread is 1.0"), ({"law": "mine"}, "unknown law 'mine'. Known: chinchilla")],
)  # fmt: skip
def test_plans_that_cannot_be(corpus: Path, tmp_path: Path, options: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        plan(corpus, tmp_path / "study", **{**SMALL, **options})
    assert not (tmp_path / "study").exists()
