"""The recipe: ranges, its forms as data, and the recipes in configs/."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import remask
from remask.errors import RemaskError
from remask.model.sizes import SizeOverrides
from remask.training.distill import Distillation
from remask.training.optim import Budget, Optimizer
from remask.training.preference.run import Preferences
from remask.training.recipe import Recipe
from remask.training.reinforcement.run import Reinforcement

Fit = Callable[..., Path]
ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "configs").glob("**/*.yaml"))
SMALL = shlex.split("""
    --model tiny --architecture.layers 1 --architecture.width 32 --architecture.heads 4 --architecture.ffn 64
    --length 32 --batch 8 --accumulate 2 --budget.flops null --budget.tokens null --budget.minutes null
    --budget.steps 2 --precision fp32 --compile off --accelerator cpu --devices 1 --nodes 1 --validation_rows 4
""")


def leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield path + key, value


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_trains(corpus: Path, tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, but on a tiny corpus, network and budget. What is not overruled arrives in the run."""
    from remask.cli import main

    main(["train", "--config", str(recipe), "--data", str(corpus), "--out", str(tmp_path / "run"), *SMALL])
    assert remask.load(tmp_path / "run").about["step"] == 2
    text = recipe.read_text()
    assert "--config configs/" in text.split("\n\n")[0], "a recipe says at its top how it is run"
    found = dict(leaves(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())))
    overruled = {option.removeprefix("--") for option in SMALL if option.startswith("--")}
    for key, value in leaves(yaml.safe_load(text)):
        if key not in overruled:
            assert found[key] == value, key


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_a_possible_run(recipe: Path) -> None:
    """Sizes and budgets as they stand: the head width is even, the rows fit the context, one budget is given."""
    from dataclasses import replace

    from remask.model.sizes import size

    options = yaml.safe_load(recipe.read_text())
    shape = SizeOverrides(**options.get("architecture", {})).of(size(options.get("model", "tiny")))
    assert replace(shape, rows=32001, predicted=32000).parameters > 0
    assert options.get("length", 256) <= shape.context
    assert options.get("batch", 32) % options.get("accumulate", 1) == 0
    Budget(**options["budget"])
    Optimizer(**options.get("optimizer", {}))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"length": 65, "architecture": SizeOverrides(layers=1, context=64)},
            "beyond the architecture.context of 64: give --length 64 or less, or --architecture.context 65",
        ),
        ({"batch": 9, "accumulate": 2}, "batch is 9, which does not divide over 1 processes x 2 micro-batches"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": 10**20}, "batch is 100000000000000000000; it must be at most 1048576"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"length": 0}, "length is 0"),
        (
            {"length": 10**6, "architecture": SizeOverrides(context=10**6)},
            "row length of 1000000 is longer than the 25",
        ),
        ({"model": "tinny"}, "unknown model size 'tinny'.*Did you mean 'tiny'"),
        ({"random_length": 1.5}, "random_length is 1.5; it must lie between 0 and 1"),
        ({"log_every": 0}, "log_every is 0"),
        ({"save_every": -1}, "save_every is -1"),
        ({"validate_every": -1, "validation_rows": 4}, "validate_every is -1"),
        ({"ema": 1.5}, "ema is 1.5"),
        ({"seed": -1}, "seed is -1"),
        ({"budget": Budget()}, "give a budget"),
        ({"budget": Budget(tokens=511)}, "less than one step"),
        ({"data": Path("nowhere")}, "no prepared corpus at 'nowhere'"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, dict) else "",
)
def test_wrong_options(fit: Fit, tmp_path: Path, options: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        fit(tmp_path / "run", **options)
    assert not (tmp_path / "run" / "run.json").exists()


SHARED = {
    "model", "budget", "optimizer", "length", "batch", "accumulate", "ema", "precision", "seed", "save_every",
    "log_every", "devices", "nodes", "accelerator",
}  # fmt: skip
"""The options of every training in config.yaml, of earlier versions too."""
OF_CORPORA = {"data", "random_length", "compile", "validation_rows", "left_to_right_rows", "validate_every"}


def test_paths_may_be_text(corpus: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"data": str(corpus), "out": str(tmp_path)}
    recipe = Recipe(**given)
    assert recipe.data == corpus and recipe.out == tmp_path and recipe == Recipe(data=corpus, out=tmp_path)


def test_options_of_each_kind_of_training() -> None:
    """Each has those that it honours, under the names by which earlier runs have kept them; required ones come first,
    so that they are at the top of the help."""
    distillation = Distillation(model="runs/duo", data=Path("data"), out=Path("out")).to_dict()
    assert distillation.keys() == SHARED | OF_CORPORA | {"distillation"}
    reinforcement = Reinforcement(model="runs/first", out=Path("out"), tasks=["Sort"]).to_dict()
    assert reinforcement.keys() == SHARED | {"tasks", "objective", "lora"}
    preferences = Preferences(model="runs/first", data=Path("data"), out=Path("out")).to_dict()
    assert preferences.keys() == SHARED | {"data", "objective", "sft", "adversarial", "lora", "validation_pairs"}
    recipe = remask.Recipe(data=Path("data"), out=Path("out")).to_dict()
    assert recipe.keys() == SHARED | OF_CORPORA | {
        "family", "architecture", "conversion", "adversarial", "sft", "lora", "initialisation", "strategy"
    }  # fmt: skip
    assert [list(one)[:2] for one in (recipe, distillation, reinforcement, preferences)] == [
        ["data", "family"],
        ["model", "data"],
        ["model", "tasks"],
        ["model", "data"],
    ]
