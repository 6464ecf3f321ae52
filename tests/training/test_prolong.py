"""Runs that are given another budget than they had."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from killing import same, weights
from runs import Stopping, assert_same_run, column, stopped_at

from remask.errors import RemaskError
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.training.optim import Budget, Optimizer
from remask.training.states import list_states, stable_state

Fit = Callable[..., Path]
WSD = Optimizer(schedule="wsd", warmup=4, decay=0.25)
EVEN = Masked(ceiling=1.0)
"""Without a ceiling on mask rates, which would follow the length of the run."""


@pytest.mark.parametrize("more", [{}, {"ema": 0.9, "accumulate": 2, "validation_rows": 4}], ids=["plain", "everything"])
def test_a_finished_run_goes_on_as_if_it_had_been_longer_from_the_start(fit: Fit, tmp_path: Path, more: dict) -> None:
    options: dict[str, Any] = {
        "optimizer": WSD,
        "family": EVEN,
        "save_every": 5,
        "log_every": 1,
        "validate_every": 7,
        **more,
    }
    fit(tmp_path / "whole", steps=40, **options)
    for steps in (20, 30, 40):
        fit(tmp_path / "parts", steps=steps, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    for name in ("step", "loss", "lr", "gradient_norm"):
        assert column(tmp_path / "parts", name) == column(tmp_path / "whole", name)
    kept = sorted(path.name for path in (tmp_path / "parts" / "checkpoints").iterdir())
    assert kept == ["stable-00000029.ckpt", "step-00000035.ckpt", "step-00000040.ckpt"]


def test_a_budget_of_another_kind(fit: Fit, tmp_path: Path) -> None:
    """As many steps, given in tokens: nothing happens. More: the run goes on."""
    fit(tmp_path, steps=20, optimizer=WSD, family=EVEN)
    before = weights(tmp_path)
    fit(tmp_path, budget=Budget(tokens=20 * 8 * 64), optimizer=WSD, family=EVEN)
    assert same(before, weights(tmp_path))
    fit(tmp_path, budget=Budget(tokens=24 * 8 * 64), optimizer=WSD, family=EVEN)
    assert column(tmp_path, "step")[-1] == 24 and list_states(tmp_path)[0].name == "step-00000024.ckpt"


def test_the_warm_up_that_a_run_has_had_stays(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default it is a tenth of a short run, which was over before anybody knew that the run would be longer."""
    short, long = Optimizer(schedule="wsd"), Optimizer(schedule="wsd", warmup=2)
    fit(tmp_path / "parts", steps=20, optimizer=short, family=EVEN)
    fit(tmp_path / "parts", steps=40, optimizer=short, family=EVEN)
    assert "the warm-up of 2 steps stays as it was; a run of 40 steps has 4 by default" in capsys.readouterr().err
    fit(tmp_path / "whole", steps=40, optimizer=long, family=EVEN)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    fit(tmp_path / "parts", steps=40, optimizer=short, family=EVEN)
    fit(tmp_path / "parts", steps=40, optimizer=long, family=EVEN)
    assert capsys.readouterr().err.count("is complete: 40 steps") == 2


def test_a_run_that_was_stopped_before_its_decay_takes_any_budget(fit: Fit, tmp_path: Path) -> None:
    options: dict[str, Any] = {"optimizer": WSD, "family": Stopping(ceiling=1.0)}
    fit(tmp_path / "whole", steps=16, **options)
    with stopped_at(9):
        fit(tmp_path / "parts", steps=40, **options)
    fit(tmp_path / "parts", steps=16, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("more", "steps", "says"),
    [
        (
            {},
            30,
            "20 steps, of which 20 are done; it cannot become one of 30 steps: its learning rate follows a cosine",
        ),
        (
            {"optimizer": WSD, "family": EVEN},
            15,
            "of which 20 are done; the budget is now less than that, 15 steps. Choose another",
        ),
        ({"optimizer": WSD, "family": Uniform(curriculum=0.5)}, 30, "its loss changes with the share of the training"),
        ({"optimizer": WSD}, 30, "interpolating run with --family.ceiling 1, whose mask rates do not"),
        (
            {"optimizer": WSD, "family": EVEN, "batch": 16},
            30,
            "--budget.steps 20 there, 30 now; --batch 8 there, 16 now",
        ),
    ],
    ids=["cosine", "less", "curriculum", "ceiling", "another batch"],
)
def test_budgets_that_share_nothing(fit: Fit, tmp_path: Path, more: dict, steps: int, says: str) -> None:
    first = {name: value for name, value in more.items() if name != "batch"}
    fit(tmp_path, steps=20, **first)
    before = weights(tmp_path), sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    with pytest.raises(RemaskError) as error:
        fit(tmp_path, steps=steps, **more)
    assert says in str(error.value) and "Choose another --out" in str(error.value)
    assert same(before[0], weights(tmp_path))
    assert before[1] == sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    fit(tmp_path, steps=20, **first)  # as before: complete


def test_without_the_state_from_before_the_decay(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where it is damaged or gone the decayed ones stay."""
    fit(tmp_path, steps=20, optimizer=WSD, family=EVEN, save_every=20)
    stable_state(tmp_path, 14).write_bytes(b"")
    with pytest.raises(RemaskError, match="no state from before its decay, step 14 or earlier, was kept"):
        fit(tmp_path, steps=30, optimizer=WSD, family=EVEN, save_every=20)
    assert "stable-00000014.ckpt is damaged" in capsys.readouterr().err
    fit(tmp_path, steps=20, optimizer=WSD, family=EVEN, save_every=20)
    assert "is complete: 20 steps" in capsys.readouterr().err
