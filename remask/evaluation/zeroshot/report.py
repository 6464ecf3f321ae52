"""The report of `remask eval`: a table, results.json, results.md and a picture with the models side by side."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from remask.evaluation.bench_report import shown_names
from remask.evaluation.frontier_report import COLOURS
from remask.evaluation.zeroshot import templates
from remask.evaluation.zeroshot.metrics import RESAMPLES, Result
from remask.evaluation.zeroshot.templates import Spread
from remask.files import write_atomically
from remask.terminal import document

HEAD = (
    "task",
    "metric",
    "run",
    "value",
    "sampling",
    "Monte Carlo",
    "chance",
    "questions",
    "likelihood",
    "draws",
    "seconds",
)


def write_report(
    results: Sequence[Result],
    settings: dict[str, Any],
    notes: Sequence[str],
    folder: Path,
    json: bool,
    over: Sequence[Spread] = (),
) -> dict[str, Any]:
    """Writes results.json, results.md and results.png. Prints the page or, with `json`, one JSON document."""
    rows = [asdict(one) | {"at_chance": one.at_chance} for one in results]
    found = {"settings": settings, "results": rows, "notes": list(notes)}
    if over:
        found["templates"] = [asdict(one) | {"spread": one.spread} for one in over]
    write_atomically(folder / "results.json", document(found) + "\n")
    page = page_of(results, notes, over)
    write_atomically(folder / "results.md", page)
    picture(results, folder / "results.png")
    print(document(found) if json else page)
    return found


def page_of(results: Sequence[Result], notes: Sequence[str], over: Sequence[Spread] = ()) -> str:
    """The page in Markdown."""
    text = ["# Zero-shot benchmarks", "", *table(results), "", *(of_templates(over) if over else ())]
    text.append(
        "`sampling` is the standard error over questions. `Monte Carlo` is the error of the noise by which "
        f"likelihoods are estimated: the standard deviation of the value over {RESAMPLES} drawings of the groups of "
        "draws of each question; 0 where nothing is random. `likelihood` says whether answers are compared by exact "
        "likelihoods or by bounds on them; greedy: the text is the one that greedy decoding writes; written: the "
        "answer is read from a text, and `95 %` is Wilson's interval of the share of right ones. A value within two "
        "standard errors of a guess is marked as at chance. `draws` are copies of an answer that the network read, on "
        "average."
    )
    scored = dict.fromkeys(f"{one.run}, {one.task}: {one.scored}{settled_share(one)}" for one in results)
    text += ["", *(f"* {line}" for line in (*scored, *notes)), ""]
    return "\n".join(text)


def of_templates(over: Sequence[Spread]) -> list[str]:
    """What the prompt templates do, as lines of the page."""
    shown = shown_names([one.run for one in over])
    order = {key: place for place, key in enumerate(dict.fromkeys((one.task, one.metric) for one in over))}
    ordered = sorted(over, key=lambda one: order[one.task, one.metric])
    cells = [templates.cells_of(one, shown) for one in ordered]
    text = (
        "Each question in every template: the mean over templates with its standard error over questions, and "
        "`spread`, the standard deviation between templates."
    )
    turned = templates.changes_of_order(ordered)
    if len(shown) > 1:
        text += f" The order of the runs depends on the template in: {'; '.join(turned) or 'none'}."
    return [*markdown_table(templates.HEAD, cells, left=("task", "metric", "run")), "", text, ""]


def settled_share(one: Result) -> str:
    """How many questions were settled, where draws ended early."""
    return "" if one.settled is None else f"; {one.settled:.1%} of the questions were settled"


def table(results: Sequence[Result]) -> list[str]:
    """A Markdown table whose columns are aligned in a terminal too, with the runs of a metric below each other."""
    shown = shown_names([one.run for one in results])
    order = {key: place for place, key in enumerate(dict.fromkeys((one.task, one.metric) for one in results))}
    ordered = sorted(results, key=lambda one: order[one.task, one.metric])
    head, cells = list[str](HEAD), [cells_of(one, shown) for one in ordered]
    if any(one.interval for one in results):
        for row, text in zip([head, *cells], ["95 %", *(interval_of(one) for one in ordered)], strict=True):
            row.insert(HEAD.index("value") + 1, text)
    return markdown_table(head, cells, left=("task", "metric", "run", "likelihood"))


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> list[str]:
    """The lines of a table whose columns are aligned in a terminal too: those of `left` on that side."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lefts = [name in left for name in head]
    cells.insert(1, ["-" * width if on else "-" * (width - 1) + ":" for width, on in zip(widths, lefts, strict=True)])
    padded = [[x.ljust(w) if on else x.rjust(w) for x, w, on in zip(row, widths, lefts, strict=True)] for row in cells]
    return [f"| {' | '.join(row)} |" for row in padded]


def cells_of(one: Result, shown: dict[str, str]) -> list[str]:
    """The cells of a result, as in HEAD."""
    number = ".4f" if one.value <= 1 else ".4g"
    errors = ["unknown" if math.isnan(x) else f"+- {x:{number}}" for x in (one.error, one.noise)]
    chance = "" if one.chance is None else f"{one.chance:.3f}{' (at chance)' if one.at_chance else ''}"
    bound = "<= " if one.metric == "perplexity" and one.kind == "bound" else ""
    value = f"{bound}{one.value:{number}}"
    about = [f"{one.questions}", one.kind, "" if math.isnan(one.draws) else f"{one.draws:.1f}", f"{one.seconds:.1f}"]
    return [one.task, one.metric, shown[one.run], value, *errors, chance, *about]


def interval_of(one: Result) -> str:
    """The interval of a result; "" where it has none."""
    return "" if one.interval is None else f"{one.interval[0]:.4f} to {one.interval[1]:.4f}"


def picture(results: Sequence[Result], path: Path) -> None:
    """Accuracies of all runs on all benchmarks, with chance; and perplexities beside them, where there are any.

    An error bar is twice the two errors together.
    """
    from matplotlib.figure import Figure

    runs = list(dict.fromkeys(one.run for one in results))
    accuracies = [one for one in results if 0 <= one.value <= 1 and "perplexity" not in one.metric]
    perplexities = [one for one in results if "perplexity" in one.metric]
    panels = [part for part in (accuracies, perplexities) if part]
    if not panels:
        return
    places = [list(dict.fromkeys(place_of(one) for one in part)) for part in panels]
    height = 1.4 + 0.18 * max(len(names) for names in places) * (len(runs) + 1)
    figure = Figure(figsize=(7 if len(panels) == 1 else 10.5, height), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, width_ratios=[2, 1][: len(panels)])[0]
    for axes, part, names in zip(grid, panels, places, strict=True):
        draw(axes, part, names, runs)
    shown = shown_names(runs)
    handles, labels = grid[0].get_legend_handles_labels()
    named = {shown.get(str(label), str(label)): handle for label, handle in zip(labels, handles, strict=True)}
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=120)


def place_of(one: Result) -> str:
    """The line of the picture on which a result stands."""
    return one.task if one.metric in ("acc", "perplexity") else f"{one.task}, {one.metric}"


def bar_of(one: Result) -> tuple[float, float]:
    """How far the error bar of a result reaches to the left and to the right."""
    both = 2 * math.hypot(*(0.0 if math.isnan(x) else x for x in (one.error, one.noise)))
    if "perplexity" not in one.metric:
        return both, both
    times = math.exp(both / one.value)  # the error is that of its logarithm
    return one.value - one.value / times, one.value * times - one.value


def draw(axes: Any, part: Sequence[Result], names: Sequence[str], runs: Sequence[str]) -> None:
    """One panel: a line for each benchmark, on which the runs stand below each other."""
    for number, run in enumerate(runs):
        own = [one for one in part if one.run == run]
        if not own:
            continue
        heights = [names.index(place_of(one)) + (number + 1) / (len(runs) + 1) - 0.5 for one in own]
        bars = [bar_of(one) for one in own]
        axes.errorbar([one.value for one in own], heights, xerr=list(zip(*bars)), fmt="os^vDP"[number % 6],
                      markersize=5, capsize=2, color=COLOURS[number % len(COLOURS)], label=run)  # fmt: skip
    guesses = {place_of(one): one.chance for one in part if one.chance is not None}
    if guesses:
        heights = [names.index(name) for name in guesses]
        axes.vlines(list(guesses.values()), [y - 0.42 for y in heights], [y + 0.42 for y in heights], colors="#888888",
                    linestyles="dashed", linewidth=1, label="chance")  # fmt: skip
    perplexity = "perplexity" in part[0].metric
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel="perplexity" if perplexity else "accuracy")
    if perplexity:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter("")
    axes.grid(alpha=0.3, axis="x")
