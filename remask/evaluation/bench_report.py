"""The report of `remask bench sample`: bench.csv, a Markdown page, and a picture of quality against speed."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from remask.evaluation.bench_points import Bench
from remask.evaluation.bench_rows import NEAR, Line, Row, is_near, lines_of, panels, rows_of
from remask.evaluation.frontier_report import COLOURS
from remask.evaluation.ways import way_of
from remask.files import write_atomically
from remask.terminal import document

MARKS = "osv^DPXph<>d"
"""Markers of the rules; the star is that of `LeftToRight`."""
FILLS: tuple[Any, ...] = ("full", "none", "left", "bottom", "right", "top")
"""How a marker is filled, without a cache and with each of them."""
HEAD = (
    "model",
    "way",
    "quality",
    "templates",
    "tokens",
    "ended",
    "tokens/s",
    "passes",
    "calls",
    "first s",
    "last s",
    "memory",
    "front",
)


def write_report(bench: Bench, folder: Path, json: bool, show: bool = True) -> dict[str, Any]:
    """Writes bench.csv, bench.md and bench.png. Prints the page or, with `json`, all results as one JSON document."""
    rows, lines = rows_of(bench), lines_of(bench)
    write_atomically(folder / "bench.csv", csv_text(rows))
    page = page_text(bench, lines)
    write_atomically(folder / "bench.md", page)
    if lines:
        picture(lines, folder / "bench.png")
    result = {"settings": bench.settings, "real": bench.real}
    result |= {"rows": [asdict(row) for row in rows], "lines": [asdict(line) for line in lines]}
    if show:
        print(document(result) if json else page)
    return result


def csv_text(rows: Sequence[Row]) -> str:
    """The rows as CSV, with a head line; a number that there is not is empty."""
    text = io.StringIO()
    order = ("model", "family", "task", "template", "way", "sampler", "cache", "batch")
    names = [*order, *(f.name for f in fields(Row) if f.name not in order)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def page_text(bench: Bench, lines: Sequence[Line]) -> str:
    """The page in Markdown."""
    s = bench.settings
    text = [
        "# Quality against speed of sampling",
        "",
        f"{s['limit']} questions, temperature {s['temperature']:g} unless a way names another, {s['device']}, "
        f"threads {s['threads']}, precision {s['precision']}{', packed' * s.get('pack', False)}"
        f"{', compiled' * s.get('compile', False)}; {s['timed']} texts timed a round. Tokens a second count "
        "those before end-of-text; `tokens` is their mean in a text and `ended` the share of the texts that ended by "
        "themselves. `passes` are network passes over a text, `calls` those of a whole batch; `first s` "
        "and `last s` the seconds from the start of a batch until a text has its first and its last token. "
        + memory_note(lines),
    ]
    for (task, batch), panel in panels(lines).items():
        shown = shown_names([line.model for line in lines])
        text += ["", f"## {task}, batches of {batch}", "", note(bench, task), "", *table(panel, shown)]
    if lines:
        text += ["", "![Quality and speed](bench.png)"]
    return "\n".join([*text, ""])


def note(bench: Bench, task: str) -> str:
    """What the quality of a task is, and at which batch size it was measured."""
    sizes = sorted({grade.graded_at for grade in bench.grades if grade.task == task})
    graded = f" Graded at batches of {' and '.join(map(str, sizes))}, whatever the size that is timed."
    if task != "judge":
        return (
            "Quality: share of right answers, the mean over templates, with its standard error between questions, and "
            f"the accuracy of each template.{graded}"
        )
    real = bench.real or {}
    far = any(grade.task == task and not is_near(grade.entropy, real.get("entropy")) for grade in bench.grades)
    front = (
        f" Only lines whose entropy is within {100 * NEAR:g} % of that of real text can be on the front, since a judge "
        "likes repetition."
    )
    compared = " To compare the others at equal entropy use `remask frontier`." if far else ""
    return (
        f"Quality: nats a token under {bench.settings.get('judge')}, which says little where the token entropy is not "
        f"that of real text: {real.get('entropy', 0):.2f} +- {real.get('entropy_error', 0):.2f}, at "
        f"{real.get('nll', 0):.3f} +- {real.get('nll_error', 0):.3f} nats a token.{front}{compared}{graded}"
    )


def shown_names(models: Sequence[str]) -> dict[str, str]:
    """How each model is shown: the last two parts of its path, or the whole path where two of these are equal."""
    paths = list(dict.fromkeys(models))
    short = ["/".join(Path(path).parts[-2:]) for path in paths]
    return {path: name if short.count(name) == 1 else path for path, name in zip(paths, short, strict=True)}


def memory_note(lines: Sequence[Line]) -> str:
    """What the column of the memory says, or why there is none."""
    if any(line.memory for line in lines):
        return "Memory is the most that writing took on the GPU, and the model's weights."
    return (
        "Memory is measured on a GPU only: on a CPU a process keeps memory that it no longer needs, so its peak would "
        "be that of whatever ran before."
    )


def table(lines: Sequence[Line], shown: dict[str, str]) -> list[str]:
    """A Markdown table whose columns are aligned in a terminal too; the fastest line of each model comes first."""
    ordered = sorted(lines, key=lambda line: (line.model, -line.tokens_per_second))
    cells = [list(HEAD), *(cells_of(line, shown) for line in ordered)]
    if not any(line.memory for line in lines):
        cells = [[cell for cell, name in zip(row, HEAD, strict=True) if name != "memory"] for row in cells]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    left = [name in ("model", "way") for name in cells[0]]
    cells.insert(1, ["-" * width if on else "-" * (width - 1) + ":" for width, on in zip(widths, left, strict=True)])
    padded = [
        [x.ljust(width) if on else x.rjust(width) for x, width, on in zip(row, widths, left, strict=True)]
        for row in cells
    ]
    return [f"| {' | '.join(row)} |" for row in padded]


def cells_of(line: Line, shown: dict[str, str]) -> list[str]:
    """The cells of a line, as in HEAD."""
    entropy = "" if line.entropy is None else f", entropy {line.entropy:.2f}"
    each = " ".join(f"{x:.2f}" for x in line.templates) if line.task != "judge" else ""
    speeds = [f"{line.tokens_per_second:.0f}", f"{line.passes:.1f}", f"{line.calls:.1f}"]
    times = [f"{line.first_token:.4f}", f"{line.last_token:.4f}"]
    memory = "" if line.memory is None else f"{line.memory / 2**20:.0f} MiB"
    quality = f"{line.quality:.3f} +- {line.error:.3f}{entropy}"
    written = [f"{line.tokens:.1f}", f"{100 * line.ended:.0f} %"]
    front = "yes" if line.fastest else ""
    return [shown[line.model], line.way, quality, each, *written, *speeds, *times, memory, front]


def picture(lines: Sequence[Line], path: Path) -> None:
    """Quality against tokens a second: a panel for each task and batch size, with the Pareto front as a line.

    One colour for each model, one marker for each rule, and one filling of it for each cache.
    """
    from matplotlib.figure import Figure

    found = panels(lines)
    tasks, batches = list(dict.fromkeys(t for t, _ in found)), sorted({b for _, b in found})
    figure = Figure(figsize=(1.5 + 4.6 * len(batches), 1 + 3.4 * len(tasks)), layout="constrained")
    grid = figure.subplots(len(tasks), len(batches), squeeze=False)
    models = list(dict.fromkeys(line.model for line in lines))
    rules = [rule for rule in dict.fromkeys(line.sampler for line in lines) if rule != "LeftToRight"]
    colours = {model: COLOURS[i % len(COLOURS)] for i, model in enumerate(models)}
    marks = {rule: MARKS[i % len(MARKS)] for i, rule in enumerate(rules)} | {"LeftToRight": "*"}
    caches = list(dict.fromkeys(["none", *(line.cache for line in lines)]))
    fills = {cache: FILLS[i % len(FILLS)] for i, cache in enumerate(caches)}
    for (task, batch), panel in found.items():
        axes = grid[tasks.index(task)][batches.index(batch)]
        draw(axes, panel, colours, marks, fills)
        axes.set_title(f"{task}, batches of {batch}", fontsize=10)
    figure.legend(handles=legend(colours, marks, fills, lines), loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)


def draw(
    axes: Any, lines: Sequence[Line], colours: dict[str, str], marks: dict[str, str], fills: dict[str, Any]
) -> None:
    """One panel."""
    from matplotlib.ticker import FuncFormatter

    for line in lines:
        colour = colours[line.model]
        axes.errorbar(
            [line.tokens_per_second], [line.quality], yerr=[line.error], marker=marks[line.sampler], color=colour,
            markerfacecoloralt="white", fillstyle=fills[line.cache], linestyle="none", elinewidth=0.7, capsize=2,
            markersize=13 if line.sampler == "LeftToRight" else 7, alpha=0.9,
        )  # fmt: skip
        if label := short(line):
            axes.annotate(label, (line.tokens_per_second, line.quality), fontsize=6, color=colour,
                          xytext=(5, 4), textcoords="offset points")  # fmt: skip
    front = sorted((line for line in lines if line.fastest), key=lambda line: line.tokens_per_second)
    axes.plot([line.tokens_per_second for line in front], [line.quality for line in front],
              color="black", linewidth=0.9, drawstyle="steps-pre", zorder=0)  # fmt: skip
    judged = lines[0].task == "judge"
    axes.set(xscale="log", xlabel="tokens before end-of-text a second")
    for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        which(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.set_ylabel("judge's NLL, nats a token (less is better)" if judged else "share of right answers")
    if not judged:
        axes.set_ylim(-0.05, 1.08)
    axes.grid(alpha=0.3, which="both", linewidth=0.4)


def short(line: Line) -> str:
    """What is written beside a point: the steps, or the tokens a step."""
    own = way_of(line.way).options
    if own.get("steps"):
        return f"{own['steps']} steps"
    return f"{own['tokens_per_step']} a step" if own.get("tokens_per_step") else ""


def legend(colours: dict[str, str], marks: dict[str, str], fills: dict[str, Any], lines: Sequence[Line]) -> list[Any]:
    """Handles for the models, the rules, the caches and the front."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    used = {line.sampler for line in lines}
    rule: dict[str, Any] = {"color": "#444444", "linestyle": "none"}
    shown = shown_names(list(colours))
    handles: list[Any] = [Patch(color=colour, label=shown[model]) for model, colour in colours.items()]
    handles += [Line2D([], [], marker=mark, label=name, **rule) for name, mark in marks.items() if name in used]
    for cache, fill in fills.items() if len(fills) > 1 else ():
        label = "without an approximate cache" if cache == "none" else f"cache {cache}"
        handles.append(Line2D([], [], marker="o", markerfacecoloralt="white", fillstyle=fill, label=label, **rule))
    return [*handles, Line2D([], [], color="black", linewidth=0.9, label="Pareto front")]
