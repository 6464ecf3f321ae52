"""Studies that are run, and fitted."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from remask.cli import main
from remask.data.batches import Rows
from remask.data.tokens import open_tokens
from remask.errors import RemaskError
from remask.scaling.fit.source import read_source
from remask.scaling.plan.settings import Settings
from remask.scaling.plan.sharing import prefix
from remask.scaling.plan.study import Plan, Run
from remask.scaling.planning import parse_family
from remask.scaling.run.run import run
from remask.scaling.run.single import compiling, finished
from tests.scaling.made import LOSS, shared_study, small_study


@pytest.mark.slow
def test_a_study_with_a_failed_run_goes_on_and_is_fitted(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes at once: one run ends, the other is named and tried again, and is made where its plan is mended."""
    made = small_study(tmp_path / "study", corpus, sizes=[2.5e4])
    good, bad = made.runs[0], replace(made.runs[1], heads=7)
    replace(made, runs=(good, bad)).save(tmp_path / "study")
    with pytest.raises(RemaskError, match=re.escape(f"1 runs failed: {bad.name}")):
        run(tmp_path / "study", attempts=2, workers=2, accelerator="cpu")
    told = capsys.readouterr().err
    assert told.count(f"{bad.name} failed: architecture.heads 7 does not divide") == 2 and "once more" in told
    assert "0 of 2 runs are finished" in told and "1/2" in told and "nats a token" in told
    assert finished(tmp_path / "study", made, good) and not finished(tmp_path / "study", made, bad)
    made.save(tmp_path / "study")
    main(["scale", "run", str(tmp_path / "study"), "--only", bad.name, "--where", "here", "--accelerator", "cpu"])
    assert "0 of 1 runs are finished" in capsys.readouterr().err
    assert all(finished(tmp_path / "study", made, one) for one in made.runs)
    found = read_source(tmp_path / "study").families
    assert set(found) == {"Masked:objective=low_variance", "AR"}
    for label, points in found.items():
        planned = [one for one in made.runs if one.label == label]
        assert sorted(points.n) == [one.n for one in planned] and sorted(points.d) == sorted(x.tokens for x in planned)
        assert sorted(points.c) == pytest.approx(sorted(one.flops_6n for one in planned))
    table = read_source(tmp_path / "study" / "runs.csv").families
    for label, points in found.items():
        for what in ("n", "d", "c", "loss", "stderr", "unique"):
            assert sorted(getattr(table[label], what)) == sorted(getattr(points, what)), what
        assert set(points.unique) == {float(len(Rows(open_tokens(corpus).train, 32)) * 32)}
    main(["scale", "run", str(tmp_path / "study")])
    assert "2 of 2 runs are finished" in capsys.readouterr().err
    main(["scale", "fit", str(tmp_path / "study")])
    assert "1 runs are too few" in capsys.readouterr().out


@pytest.mark.parametrize("spec", ["Uniform", "Interpolating:alpha_0=0.5", "Masked:objective=count"])
def test_a_run_of_every_family_counts_as_it_was_planned(corpus: Path, tmp_path: Path, spec: str) -> None:
    """In this process: N without the time embedding, and D what is read, in the plan, the run and the table alike."""
    made = small_study(tmp_path / "study", corpus)
    prepared = open_tokens(corpus)
    one = Settings(prepared, "6ND", 32, 4, lambda shape, tokens: 1e-3).curve(
        spec, parse_family(spec), 3e8, [2.5e4], LOSS
    )[0]
    replace(made, runs=(one,)).save(tmp_path / "study")
    run(tmp_path / "study", where="here", accelerator="cpu")
    assert finished(tmp_path / "study", made, one)
    for source in (tmp_path / "study", tmp_path / "study" / "runs.csv"):
        (points,) = read_source(source).families.values()
        assert (points.n[0], points.d[0], points.c[0]) == (one.n, one.tokens, one.flops_6n)


def test_runs_that_share_their_first_steps_come_to_the_same(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that began with another's state has the weights it would have had by itself, to the bit."""
    short, long = shared_study(tmp_path / "study", corpus)
    assert (short.after, long.after) == (None, short.name) and short.warmup == long.warmup
    assert 0 < prefix(short) < short.steps < long.steps
    run(tmp_path / "study", where="here", accelerator="cpu")
    assert f"resumed at step {prefix(short):,}" in capsys.readouterr().err
    alone = Plan.load(tmp_path / "study")
    begun = tmp_path / "study" / "runs" / long.name / "run.json"
    assert json.loads(begun.read_text())["recipe"]["compile"] == "off", "as the one it comes after"
    begun.write_text(begun.read_text().replace('"compile": "off"', '"compile": "auto"'))
    assert compiling(tmp_path / "study", long) == "auto", "a run that has begun goes on as it did"
    replace(alone, runs=(replace(long, after=None),)).save(tmp_path / "alone")
    run(tmp_path / "alone", where="here", accelerator="cpu")
    assert "resumed" not in capsys.readouterr().err
    weights = [tmp_path / name / "runs" / long.name / "latest" / "model.safetensors" for name in ("study", "alone")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    steps = [
        [line.split(",")[0] for line in (weight.parents[1] / "metrics.csv").read_text().splitlines()]
        for weight in weights
    ]
    assert steps[0] == steps[1]


def test_what_cannot_be_run(corpus: Path, tmp_path: Path) -> None:
    made = small_study(tmp_path / "study", corpus)
    for options, says in (
        ({"workers": 0}, "workers is 0"),
        ({"only": "nothing"}, r"no run of .* has 'nothing' in its name; it holds Masked"),
    ):
        with pytest.raises(RemaskError, match=says):
            run(tmp_path / "study", **options)  # type: ignore[arg-type]
    replace(made, corpus="another").save(tmp_path / "study")
    with pytest.raises(RemaskError, match="holds another corpus than"):
        run(tmp_path / "study")
    one: Run = made.runs[0]
    with pytest.raises(RemaskError, match="names two runs"):
        replace(made, runs=(one, one))
    kept = json.loads((tmp_path / "study" / "plan.json").read_text())
    (tmp_path / "study" / "plan.json").write_text(json.dumps(kept | {"runs": kept["runs"][:1] * 2}))
    with pytest.raises(RemaskError, match="names two runs"):
        run(tmp_path / "study")
