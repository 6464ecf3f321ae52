"""Pictures for reports: the loss over the training, and by mask rate."""

import csv
import json
import math
from pathlib import Path

from remask.likelihood.levels import LossByLevel, middles


def loss_curves(runs: dict[str, Path], path: Path) -> None:
    """Validation bits per byte of several runs against their training FLOPs, with error bars.

    The FLOPs of a run that started from a checkpoint begin with those of the checkpoint.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, run), marker in zip(runs.items(), "os^vD" * len(runs), strict=False):
        rows = [r for r in _metrics(run) if r["valid_bits_per_byte"]]
        before = json.loads((run / "run.json").read_text())["plan"].get("flops_6n_before", 0.0)
        kind = "bound" if rows and rows[-1]["valid_kind"] == "bound" else "exact"
        axes.errorbar(
            [before + float(r["flops_6n"]) for r in rows],
            [float(r["valid_bits_per_byte"]) for r in rows],
            yerr=[float(r["valid_stderr"]) for r in rows],
            marker=marker,
            markersize=4,
            capsize=2,
            label=f"{name} ({kind})",
        )
    axes.set(xlabel="training FLOPs (6 N D)", ylabel="validation bits per byte")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def reward_curve(runs: dict[str, Path], path: Path) -> None:
    """Mean reward of the texts of several runs of `remask reinforce` against the step, with its standard error.

    A point is a row of metrics.csv: the mean of the steps since the row before. The error is that between prompts, and
    there is none where a step has only one.
    """
    from matplotlib.figure import Figure

    from remask.training.reinforcement.objective import objective_of

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for name, run in runs.items():
        recipe = json.loads((run / "run.json").read_text())["recipe"]
        rows = [r for r in _metrics(run) if r["reward"] and r["reward"] != "nan"]
        steps, means, spread = ([float(r[key]) for r in rows] for key in ("step", "reward", "reward_spread"))
        since = [now - before for before, now in zip([0.0, *steps], steps, strict=False)]
        prompts = recipe["batch"] // objective_of(recipe["objective"]).group
        errors = [s / math.sqrt(max(1.0, n * prompts)) for s, n in zip(spread, since, strict=True)]
        (line,) = axes.plot(steps, means, label=f"{name} ({recipe['objective']})")
        low, high = ([m + sign * e for m, e in zip(means, errors, strict=True)] for sign in (-1, 1))
        axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.25, linewidth=0)
    axes.set(xlabel="step", ylabel="mean reward")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def loss_by_level(losses: dict[str, LossByLevel], path: Path) -> None:
    """Nats of a masked token against the share of the text that is masked, for several models."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, found), marker in zip(losses.items(), "os^vD" * len(losses), strict=False):
        axes.plot(middles(), found.means(), marker=marker, markersize=4, label=name)
    axes.set(xlabel="share of the tokens that is masked", ylabel="nats of a masked token", xlim=(0, 1), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def _metrics(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))
