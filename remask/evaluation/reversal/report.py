"""The report of `remask bench reversal`: a table, reversal.csv, .json, .md and a picture."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from remask.evaluation.bench_report import shown_names
from remask.evaluation.frontier_report import COLOURS
from remask.evaluation.mean import MeanWithInterval
from remask.evaluation.reversal.log import Log
from remask.evaluation.reversal.marks import MARKS, marks_of, mean_of
from remask.evaluation.reversal.sources import Cell
from remask.files import write_atomically
from remask.terminal import document

NOTE = (
    "`match` is the share of answers that hold the right text, whatever the case (the exact match of SMDM); `exact` of "
    "those that are it; `bleu` is BLEU-4 of characters, as SMDM has it, and `word_bleu` of words. `control` is the "
    "share of answers that hold what belongs to somebody else. `gain` is how many nats more probable the right answer "
    "is than that one; of a masked model, by bounds. Errors are between subjects, since several rows ask for the same "
    "thing, and the interval is Wilson's with 95 %; that of `gain` is 1.96 errors wide to each side."
)


@dataclass(frozen=True)
class Result:
    """One measure of one run on one kind of question."""

    run: str
    kind: str
    measure: str
    value: float
    error: float
    low: float
    high: float
    rows: int
    subjects: int


def results_of(run: str, cell: Cell, log: Log) -> Iterator[Result]:
    """All measures of a run on a kind of question."""
    said = [log.known[run, cell.name, i] for i in range(len(cell.rows))]
    subjects = [row.subject for row in cell.rows]
    marks = [marks_of(one.text, row.completion) for one, row in zip(said, cell.rows, strict=True)]
    found: dict[str, MeanWithInterval] = {
        name: mean_of([one[name] for one in marks], subjects, name in ("match", "exact")) for name in MARKS
    }
    with_control = [i for i, row in enumerate(cell.rows) if row.control is not None]
    if with_control:
        own = [subjects[i] for i in with_control]
        others = [marks_of(said[i].text, cell.rows[i].control or "")["match"] for i in with_control]
        found["control"] = mean_of(others, own)
        gains = [(said[i].control or 0.0) - (said[i].nats or 0.0) for i in with_control]
        found["gain"] = mean_of(gains, own, share=False)
    for name, mean in found.items():
        yield Result(run, cell.name, name, mean.value, mean.error, mean.low, mean.high, len(said), len(set(subjects)))


def write_report(
    runs: Sequence[str], cells: Sequence[Cell], log: Log, settings: dict[str, Any], folder: Path, json: bool
) -> dict[str, Any]:
    """Writes all files. Prints the page or, with `json`, one JSON document, which is also returned."""
    results = [one for cell in cells for run in runs for one in results_of(run, cell, log)]
    found = {"settings": settings, "results": [asdict(one) for one in results]}
    write_atomically(folder / "reversal.json", document(found) + "\n")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(found["results"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found["results"])
    write_atomically(folder / "reversal.csv", text.getvalue())
    page = "\n".join(["# Reversal", "", *table(results), "", NOTE, ""])
    write_atomically(folder / "reversal.md", page)
    picture(results, folder / "reversal.png")
    print(document(found) if json else page)
    return found


def table(results: Sequence[Result]) -> list[str]:
    """A Markdown table with a line for each run and kind of question."""
    shown = shown_names([one.run for one in results])
    head = ["question", "model", *dict.fromkeys(one.measure for one in results), "rows", "subjects"]
    lines: dict[tuple[str, str], dict[str, Result]] = {}
    for one in results:
        lines.setdefault((one.kind, one.run), {})[one.measure] = one
    cells = [head]
    for (kind, run), own in lines.items():
        first = next(iter(own.values()))
        values = [cell_of(own[name]) if name in own else "" for name in head[2:-2]]
        cells.append([kind, shown[run], *values, str(first.rows), str(first.subjects)])
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    cells.insert(1, ["-" * width for width in widths])
    return [f"| {' | '.join(x.ljust(w) for x, w in zip(row, widths, strict=True))} |" for row in cells]


def cell_of(one: Result) -> str:
    """A value with its interval, or with its error where it is a mean."""
    if one.measure in ("match", "exact", "control"):
        return f"{one.value:.3f} [{one.low:.2f}, {one.high:.2f}]"
    return f"{one.value:.3f}" + ("" if math.isnan(one.error) else f" +- {one.error:.2g}")


def picture(results: Sequence[Result], path: Path) -> None:
    """The matches of all runs on all kinds of questions, with their intervals and the controls."""
    from matplotlib.figure import Figure

    shown = shown_names([one.run for one in results])
    kinds = list(dict.fromkeys(one.kind for one in results))
    figure = Figure(figsize=(1.8 + 1.5 * len(kinds), 3.6), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(shown)
    for number, (run, name) in enumerate(shown.items()):
        own = {one.kind: one for one in results if one.run == run and one.measure == "match"}
        places = [kinds.index(kind) + (number - (len(shown) - 1) / 2) * width for kind in own]
        bars = [[one.value - one.low for one in own.values()], [one.high - one.value for one in own.values()]]
        axes.bar(places, [one.value for one in own.values()], width, yerr=bars, capsize=2, label=name,
                 color=COLOURS[number % len(COLOURS)], error_kw={"linewidth": 0.8})  # fmt: skip
        control = {one.kind: one for one in results if one.run == run and one.measure == "control"}
        marks = [place for place, kind in zip(places, own, strict=True) if kind in control]
        axes.plot(marks, [one.value for one in control.values()], "_", color="black", markersize=8,
                  label="control" if number == 0 else None)  # fmt: skip
    axes.set_xticks(range(len(kinds)), [kind.replace(", ", ",\n") for kind in kinds], fontsize=8)
    axes.set(ylabel="share of answers with the right text", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
