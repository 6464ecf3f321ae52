"""The reversal curse in miniature: who was told "A is B", and is asked what B is.

    python experiments/reversal/study.py OUT                                    # fictional people, generated here
    python experiments/reversal/study.py OUT --published reversal_curse/june_version_7921032488
    python experiments/reversal/study.py OUT --report                           # of what is finished

Four models of the size `tiny`, at equal FLOPs and from random weights: masked and autoregressive, of people told in one
order and, as the control, of people told in both. Runs that are finished are not run again, one that was stopped goes
on, and so do the answers. `results.csv` and `results.png` beside this file are written anew from all finished runs.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

from remask.evaluation.proportions import wilson

HERE = Path(__file__).resolve().parent
FAMILIES = {
    "masked": "--family Masked --family.objective low_variance",
    "autoregressive": "--family Autoregressive",
}
COMMON = "--batch 32 --compile off --random_length 0.25 --left_to_right_rows 0 --validation_rows 40"
TAUGHT = ("one_way", "both_ways")
COLOURS = {
    ("masked", "one_way"): "#0969da",
    ("autoregressive", "one_way"): "#cf222e",
    ("masked", "both_ways"): "#9ec5f0",
    ("autoregressive", "both_ways"): "#f0a8ab",
}


def main() -> None:
    """Trains what is missing, asks the questions, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--published", type=Path, help="the folder of the published files, in place of generated people"
    )
    parser.add_argument("--people", type=int, default=120)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--only", default="", help="the runs whose names hold this word")
    parser.add_argument("--report", action="store_true", help="ask and report only, of the runs that are finished")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    taught = TAUGHT[:1] if given.published else TAUGHT  # those files have their own people of both orders
    wanted = [(family, how, seed) for seed in range(given.seeds) for how in taught for family in FAMILIES]
    for family, how, seed in wanted:
        if given.only in name_of(family, how, seed) and not given.report:
            train(given, family, how, seed)
    finished = [name_of(*one) for one in wanted if steps_of(given.out / name_of(*one)) >= given.steps]
    if finished:
        questions = str(given.published or f"pairs:people={given.people}")
        ask = ["bench", "reversal", *(str(given.out / name) for name in finished), "--questions", questions]
        remask(given.out / "asking.log", [*ask, "--draws", "16", "--out", str(given.out / "answers")])
        report(given.out, "published" if given.published else "results")


def name_of(family: str, how: str, seed: int) -> str:
    """The folder of a run."""
    return f"{family}-{how}-{seed}"


def train(given: argparse.Namespace, family: str, how: str, seed: int) -> None:
    """Prepares the corpus and trains one model, unless that is done."""
    run = given.out / name_of(family, how, seed)
    if steps_of(run) >= given.steps:
        return
    data = given.out / f"data-{how}"
    source = f"task:NameOf+DescriptionOf,people={given.people},taught={how},documents=8000"
    options = ["--vocab-size", "1024", "--out", str(data)]
    if given.published:
        source = str(given.out / "sentences.jsonl")
        Path(source).write_text("".join(f"{json.dumps({'text': text})}\n" for text in sentences(given.published)))
    remask(given.out / "prepare.log", ["prepare", source, *options])
    print(f"training {run.name}", flush=True)
    options = ["--data", str(data), "--out", str(run), "--model", given.model, *FAMILIES[family].split()]
    options += ["--length", "128" if given.published else "64", *COMMON.split()]
    options += ["--budget.steps", str(given.steps), "--validate_every", str(given.steps)]
    remask(run.with_suffix(".log"), ["train", *options, "--seed", str(seed)])


def sentences(folder: Path) -> list[str]:
    """What is told in the published files."""
    lines = (folder / "all_prompts_train.jsonl").read_text(encoding="utf-8").splitlines()
    return [row["prompt"] + row["completion"] for row in map(json.loads, lines)]


def steps_of(run: Path) -> int:
    """Steps that a run has made, as its last validation says."""
    if not (run / "metrics.csv").exists() or not (run / "latest").exists():
        return 0
    with open(run / "metrics.csv") as file:
        return max((int(row["step"]) for row in csv.DictReader(file)), default=0)


def remask(log: Path, arguments: list[str]) -> None:
    """One command, on one thread."""
    with open(log, "a") as file:
        command = [sys.executable, "-m", "remask", *arguments]
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=file, stderr=file, check=True)


def report(out: Path, name: str) -> None:
    """results.csv, and a picture of the matches: the mean over seeds, with the interval of the people."""
    with open(out / "answers" / "reversal.csv") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        family, how, seed = Path(row.pop("run")).name.split("-")
        row |= {"family": family, "taught": how, "seed": seed}
        row |= {key: f"{float(row[key]):.4f}" for key in ("value", "error", "low", "high") if row[key]}
    order = ["family", "taught", "seed", *(key for key in rows[0] if key not in ("family", "taught", "seed"))]
    with open(HERE / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, order, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    picture(rows, HERE / f"{name}.png")
    print((out / "answers" / "reversal.md").read_text())


def picture(rows: list[dict[str, str]], path: Path) -> None:
    """Bars of the share of answers with the right text, by kind of question."""
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    controls: dict[str, list[float]] = defaultdict(list)
    people = {row["kind"]: int(row["subjects"]) for row in rows}
    for row in rows:
        if row["measure"] == "match":
            values[row["family"], row["taught"]][row["kind"]].append(float(row["value"]))
        if row["measure"] == "control":
            controls[row["kind"]].append(float(row["value"]))
    figure = Figure(figsize=(1.5 + 1.5 * len(kinds), 3.6), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(values)
    for number, (variant, own) in enumerate(values.items()):
        places = [kinds.index(kind) + (number - (len(values) - 1) / 2) * width for kind in own]
        heights = [mean(found) for found in own.values()]
        ends = [wilson(height, people[kind]) for height, kind in zip(heights, own, strict=True)]
        bars = [[h - low for h, (low, _) in zip(heights, ends)], [high - h for h, (_, high) in zip(heights, ends)]]
        axes.bar(places, heights, width, yerr=bars, capsize=2, color=COLOURS[variant], error_kw={"linewidth": 0.8},
                 label=f"{variant[0]}, told {variant[1].replace('_', ' ')}")  # fmt: skip
    for kind, found in controls.items():
        place = kinds.index(kind)
        axes.hlines(max(found), place - 0.4, place + 0.4, color="black", linewidth=1,
                    label="control, the highest" if kind == next(iter(controls)) else None)  # fmt: skip
    axes.set_xticks(range(len(kinds)), [kind.replace(", ", ",\n") for kind in kinds], fontsize=8)
    axes.set(ylabel="answers with the right text", ylim=(0, 1.05))
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
