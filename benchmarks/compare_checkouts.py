"""Do two checkouts of remask compute the same? Trained weights, greedy texts and scores of fixed recipes, side by side.

    python benchmarks/compare_checkouts.py OLD_CHECKOUT NEW_CHECKOUT

Each checkout trains small models of every family from the same text with the same options, in a process of its own,
through the command line. The table has a line for each run: whether the weights are equal to the bit, whether texts
written at temperature 0 are the same tokens, and the scores of one text.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SOURCES = ("argparse.py", "ast.py", "dataclasses.py", "inspect.py", "textwrap.py", "typing.py", "uuid.py", "zipfile.py")
COMMON = ["--length", "64", "--batch", "8", "--precision", "fp32", "--compile", "off"]
COMMON += ["--validation_rows", "8", "--validate_every", "1000", "--save_every", "1000"]
FAMILIES = {
    "autoregressive": ["--family", "Autoregressive"],
    "masked, bound": ["--family", "Masked"],
    "masked, low variance": ["--family", "Masked", "--family.objective", "low_variance"],
    "masked, count, EMA": ["--family", "Masked", "--family.objective", "count", "--ema", "0.9"],
    "masked, cut rows, accumulated": ["--family", "Masked", "--random_length", "0.5", "--accumulate", "2"],
    "masked, compiled": ["--family", "Masked", "--compile", "on"],
    "uniform": ["--family", "Uniform"],
    "uniform, curriculum": ["--family", "Uniform", "--family.curriculum", "0.5"],
    "interpolating, alpha_0 = 1": ["--family", "Interpolating"],
    "interpolating, alpha_0 = 0.5": ["--family", "Interpolating", "--family.alpha_0", "0.5"],
}
TEXTS = {
    "autoregressive": [[]],
    "masked, bound": [
        ["--sampler", "Confidence"],
        ["--sampler", "Confidence", "--steps", "8"],
        ["--sampler", "Confidence", "--block", "8", "--guidance", "1.5"],
        ["--sampler", "LLaDA", "--steps", "12", "--block", "8"],
        ["--sampler", "SMDM", "--steps", "9"],
    ],
}
SCORES = {
    "autoregressive": [[]],
    "masked, bound": [["--estimator", "chain"], ["--estimator", "rule"], ["--estimator", "count"]],
    "uniform": [[]],
    "interpolating, alpha_0 = 0.5": [[]],
}


DRIVER = """
import contextlib, io, json, sys
from remask.cli import main
for line in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main(json.loads(line))
    print(json.dumps(out.getvalue()), flush=True)
"""


class Checkout:
    """One checkout, whose commands run in a process of its own, one after another."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "REMASK_ALLOCATOR": "set"}
        command = [sys.executable, "-c", DRIVER]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, *arguments: str) -> str:
        """The standard output of one command."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(arguments), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"remask {' '.join(arguments)} failed")
        return json.loads(answer)


def weights(folder: Path) -> str:
    """A digest of the published weights."""
    return hashlib.sha256((folder / "latest" / "model.safetensors").read_bytes()).hexdigest()[:12]


def corpus(work: Path, checkout: Checkout) -> Path:
    """A few files of Python's standard library, prepared by a checkout."""
    library, text = Path(sysconfig.get_path("stdlib")), work / "text"
    text.mkdir(parents=True)
    for name in SOURCES:
        (text / name).write_bytes((library / name).read_bytes())
    checkout.run("prepare", str(text), "--vocab-size", "512", "--out", str(work / "data"))
    return work / "data"


def record(folder: Path, work: Path, steps: int) -> dict[str, str]:
    """What one checkout computes, by name."""
    checkout, found = Checkout(folder), {}
    remask = checkout.run
    corpus(work, checkout)
    for name, options in FAMILIES.items():
        run = work / name.replace(" ", "-").replace(",", "").replace("=", "")
        common = [*COMMON, "--data", str(work / "data"), "--out", str(run), "--budget.steps", str(steps)]
        remask("train", *common, *options)
        found[f"{name}: weights"] = weights(run)
        for more in TEXTS.get(name, []):
            given = ["--prompt", "def main(", "--length", "24", "--temperature", "0", "--json", *more]
            (row,) = json.loads(remask("sample", str(run), *given))
            found[f"{name}: text {' '.join(more)}".strip()] = str(row["tokens"])
        for more in SCORES.get(name, []):
            score = json.loads(remask("score", str(run), "--text", "import os\n", "--json", *more))
            found[f"{name}: score {' '.join(more)}".strip()] = f"{score['nats']:.4f} +- {score['stderr'] or 0:.2f}"
    where = ["--data", str(work / "data"), "--out", str(work / "distilled"), "--budget.steps", str(steps)]
    remask("distill", str(work / "uniform"), *COMMON, *where)
    found["distilled: weights"] = weights(work / "distilled")
    return found


def main() -> None:
    """Runs both and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        old = record(given.old.resolve(), Path(folder) / "old", given.steps)
        new = record(given.new.resolve(), Path(folder) / "new", given.steps)
    print("| | before | after | |\n|---|---|---|---|")
    for name, before in old.items():
        after = new[name]
        shown = (f"{len(json.loads(x))} tokens" if x.startswith("[") else x for x in (before, after))
        print(f"| {name} | {' | '.join(shown)} | {'equal' if before == after else 'DIFFERS'} |")


if __name__ == "__main__":
    main()
