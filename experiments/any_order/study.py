"""Does it matter in which order a puzzle is solved? Masked diffusion in three orders, beside its autoregressive twin.

    python experiments/any_order/study.py OUT
    python experiments/any_order/study.py OUT --table

For each problem two networks of one shape learn the same rows at equal FLOPs, one question a row, with noise on the
answer only. Then both answer the same test questions: the masked one from left to right, the most certain cell first,
and in random order; the autoregressive one from left to right. All of it is done by commands of remask, one thread
each. What is finished is not done again, and what was stopped goes on. `results.csv` and `results.png` beside this file
are written anew from all that is finished.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from remask.data.tokens import prepare
from remask.tasks.rows import write_rows

HERE = Path(__file__).parent
SHAPE = "--model tiny --architecture.layers 3 --architecture.width 64 --architecture.heads 4 --architecture.ffn 192"
TRAINING = f"{SHAPE} --length 96 --batch 16 --validation_rows 128 --left_to_right_rows 0 --compile off"
ORDERS = {
    "left to right": "Confidence:rule=left",
    "most certain first": "Confidence",
    "random": "Confidence:rule=random",
    "autoregressive": "LeftToRight",
}
"""How answers are written, one token a step, at temperature 0."""
COLOURS = {"left to right": "C0", "most certain first": "C2", "random": "C1", "autoregressive": "0.2"}
QUESTIONS = 64
"""Test questions of each task, each under three templates."""


@dataclass(frozen=True)
class Problem:
    """What one pair of models learns, and what it is asked."""

    task: str
    option: str
    """The option whose values are learnt together and asked apart."""
    values: tuple[int, ...]
    flops: float
    """Training FLOPs of each model (6 N D)."""
    rows: int = 6000
    """Rows for training, of each value."""
    axis: str = "empty cells"
    more: str = ""
    """Other options of the task."""

    def source(self, value: int, **options: Any) -> str:
        """The corpus of one value."""
        return ",".join(
            [f"task:{self.task}{self.more}", f"{self.option}={value}", *(f"{k}={v}" for k, v in options.items())]
        )

    def asked(self, value: int) -> str:
        """The task of one value, as `remask bench sample` takes it."""
        return f"{self.task}:{self.option}={value}{self.more}"


PROBLEMS = {
    "sudoku": Problem("Sudoku", "holes", (4, 6, 8, 10), 4e12),
    "latin": Problem("LatinSquare", "holes", (4, 8, 12, 14), 4e12),
    "countdown": Problem("Countdown", "numbers", (2, 3), 8e12, rows=15000, axis="numbers", more=",largest=40"),
}
FAMILIES = {"masked": "Masked", "autoregressive": "Autoregressive"}


def main() -> None:
    """Does what is missing, or only writes the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=PROBLEMS, help="one of the problems")
    parser.add_argument("--share", type=float, default=1.0, help="of the FLOPs, for a try in a folder of its own")
    parser.add_argument("--table", action="store_true", help="print what was found, and do nothing else")
    given = parser.parse_args()
    if not given.table:
        for name in [given.only] if given.only else PROBLEMS:
            study(name, given.out, given.share)
    rows = results(given.out)
    if rows:
        write(rows, HERE if given.share == 1 else given.out)
    print(table(rows))


def study(name: str, out: Path, share: float) -> None:
    """Rows, tokenizer, both trainings, and the questions of one problem."""
    problem, folder = PROBLEMS[name], out / name
    for split, count in (("train", problem.rows), ("valid", 200)):
        parts = []
        for value in problem.values:
            parts.append(folder / "parts" / f"{split}-{value}.jsonl")
            if not parts[-1].exists():  # as `remask rows` does
                write_rows(problem.source(value, documents=count, split=split), parts[-1])
        (folder / f"{split}.jsonl").write_text("".join(part.read_text() for part in parts))
    few = problem.source(problem.values[-1], documents=2000)
    prepare(few, folder / "tokenizer", vocab_size=512)
    for run, family in FAMILIES.items():
        rows = ["--data", folder / "train.jsonl", "--sft.validation", folder / "valid.jsonl"]
        rows += ["--sft.tokenizer", folder / "tokenizer"]
        budget = ["--budget.flops", f"{share * problem.flops:g}"]
        remask("train", "--family", family, *TRAINING.split(), *rows, *budget, "--out", folder / run)
    asked = json.dumps([problem.asked(value) for value in problem.values])
    how = ["--ways", json.dumps(list(ORDERS.values())), "--limit", str(QUESTIONS), "--batch", "[16]"]
    how += ["--timed", "1", "--repeats", "1", "--precision", "fp32"]
    runs = [folder / run for run in FAMILIES]
    remask("bench", "sample", *runs, "--tasks", asked, *how, "--out", folder / "bench")


def remask(*arguments: Any) -> None:
    """One command of remask, in one thread."""
    command = [sys.executable, "-m", "remask", *map(str, arguments)]
    print("remask", *map(str, arguments), flush=True)
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, stdout=subprocess.DEVNULL)


def results(out: Path) -> list[dict[str, Any]]:
    """A row for each problem, value and order that was measured.

    `right` is the share of right answers, the mean over templates, and `error` its standard error between questions;
    `minus_left` is the difference to the masked model from left to right on the same questions, with its own error.
    """
    found = []
    for name, problem in PROBLEMS.items():
        path = out / name / "bench" / "bench.json"
        grades = json.loads(path.read_text())["grades"] if path.exists() else []
        for value in problem.values:
            marks = {order: of_questions(grades, problem.asked(value), way) for order, way in ORDERS.items()}
            left = marks["left to right"]
            for order, one in marks.items():
                if one is None:
                    continue
                run = out / name / ("autoregressive" if order == "autoregressive" else "masked")
                row = {"problem": name, "value": value, "order": order} | about(run)
                row |= {"questions": len(one), "right": mean(one), "error": error(one)}
                if left is not None:
                    row |= {"minus_left": mean(one - left), "minus_left_error": error(one - left, paired=True)}
                found.append(row)
    return found


def of_questions(grades: list[dict[str, Any]], task: str, way: str) -> np.ndarray | None:
    """(questions,) the mean over the templates of whether each answer is right; None where it was not asked."""
    own = [grade["right"] for grade in grades if grade["task"] == task and grade["way"] == way]
    return np.mean([[float(sign) for sign in marks] for marks in own], axis=0) if own else None


def mean(values: np.ndarray) -> float:
    """The mean, rounded for the table."""
    return round(float(values.mean()), 4)


def error(values: np.ndarray, paired: bool = False) -> float:
    """The standard error of a mean; of a share where all are equal, that after two right and two wrong ones more."""
    n = len(values)
    if paired or values.std() > 0:
        return round(float(values.std(ddof=1) / n**0.5), 4)
    share = (values.sum() + 2) / (n + 4)
    return round(float((share * (1 - share) / (n + 4)) ** 0.5), 4)


def about(run: Path) -> dict[str, Any]:
    """What a run cost, and its last validation: the bound of a masked model, the exact value of the other."""
    last = [line for line in read(run / "metrics.csv") if line["valid_bits_per_byte"]][-1]
    return {
        "steps": last["step"],
        "flops_6n": f"{float(last['flops_6n']):.3g}",
        "seconds": f"{float(last['seconds']):.0f}",
        "bits_per_byte": f"{float(last['valid_bits_per_byte']):.4f}",
    }


def read(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file; none where there is no file."""
    if not path.exists():
        return []
    with open(path) as file:
        return list(csv.DictReader(file))


def write(rows: list[dict[str, Any]], folder: Path) -> None:
    """results.csv and results.png."""
    with open(folder / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    picture(rows, folder / "results.png")


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel for each problem: the share of right answers, with 95 % intervals, by the size of the question; dotted,
    that of the solver of one_step.py."""
    from matplotlib.figure import Figure

    names = [name for name in PROBLEMS if any(row["problem"] == name for row in rows)]
    figure = Figure(figsize=(0.8 + 3.4 * len(names), 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for i, (order, colour) in enumerate(COLOURS.items()):
            own = [row for row in rows if (row["problem"], row["order"]) == (name, order)]
            places = [row["value"] + 0.04 * (i - 1.5) for row in own]
            heights, errors = [row["right"] for row in own], [1.96 * row["error"] for row in own]
            line = "--" if order == "autoregressive" else "-"
            axes.errorbar(places, heights, errors, color=colour, linestyle=line, marker="o", markersize=4, label=order)
            steps = [row for row in read(HERE / "one_step.csv") if (row["problem"], row["order"]) == (name, order)]
            axes.plot([int(row["value"]) for row in steps], [float(row["right"]) for row in steps], ":", color=colour)
        axes.set(title=name, xlabel=PROBLEMS[name].axis, xticks=PROBLEMS[name].values, ylim=(-0.03, 1.03))
    figure.axes[0].set_ylabel("right answers")
    figure.axes[-1].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each problem and size, a column for each order."""
    lines = [f"| problem | size | {' | '.join(ORDERS)} |", "|---|---|" + "---|" * len(ORDERS)]
    for name, value in dict.fromkeys((row["problem"], row["value"]) for row in rows):
        own = {row["order"]: row for row in rows if (row["problem"], row["value"]) == (name, value)}
        cells = [f"{own[o]['right']:.2f} ± {own[o]['error']:.2f}" if o in own else "" for o in ORDERS]
        lines.append(f"| {name} | {value} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
