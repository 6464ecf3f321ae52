"""The report of `remask bench guidance`: a table, results.json, results.md and a picture of the sweep."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from remask.evaluation.bench_report import shown_names
from remask.evaluation.frontier_report import COLOURS
from remask.evaluation.zeroshot.report import markdown_table
from remask.files import write_atomically
from remask.terminal import document

HEAD = ("task", "metric", "run", "weight", "validation", "test", "test at 0", "gain", "sampling", "Monte Carlo", "n")


@dataclass(frozen=True)
class Measured:
    """A metric with its errors."""

    value: float
    error: float
    """Standard error over questions; nan with one question."""
    noise: float
    """Monte Carlo error; 0 where nothing is random, nan where it is not known."""
    questions: int
    kind: str = ""
    """exact, bound, or greedy decoding."""
    chance: float | None = None
    """The value of a guess; None where there is no such value."""

    @property
    def both(self) -> float:
        """Both errors together, those that are known."""
        return math.hypot(*(0.0 if math.isnan(x) else x for x in (self.error, self.noise)))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What weights of guidance do to one metric of one run on one benchmark."""

    run: str
    task: str
    metric: str
    validation: Mapping[float, Measured]
    """By the weight."""
    weight: float
    """The weight that is best on validation."""
    test: Measured
    """At that weight."""
    unguided: Measured
    """On the same questions at the weight 0."""
    gain: Measured
    """The difference of these two, with paired errors."""


def write_report(
    found: Sequence[Sweep], settings: dict[str, Any], notes: Sequence[str], folder: Path, json: bool
) -> dict[str, Any]:
    """Writes results.json, results.md and results.png. Prints the page or, with `json`, one JSON document."""
    rows = [asdict(one) | {"validation": [{"weight": w, **asdict(m)} for w, m in one.validation.items()]}
            for one in found]  # fmt: skip
    results = {"settings": settings, "results": rows, "notes": list(notes)}
    write_atomically(folder / "results.json", document(results) + "\n")
    page = page_of(found, notes)
    write_atomically(folder / "results.md", page)
    picture(found, folder / "results.png")
    print(document(results) if json else page)
    return results


def page_of(found: Sequence[Sweep], notes: Sequence[str]) -> str:
    """The page in Markdown."""
    shown = shown_names([one.run for one in found])
    cells = [cells_of(one, shown) for one in found]
    text = ["# Guidance", "", *markdown_table(HEAD, cells, left=("task", "metric", "run")), ""]
    text.append(
        "`weight` is the one of the best value on validation questions, of equally good ones the smallest. `test` is "
        "the value at that weight on other questions, which were asked at no other weight but 0. `gain` is the "
        "difference of the two; `sampling` is its paired standard error over questions and `Monte Carlo` that of the "
        "noise. `n` are the questions of validation and of test. Perplexities are better where they are lower."
    )
    return "\n".join([*text, "", *(f"* {note}" for note in notes), ""])


def cells_of(one: Sweep, shown: Mapping[str, str]) -> list[str]:
    """The cells of a result, as in HEAD."""
    form = ".4g" if one.metric == "perplexity" else ".4f"
    tried = one.validation[one.weight]
    values = [f"{x.value:{form}}" for x in (tried, one.test, one.unguided)]
    errors = ["unknown" if math.isnan(x) else f"+- {x:{form}}" for x in (one.gain.error, one.gain.noise)]
    count = f"{tried.questions}, {one.test.questions}"
    return [
        one.task,
        one.metric,
        shown[one.run],
        f"{one.weight:g}",
        *values,
        f"{one.gain.value:+{form}}",
        *errors,
        count,
    ]


def picture(found: Sequence[Sweep], path: Path) -> None:
    """A panel for each benchmark and metric: the values on validation over the weights, the chosen weight with a star,
    and what was measured on test with open marks. An error bar is the two errors together."""
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((one.task, one.metric) for one in found))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1 + 3.6 * columns, 0.7 + 2.9 * rows), layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False).flatten()
    runs = list(dict.fromkeys(one.run for one in found))
    for axes, (task, metric) in zip(every, panels, strict=False):
        for one in found:
            if (one.task, one.metric) == (task, metric):
                draw(axes, one, COLOURS[runs.index(one.run) % len(COLOURS)])
        axes.set(title=f"{task}, {metric}", xlabel="weight of guidance")
        axes.grid(alpha=0.3)
    for axes in every[len(panels) :]:
        axes.remove()
    shown = shown_names(runs)
    drawn = [pair for axes in every[: len(panels)] for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    named = {str(label): handle for handle, label in drawn}
    order = sorted(named, key=lambda label: label not in shown)  # the runs first
    figure.legend(
        [named[label] for label in order],
        [shown.get(label, label) for label in order],
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    figure.savefig(path, dpi=120)


def draw(axes: Any, one: Sweep, colour: str) -> None:
    """The sweep of one run."""
    weights = sorted(one.validation)
    tried = [one.validation[weight] for weight in weights]
    axes.errorbar(weights, [x.value for x in tried], yerr=[x.both for x in tried], color=colour, marker="o",
                  markersize=4, capsize=2, label=one.run)  # fmt: skip
    axes.plot([one.weight], [one.validation[one.weight].value], "*", color=colour, markersize=13, zorder=5)
    aside = 0.015 * (max(weights) - min(weights) or 1.0)
    tested = {0.0: one.unguided, one.weight: one.test}
    axes.errorbar([weight + aside for weight in tested], [x.value for x in tested.values()],
                  yerr=[x.both for x in tested.values()], color=colour, marker="s", markersize=6, fillstyle="none",
                  linestyle="none", capsize=2)  # fmt: skip
    if one.test.chance is not None:
        axes.axhline(one.test.chance, color="#888888", linestyle="dashed", linewidth=1, label="chance")
    axes.plot([], [], "*", color="#444444", label="chosen on validation")
    axes.plot([], [], "s", color="#444444", fillstyle="none", label="on test")
