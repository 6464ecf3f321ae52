"""Temporal shift in miniature: models of old abstracts read later ones.

    python experiments/temporal_shift/study.py arxiv_cs_abstracts_2008_2019.jsonl OUT
    python experiments/temporal_shift/study.py arxiv_cs_abstracts_2008_2019.jsonl OUT --report

A masked model, its autoregressive twin at equal FLOPs, and an autoregressive model at a sixteenth of them, which is
about the ratio of the published comparison, all of the size `tiny`, are trained on the abstracts of 2008 to 2012. All
of them then score the same abstracts that none has read: one in six of those years, and as many of each later year.
Runs that are finished are not run again, and one that was stopped goes on. `results.csv` and `results.png` beside this
file are written anew from all finished runs.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LAST = "2012"
"""The last year of the training."""
HELD_OUT = 6
"""One of this many abstracts of each year is scored, and of the years of training not read."""
COMMON = "--model tiny --length 256 --batch 16 --compile off --random_length 0.25"
RUNS = {
    "masked": ("Masked --family.objective low_variance", 1),
    "autoregressive": ("Autoregressive", 1),
    "autoregressive-16th": ("Autoregressive", 16),
}
"""The family, and by what the steps are divided."""
COLOURS = ("#0969da", "#cf222e", "#9a6700")


def main() -> None:
    """Trains what is missing, scores, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("abstracts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--only", default="", help="the runs whose names hold this word")
    parser.add_argument("--report", action="store_true", help="score and report only, of the runs that are finished")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    divide(given.abstracts, given.out)
    data = given.out / "data"
    prepare = ["prepare", str(given.out / "train.jsonl"), "--vocab-size", "4096", "--out", str(data)]
    remask(given.out / "prepare.log", prepare)
    finished = []
    for seed in range(given.seeds):
        for name, (family, divided) in RUNS.items():
            run, steps = given.out / f"{name}-{seed}", given.steps // divided
            if not (run / "done").exists() and given.only in run.name and not given.report:
                print(f"training {run.name}", flush=True)
                options = [*COMMON.split(), "--budget.steps", str(steps), "--validate_every", str(steps)]
                options += ["--left_to_right_rows", "0", "--validation_rows", "48"]
                options += ["--family", *family.split(), "--seed", str(seed), "--data", str(data), "--out", str(run)]
                remask(run.with_suffix(".log"), ["train", *options])
                (run / "done").touch()
            finished += [run] if (run / "done").exists() else []
    if finished:
        score(finished, given.out, given.draws)
        report(given.out / "scores.json")


def divide(abstracts: Path, out: Path) -> None:
    """train.jsonl, of the years of training, and scored.jsonl, of all years; no abstract is in both."""
    lines = [line for line in abstracts.read_text(encoding="utf-8").splitlines() if line.strip()]
    years: dict[str, list[str]] = {}
    for line in lines:
        years.setdefault(json.loads(line)["date"][:4], []).append(line)
    scored = [line for of_year in years.values() for line in of_year[::HELD_OUT]]
    apart = set(scored)
    train = [line for year, of_year in years.items() if year <= LAST for line in of_year if line not in apart]
    for name, chosen in (("train", train), ("scored", scored)):
        path, text = out / f"{name}.jsonl", "".join(f"{line}\n" for line in chosen)
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # a corpus that was prepared stays as it is
            path.write_text(text, encoding="utf-8")


def remask(log: Path, arguments: list[str]) -> None:
    """One command, on one thread."""
    with open(log, "a") as file:
        command = [sys.executable, "-m", "remask", *arguments]
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=file, stderr=file, check=True)


def score(runs: list[Path], out: Path, draws: int) -> None:
    """scores.json: what `remask perplexity` says of all runs."""
    command = [sys.executable, "-m", "remask", "perplexity", *map(str, runs), str(out / "scored.jsonl"), "--by", "date"]
    command += ["--reference", f"0000:{LAST}", "--draws", str(draws), "--json"]
    with open(out / "scores.json.part", "w") as file, open(out / "scoring.log", "a") as log:
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=file, stderr=log, check=True)
    (out / "scores.json.part").replace(out / "scores.json")


def report(scores: Path) -> None:
    """results.csv and results.png."""
    found = json.loads(scores.read_text())
    rows = []
    for row in found["rows"]:
        run = Path(row.pop("run")).name
        rows.append({"run": run} | {key: round(x, 5) if isinstance(x, float) else x for key, x in row.items()})
    with open(HERE / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    axes = figure.add_subplot()
    runs = list(dict.fromkeys(row["run"] for row in rows))
    for number, run in enumerate(runs):
        own = [row for row in rows if row["run"] == run and row["period"] != "reference"]
        kind = next(i for i, name in enumerate(RUNS) if run.rpartition("-")[0] == name)
        shift = (number - (len(runs) - 1) / 2) * 0.06
        axes.errorbar([int(row["period"]) + shift for row in own], [row["change"] for row in own],
                      yerr=[row["change_error"] for row in own], marker="os^"[kind], markersize=4, capsize=2,
                      linewidth=1, color=COLOURS[kind], label=run)  # fmt: skip
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.axvspan(min(int(r["period"]) for r in rows if r["period"] != "reference") - 0.5, int(LAST) + 0.5,
                 color="#eeeeee", zorder=0, label="years of the training")  # fmt: skip
    axes.set(xlabel="year of the abstract", ylabel="nats per token more than in the training's years")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(HERE / "results.png", dpi=120)


if __name__ == "__main__":
    main()
