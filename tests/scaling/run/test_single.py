"""One run of a study."""

from pathlib import Path

from remask.scaling.run.single import command
from tests.scaling.made import small_study


def test_commands_say_what_the_options_say(corpus: Path, tmp_path: Path) -> None:
    made = small_study(tmp_path / "study", corpus)
    words = command(tmp_path / "study", made, made.runs[0], 1, "cpu")
    assert words[1:6] == ["-m", "remask", "train", "--data", str(corpus)]
    for option, value in (("--family", "Masked"), ("--family.objective", "low_variance"), ("--budget.steps", None)):
        assert words[words.index(option) + 1] == (value or str(made.runs[0].steps))
