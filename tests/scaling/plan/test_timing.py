"""How long a step takes, predicted."""

from dataclasses import replace
from pathlib import Path

import pytest

from remask.data.tokens import open_tokens
from remask.families import Family
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.model.sizes import Architecture
from remask.scaling.plan.ladder import nearest_size
from remask.scaling.plan.study import Run
from remask.scaling.plan.timing import LARGEST, Speeds, measure
from remask.scaling.planning import plan
from tests.scaling.made import SMALL


def test_hours_are_predicted_from_a_short_timing(corpus: Path, tmp_path: Path) -> None:
    made = plan(corpus, tmp_path / "s", ["Masked"], **{**SMALL, "time": True, "budgets": [1e14]})  # type: ignore[arg-type]
    hours = [run.hours / run.steps for run in made.runs if run.hours is not None]
    assert len(hours) == len(made.runs) and min(hours) > 0
    again = measure(Masked().over(open_tokens(corpus).tokenizer.vocabulary), shape_of(made.runs[0], corpus), 4) / 3600
    assert 0.05 < hours[0] / again < 20, "a step's time, however busy the machine"


@pytest.mark.parametrize("made", [Masked(), Uniform()])
def test_networks_too_large_to_be_timed_are_as_fast_for_each_flop(corpus: Path, made: Family) -> None:
    vocabulary = open_tokens(corpus).tokenizer.vocabulary
    family = made.over(vocabulary)
    sizes = {"rows": vocabulary.size, "predicted": vocabulary.predicted, "context": 8, "time": made.time == "required"}
    speeds, largest, beyond = (
        Speeds(8, 1),
        replace(nearest_size(LARGEST), **sizes),
        replace(nearest_size(5e10), **sizes),
    )
    ratio = family.flops(beyond, 8) / family.flops(largest, 8)
    for _ in range(2):
        speeds.seconds(family, largest)
    assert speeds.seconds(family, beyond) == pytest.approx(ratio * speeds.seconds(family, largest))


def shape_of(run: Run, corpus: Path) -> Architecture:
    """The network of a run."""
    vocabulary, shape = open_tokens(corpus).tokenizer.vocabulary, nearest_size(run.n)
    return replace(shape, rows=vocabulary.size, predicted=vocabulary.predicted, context=32)
