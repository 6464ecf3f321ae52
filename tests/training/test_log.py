"""metrics.csv."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from runs import Stopping, column, stopped_at

Fit = Callable[..., Path]


def test_a_resumed_log_is_that_of_the_unbroken_run(fit: Fit, tmp_path: Path) -> None:
    """Stopped past the half, at a step that is not logged; and right at one that is."""
    options: dict[str, Any] = {"steps": 40, "log_every": 10, "family": Stopping(), "save_every": 5}
    fit(tmp_path / "whole", **options)
    for at in (26, 30):
        out = tmp_path / f"at{at}"
        with stopped_at(at):
            fit(out, **options)
        fit(out, **options)
        for name in ("step", "loss", "lr", "gradient_norm", "skipped"):
            assert column(out, name) == column(tmp_path / "whole", name), (at, name)
