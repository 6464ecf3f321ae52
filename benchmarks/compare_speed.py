"""Is one checkout of remask slower than another? Training, sampling and scoring of both, taking turns.

    python benchmarks/compare_speed.py OLD_CHECKOUT NEW_CHECKOUT --rounds 7

Each checkout runs in a process of its own, on one thread, through the command line, and imports nothing between the
rounds. A round is every command once with the old checkout and once with the new one, the first of them changing from
round to round. The table gives the median of the old times, and the median over the rounds of new / old with its
quartiles. Training is seconds a step of metrics.csv; the others are whole commands, the loading of a small checkpoint
among them.
"""

import argparse
import csv
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from compare_checkouts import Checkout, corpus

SIZE = ["--length", "256", "--batch", "8", "--precision", "fp32", "--compile", "off"]
SIZE += ["--validation_rows", "0", "--save_every", "1000", "--log_every", "1", "--optimizer.lr", "1e-3"]
SHORT = ["--length", "24", "--no-stop", "--json"]
COMMANDS = {
    "sample masked, 32 rows of 24 tokens": ("masked", ["sample", "--count", "32", *SHORT, "--sampler", "Confidence"]),
    "sample masked, 32 rows, Ancestral": ("masked", ["sample", "--count", "32", *SHORT, "--sampler", "Ancestral"]),
    "sample masked, 1 row of 128 tokens": ("masked", ["sample", "--length", "128", "--no-stop", "--json"]),
    "sample autoregressive, 1 row of 128": ("autoregressive", ["sample", "--length", "128", "--no-stop", "--json"]),
    "sample autoregressive, 32 rows of 24": ("autoregressive", ["sample", "--count", "32", *SHORT]),
    "score masked, 32 draws": ("masked", ["score", "--draws", "32", "--json", "--text", "import os\n" * 40]),
    "score autoregressive": ("autoregressive", ["score", "--json", "--text", "import os\n" * 40]),
}


def step_seconds(out: Path) -> float:
    """The median time of the steps after the third."""
    with open(out / "metrics.csv") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    return statistics.median(b - a for a, b in pairwise(seconds[3:]))


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", default="3M", help="named size")
    parser.add_argument("--only", default="", help="the lines of the table that hold this word")
    given = parser.parse_args()
    times: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        checkouts = {name: Checkout(getattr(given, name).resolve()) for name in ("old", "new")}
        data = corpus(Path(folder), checkouts["new"])
        for name, checkout in checkouts.items():  # the models that are sampled: also the first, cold round
            for family in ("masked", "autoregressive"):
                train(checkout, data, Path(folder) / f"{name}-{family}", family, given.model, 2)
        for number in range(given.rounds):
            order = list(checkouts)[:: 1 if number % 2 else -1]
            for family in ("masked", "autoregressive") if given.only in "training" else ():
                for name in order:
                    out = Path(folder) / f"{name}-{family}-{number}"
                    train(checkouts[name], data, out, family, given.model, 10)
                    times.setdefault(f"training step, {family}", {}).setdefault(name, []).append(step_seconds(out))
            for what, (family, arguments) in COMMANDS.items():
                for name in order if given.only in what else ():
                    start = time.perf_counter()
                    model = str(Path(folder) / f"{name}-{family}")
                    checkouts[name].run(arguments[0], model, *arguments[1:])
                    times.setdefault(what, {}).setdefault(name, []).append(time.perf_counter() - start)
            print(f"round {number + 1} of {given.rounds}", flush=True)
    print("| what | old, ms | new / old | quartiles |\n|---|---|---|---|")
    for what, both in times.items():
        low, middle, high = statistics.quantiles([b / a for a, b in zip(both["old"], both["new"], strict=True)])
        print(f"| {what} | {1e3 * statistics.median(both['old']):.1f} | {middle:.3f} | {low:.3f} to {high:.3f} |")


def train(checkout: Checkout, data: Path, out: Path, family: str, model: str, steps: int) -> None:
    """A run of a few steps."""
    options = ["--family", family.capitalize(), "--model", model, "--budget.steps", str(steps), *SIZE]
    checkout.run("train", "--data", str(data), "--out", str(out), *options)


if __name__ == "__main__":
    main()
