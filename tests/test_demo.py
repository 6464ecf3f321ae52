"""The three trainings of the demonstration, in miniature and one after another."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import remask
from remask.demo import LEAST, convert, planned, settings, train_twin
from remask.errors import RemaskError
from remask.model.sizes import SizeOverrides
from remask.training.optim import Budget
from remask.training.recipe import Recipe
from remask.training.run import train


def masked(corpus: Path, out: Path, steps: int) -> Recipe:
    """The recipe of the masked model, much smaller than that of the demonstration."""
    return Recipe(
        data=corpus, out=out / "masked", architecture=SizeOverrides(layers=2, width=32, heads=2, ffn=64), length=64,
        batch=8, precision="fp32", compile="off", accelerator="cpu", budget=Budget(steps=steps), validation_rows=4,
    )  # fmt: skip


def test_three_models_at_equal_flops(corpus: Path, tmp_path: Path) -> None:
    recipe = masked(corpus, tmp_path, 21)
    twin, converted = train_twin(recipe), convert(recipe)
    assert next(twin) is None and next(converted) is None, "the steps of the first are not known yet"
    train(recipe)
    for one in twin:
        assert one is not None
        train(one)
    assert next(twin, "done") == "done"
    last = next(converted)
    assert last is not None
    train(replace(last, architecture=SizeOverrides()))  # that of a checkpoint is what it is
    about = {name: remask.load(tmp_path / name).about for name in ("masked", "autoregressive", "half", "converted")}
    assert [about[name]["steps"] for name in about] == [21, 21, 10, 11]
    spent = {name: one["flops_6n"] + one.get("flops_6n_before", 0) for name, one in about.items()}
    assert spent["masked"] == spent["autoregressive"] == pytest.approx(spent["converted"])
    again = [one.budget.steps for one in train_twin(recipe) if one is not None]
    assert again == [21], "what was finished is not done again"


def test_a_run_by_another_recipe_is_not_taken_for_the_first(corpus: Path, tmp_path: Path) -> None:
    train(masked(corpus, tmp_path, 8))
    assert planned(masked(corpus, tmp_path, 8)) is not None
    assert planned(masked(corpus, tmp_path, 9)) is None and next(train_twin(masked(corpus, tmp_path, 9))) is None


def test_too_few_steps_are_named(corpus: Path, tmp_path: Path) -> None:
    recipe = masked(corpus, tmp_path, LEAST - 1)
    train(recipe)
    assert json.loads((recipe.out / "run.json").read_text())["plan"]["steps"] == LEAST - 1
    with pytest.raises(RemaskError, match="time for 7 steps only, and it needs 8: give more minutes"):
        next(train_twin(recipe))


def test_what_was_decided_once_stays(tmp_path: Path) -> None:
    """How fast the compiler is, is timed; a demo that goes on must not be another one for that."""
    first = settings(tmp_path, 5.0, beside=True, compiling=lambda: 10.0)
    assert first["compile"] == "on" and first["first"] == pytest.approx((300 - 25 - 20) * 0.615 / 60)
    assert settings(tmp_path, 5.0, beside=True, compiling=lambda: 100.0) == first
    other = settings(tmp_path, 4.0, beside=True, compiling=lambda: 100.0)
    assert other["compile"] == "off" and other["first"] == pytest.approx((240 - 25) * 0.615 / 60)
    (tmp_path / "settings.json").write_text("[]")
    assert settings(tmp_path, 4.0, beside=False, compiling=lambda: 100.0)["compile"] == "off"
