"""Do two checkouts of remask compute the same? Trained weights, greedy texts and scores of fixed recipes, side by side.

    python benchmarks/compare_checkouts.py OLD_CHECKOUT NEW_CHECKOUT

Each checkout trains small models of every family from the same text with the same options, in processes of its own,
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
COMMON = ["--length", "64", "--batch", "8", "--validation_rows", "8", "--precision", "fp32", "--compile", "off"]
FAMILIES = {
    "autoregressive": ["--family", "Autoregressive"],
    "masked, bound": ["--family", "Masked"],
    "masked, low variance": ["--family", "Masked", "--family.objective", "low_variance"],
    "masked, count, EMA": ["--family", "Masked", "--family.objective", "count", "--ema", "0.9"],
    "masked, cut rows, accumulated": ["--family", "Masked", "--random_length", "0.5", "--accumulate", "2"],
    "masked, compiled, bf16": ["--family", "Masked", "--compile", "on", "--precision", "bf16"],
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


def remask(checkout: Path, *arguments: str) -> str:
    """The standard output of one command."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "remask", *arguments], cwd=checkout, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{checkout}: remask {' '.join(arguments)}\n{done.stderr}")
    return done.stdout


def weights(folder: Path) -> str:
    """A digest of the published weights."""
    return hashlib.sha256((folder / "latest" / "model.safetensors").read_bytes()).hexdigest()[:12]


def record(checkout: Path, work: Path, steps: int) -> dict[str, str]:
    """What one checkout computes, by name."""
    library, found = Path(sysconfig.get_path("stdlib")), {}
    text = work / "text"
    text.mkdir(parents=True)
    for name in SOURCES:
        (text / name).write_bytes((library / name).read_bytes())
    remask(checkout, "prepare", str(text), "--vocab-size", "512", "--out", str(work / "data"))
    for name, options in FAMILIES.items():
        run = work / name.replace(" ", "-").replace(",", "").replace("=", "")
        common = [*COMMON, "--data", str(work / "data"), "--out", str(run), "--budget.steps", str(steps)]
        remask(checkout, "train", *common, *options)
        found[f"{name}: weights"] = weights(run)
        for more in TEXTS.get(name, []):
            given = ["--prompt", "def main(", "--length", "24", "--temperature", "0", "--json", *more]
            (row,) = json.loads(remask(checkout, "sample", str(run), *given))
            found[f"{name}: text {' '.join(more)}".strip()] = str(row["tokens"])
        for more in SCORES.get(name, []):
            score = json.loads(remask(checkout, "score", str(run), "--text", "import os\n", "--json", *more))
            found[f"{name}: score {' '.join(more)}".strip()] = f"{score['nats']:.4f} +- {score['stderr'] or 0:.2f}"
    distilled = ["--batch", "8", "--validation_rows", "8", "--precision", "fp32", "--compile", "off", "--length", "64"]
    where = ["--data", str(work / "data"), "--out", str(work / "distilled"), "--budget.steps", str(steps)]
    remask(checkout, "distill", str(work / "uniform"), *distilled, *where)
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
