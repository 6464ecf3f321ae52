"""What makes small models learn: one change after another, at the size of the demo, each with several seeds.

    remask prepare stdlib --vocab-size 4096 --out DATA
    python experiments/learning/study.py DATA OUT --seeds 3 --workers 2
    python experiments/learning/study.py DATA OUT --table

Runs are `remask train` commands of 635 steps of 16 x 256 tokens, one thread each; those that are finished are not run
again, and one that was stopped goes on. `runs.csv` beside this file has a line for each finished run: the bound (for
the autoregressive twin the exact value) on 192 held-out rows, with the error of its noise.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

TABLE = Path(__file__).with_name("runs.csv")
STEPS = 635
COMMON = f"--model tiny --length 256 --batch 16 --budget.steps {STEPS} --validation_rows 192 --validate_every {STEPS}"
ADAMW = "--optimizer.kind adamw --optimizer.lr 3e-3"
BOLD = "--optimizer.kind muon --optimizer.lr 1e-2"
MASKED = "--family Masked --family.objective low_variance"
TWIN = "--family Autoregressive"
PLAIN = "--architecture.convolution 0"
CONV = "--architecture.convolution 5"
CEILING = "--family.ceiling 0.4 --family.bell 0"
NONE = "--family.ceiling 1"

ALL = f"{MASKED} {CEILING} --family.bell 0.8 {CONV} --optimizer.kind muon --optimizer.lr 2e-2"

VARIANTS = {
    "masked: AdamW 3e-3": f"{MASKED} {NONE} {PLAIN} {ADAMW}",
    "masked: convolution, Muon, AdamW 1e-2, ceiling 0.4": f"{MASKED} {CEILING} {CONV} {BOLD}",
    "masked: the same without the convolution": f"{MASKED} {CEILING} {PLAIN} {BOLD}",
    "masked: the same with AdamW 3e-3 for all": f"{MASKED} {CEILING} {CONV} {ADAMW}",
    "masked: the same without the ceiling": f"{MASKED} {NONE} {CONV} {BOLD}",
    "masked: the same, AdamW 3e-3 beside Muon": f"{MASKED} {CEILING} {CONV} {BOLD} --optimizer.lr 3e-3",
    "masked: the same, bell 0.8": f"{MASKED} {CEILING} --family.bell 0.8 {CONV} {BOLD}",
    "masked: the same, AdamW 2e-2 beside Muon": f"{MASKED} {CEILING} {CONV} {BOLD} --optimizer.lr 2e-2",
    "masked: all (convolution, Muon, AdamW 2e-2, ceiling 0.4, bell 0.8)": ALL,
    "autoregressive: AdamW 3e-3": f"{TWIN} {PLAIN} {ADAMW}",
    "autoregressive: convolution, Muon, AdamW 1e-2": f"{TWIN} {CONV} {BOLD}",
    "autoregressive: all (convolution, Muon, AdamW 2e-2)": f"{TWIN} {CONV} {BOLD} --optimizer.lr 2e-2",
    "converted: half of the steps autoregressive": (
        f"{TWIN} {CONV} {BOLD} --budget.steps 317 THEN {MASKED} {CEILING} {BOLD}"
    ),
}
"""What differs between the runs. Behind THEN stands the run that goes on with the steps that are left, from the
checkpoint of the one before it."""
ALL_BUT_SHAPE = f"{MASKED} {CEILING} --family.bell 0.8 --optimizer.kind muon --optimizer.lr 2e-2"
TRIED = {
    "masked: all, no ceiling": f"{ALL} {NONE}",
    "masked: all, last rate 0": f"{ALL} --optimizer.floor 0",
    "masked: all, AdamW 4e-2": f"{ALL} --optimizer.lr 4e-2",
    "masked: all, Muon 0.03": f"{ALL} --optimizer.muon_lr 0.03",
    "masked: all, ceiling 0.3 until 0.8": f"{ALL} --family.ceiling 0.3 --family.ceiling_until 0.8",
    "masked: all, convolution over 9": f"{ALL} --architecture.convolution 9",
    "masked: all, fixed counts": f"{ALL} --family.fixed_counts true",
    "masked: all, normalised queries and keys": f"{ALL} --architecture.qk_norm",
    "masked: all, moving average 0.98": f"{ALL} --ema 0.98",
    "masked: all, pairs of 8 rows in place of ceiling and bell": (
        f"{MASKED} {CONV} --optimizer.kind muon --optimizer.lr 2e-2 --family.pairs true --batch 8"
    ),
    "converted: a quarter autoregressive": f"{TWIN} {CONV} {BOLD} --budget.steps 159 THEN {ALL_BUT_SHAPE}",
}
"""Variants that were tried with one seed."""


def main() -> None:
    """Runs what is missing, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="the variants whose names hold this word")
    parser.add_argument("--table", action="store_true", help="print what was found")
    given = parser.parse_args()
    if given.table:
        print(table())
        return
    given.out.mkdir(parents=True, exist_ok=True)
    todo = [(name, 0) for name in (VARIANTS | TRIED)] + [
        (name, seed) for seed in range(1, given.seeds) for name in VARIANTS
    ]
    todo = [(name, seed) for name, seed in todo if given.only in name]
    with ThreadPoolExecutor(given.workers) as pool:
        runs = {pool.submit(run, given.data, given.out, *one): one for one in todo}
        for done in as_completed(runs):
            if done.exception():
                print(f"{runs[done]} failed: {done.exception()}", flush=True)


def run(data: Path, out: Path, name: str, seed: int) -> None:
    """One run, and its line in the table."""
    if any((row["variant"], row["seed"]) == (name, str(seed)) for row in read()):
        return
    folder = out / name_of(name, seed)
    first, _, second = (VARIANTS | TRIED)[name].partition(" THEN ")
    if second:
        steps = int(first.split()[-1])
        start = out / f"autoregressive-{steps}-{seed}"
        train(data, start, [*first.split(), "--seed", str(seed)])
        rest = ["--model", str(start), "--budget.steps", str(STEPS - steps), "--validate_every", str(STEPS - steps)]
        train(data, folder, [*second.split(), *rest, "--seed", str(seed)])
    else:
        train(data, folder, [*first.split(), "--seed", str(seed)])
    with open(folder / "metrics.csv") as file:
        last = list(csv.DictReader(file))[-1]
    config = json.loads((folder / "latest" / "config.json").read_text())
    row = {
        "variant": name,
        "seed": seed,
        "bits_per_byte": f"{float(last['valid_bits_per_byte']):.4f}",
        "stderr": f"{float(last['valid_stderr']):.4f}",
        "seconds": f"{float(last['seconds']):.0f}",
        "steps": last["step"],
        "flops_6n": last["flops_6n"],
        "parameters": config["about"]["parameters"],
    }
    fresh = not TABLE.exists()
    with open(TABLE, "a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)
    print(f"{name}, seed {seed}: {row['bits_per_byte']}", flush=True)


def name_of(variant: str, seed: int) -> str:
    """The folder of a run."""
    return f"{variant.translate(str.maketrans(' :,.', '----'))}-{seed}"


def train(data: Path, folder: Path, options: list[str]) -> None:
    """One `remask train` command."""
    command = [sys.executable, "-m", "remask", "train", "--data", str(data), "--out", str(folder)]
    command += [*COMMON.split(), "--compile", "on", *options]
    with open(folder.with_suffix(".log"), "a") as log:
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=log, stderr=log, check=True)


def read() -> list[dict[str, str]]:
    """The lines of the table."""
    if not TABLE.exists():
        return []
    with open(TABLE) as file:
        return list(csv.DictReader(file))


def table() -> str:
    """Markdown: the mean over the seeds, its standard error over them, and the time of a step."""
    lines = ["| variant | bits per byte | seeds | s a step |", "|---|---|---|---|"]
    for name in VARIANTS | TRIED:
        rows = [row for row in read() if row["variant"] == name]
        if not rows:
            continue
        bits = [float(row["bits_per_byte"]) for row in rows]
        error = f" ± {statistics.stdev(bits) / len(bits) ** 0.5:.3f}" if len(bits) > 1 else ""
        sign = "=" if name.startswith("autoregressive") else "≤"
        pace = statistics.mean(float(row["seconds"]) / float(row["steps"]) for row in rows)
        lines.append(f"| {name} | {sign} {statistics.mean(bits):.3f}{error} | {len(bits)} | {pace:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
