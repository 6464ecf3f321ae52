"""One run of a study."""

from pathlib import Path

import yaml

from remask.scaling.run.single import recipe
from remask.training.process import training_command
from tests.scaling.made import small_study


def test_a_command_trains_by_a_recipe_file(corpus: Path, tmp_path: Path) -> None:
    made = small_study(tmp_path / "study", corpus)
    one = made.runs[0]
    words = training_command(recipe(tmp_path / "study", made, one, 1, "cpu"))
    folder = tmp_path / "study" / "runs" / one.name
    assert words[1:] == ["-m", "remask", "train", "--config", str(folder / "recipe.yaml"), "--out", str(folder)]
    kept = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert kept == recipe(tmp_path / "study", made, one, 1, "cpu").to_dict()
    assert kept["data"] == str(corpus) and kept["budget"]["steps"] == one.steps
    assert kept["family"]["init_args"]["objective"] == "low_variance"
