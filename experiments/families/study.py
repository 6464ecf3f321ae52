"""The families at equal compute: likelihood, speed, and quality of samples at few and many steps.

    remask prepare novels/ --out data/novels
    python experiments/families/study.py train data/novels runs/families     # hours on a CPU; resumes
    python experiments/families/study.py judge data/novels runs/families     # samples, judged by the AR model

Every model is `10M` (10.6 M parameters without embeddings, 8,192 ids, rows of 256 tokens, 8 rows a step), trained for
the same 5e14 FLOPs (6 N D, N without the time embedding, which runs once a row, and D counting both streams of
Eso-LM's sequential term); the distilled one is Duo (uniform with its curriculum) and 600 steps more, with a teacher.
`judge` adds to judged.json what is missing there, and writes results.md and quality.png.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import remask
from remask.data.batches import Rows, in_order
from remask.data.tokens import open_tokens
from remask.evaluation.frontier import judged
from remask.likelihood import validate
from remask.sampling import Canvas, SamplingParams, fill, samplers

HERE = Path(__file__).resolve().parent
STEPS = 3830
RECIPE = ["--model", "10M", "--length", "256", "--batch", "8", "--optimizer.lr", "1.5e-3"]
RECIPE += ["--validation_rows", "256", "--validate_every", "250", "--save_every", "250"]
JUDGE = "AR"
SAMPLES, LENGTH = 32, 256
CALLS = (8, 32, 128)
SHARED = " Other work shared the two cores: for speeds see benchmarks/results/families.md."


@dataclass(frozen=True)
class Model:
    """One of the models compared."""

    folder: str
    options: list[str]
    samplers: dict[str, tuple[str, dict[str, Any]]]
    """How it is sampled, by a name for the table."""
    steps: int = STEPS
    calls: tuple[int, ...] = CALLS


ANCESTRAL: dict[str, tuple[str, dict[str, Any]]] = {"ancestral": ("Ancestral", {})}
REVISING = {**ANCESTRAL, "greedy tail": ("Psi", {"kappa": 1.0, "tail": "greedy"})}
MODELS = {
    "AR": Model("ar", ["--family", "Autoregressive"], {"left to right": ("LeftToRight", {})}),
    "masked, bound": Model("bound", ["--family", "Masked"], ANCESTRAL),
    "masked, low variance": Model(
        "low_variance", ["--family", "Masked", "--family.objective", "low_variance"], ANCESTRAL
    ),
    "uniform": Model("uniform", ["--family", "Uniform"], REVISING),
    "uniform, curriculum": Model("curriculum", ["--family", "Uniform", "--family.curriculum", "0.5"], REVISING),
    "interpolating, alpha_0 = 1": Model(
        "eso1",
        ["--family", "Interpolating", "--family.objective", "low_variance"],
        {"in order, cached": ("EsoLM", {})},
    ),
    "interpolating, alpha_0 = 0.25": Model(
        "eso25",
        ["--family", "Interpolating", "--family.alpha_0", "0.25"],
        {"in order, cached": ("EsoLM", {})},
        steps=round(STEPS / 1.5),
    ),
    "uniform, curriculum, distilled to dt 1/32": Model("distilled", [], REVISING, steps=0, calls=CALLS[:2]),
    "uniform, curriculum, distilled to dt 1/4": Model("distilled_far", [], REVISING, steps=0, calls=CALLS[:2]),
}


def train(data: Path, runs: Path, only: list[str]) -> None:
    """Every model, one after another, by the command; what is finished is left alone."""
    for name, model in MODELS.items():
        if (only and model.folder not in only) or not model.steps:
            continue
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", "remask", "train", "--data", str(data), "--out", str(runs / model.folder)]
        subprocess.run([*command, *RECIPE, "--budget.steps", str(model.steps), *model.options], check=True)
    for folder, first in (("distilled", 1 / 512), ("distilled_far", 1 / 64)):
        if not only or folder in only:
            print(f"== {folder}", flush=True)
            command = [sys.executable, "-m", "remask", "distill", str(runs / "curriculum"), "--data", str(data)]
            command += ["--out", str(runs / folder), "--budget.steps", "600", "--batch", "8", "--ema", "0.99"]
            command += ["--optimizer.lr", "3e-4", "--distillation.first", str(first), "--validate_every", "120"]
            subprocess.run(command, check=True)


def judge(data: Path, runs: Path, only: list[str]) -> None:
    """Likelihood on the validation split, and samples at every number of steps."""
    kept = HERE / "judged.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    rows = Rows(open_tokens(data).valid, LENGTH)
    critic = remask.load(runs / MODELS[JUDGE].folder)

    def keep(name: str, what: str, value: dict[str, Any]) -> None:
        found.setdefault(name, {})[what] = value
        kept.write_text(json.dumps(found, indent=1) + "\n")
        print(name, what, {k: round(v, 4) if isinstance(v, float) else v for k, v in value.items()}, flush=True)

    if "text" not in found.get("validation text", {}):
        every = torch.stack([rows.stack([i * len(rows) // SAMPLES])[0] for i in range(SAMPLES)])
        keep("validation text", "text", asdict(judged(critic, every)))
    for name, model in MODELS.items():
        if (only and model.folder not in only) or not (runs / model.folder / "latest").exists():
            continue
        done, m = found.get(name, {}), remask.load(runs / model.folder)
        if "likelihood" not in done:
            kind = in_order(rows, 256, 32)
            with torch.autocast("cpu", torch.bfloat16):
                one = validate(m.model, m.family, enumerate(kind), draws=8)
            value = {"bits_per_byte": one.bits_per_byte, "error": one.bits_per_byte_stderr, "kind": one.kind}
            keep(name, "likelihood", value)
        for label, (kind, options) in model.samplers.items():
            sampler = samplers()[kind](**options)
            for calls in model.calls if sampler.takes_steps else (LENGTH,):
                if f"{label} {calls}" not in found.get(name, {}):
                    steps = calls if sampler.takes_steps else None
                    params = SamplingParams(sampler=sampler, steps=steps, stop=False)
                    keep(name, f"{label} {calls}", sampled(m, params, critic))
    report(found)


def sampled(m: Any, params: SamplingParams, critic: Any) -> dict[str, float]:
    """`SAMPLES` texts without a prompt: their quality, and how fast they were written."""
    canvas = Canvas.of([[None] * LENGTH] * SAMPLES)
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        state = fill(m.model, m.family, canvas, params)
    seconds = time.perf_counter() - start
    return {
        **asdict(judged(critic, state.tokens)),
        "passes": float(state.calls.double().mean()),
        "tokens_per_second": SAMPLES * LENGTH / seconds,
    }


def report(found: dict[str, Any]) -> None:
    """results.md and quality.png."""
    lines = ["# The families at equal compute", "", "Written by `study.py judge` from judged.json.", ""]
    lines += ["| model | bits per byte | what it is |", "|---|---|---|"]
    for name, of in found.items():
        if "likelihood" in of:
            one = of["likelihood"]
            error = "" if one["kind"] == "exact" else f" +- {one['error']:.4f}"
            what = "exact" if one["kind"] == "exact" else "upper bound"
            lines.append(f"| {name} | {one['bits_per_byte']:.4f}{error} | {what} |")
    missing = [name for name in MODELS if "likelihood" not in found.get(name, {})]
    lines += ["", f"Still to come: {'; '.join(missing)}."] if missing else []
    lines += ["", f"{SAMPLES} texts of {LENGTH} tokens, none prompted, temperature 1.{SHARED}", ""]
    lines += ["| model | sampler, steps | passes | judge's NLL, nats/token | token entropy, nats | tokens/s |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, of in found.items():
        for label, one in of.items():
            if "nll" in one:
                passes = f"{one['passes']:.0f}" if "passes" in one else ""
                speed = f"{one['tokens_per_second']:.0f}" if "tokens_per_second" in one else ""
                quality = " | ".join(f"{one[what]:.3f} +- {one[what + '_error']:.3f}" for what in ("nll", "entropy"))
                lines.append(f"| {name} | {label} | {passes} | {quality} | {speed} |")
    (HERE / "results.md").write_text("\n".join([*lines, ""]))
    picture(found)


def picture(found: dict[str, Any]) -> None:
    """Judge's NLL against token entropy: below and to the right is better."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for (name, of), marker in zip(found.items(), "*os^vDPX<>" * 3, strict=False):
        points = [(label, one) for label, one in of.items() if "nll" in one]
        axes.errorbar(
            [one["entropy"] for _, one in points],
            [one["nll"] for _, one in points],
            xerr=[one["entropy_error"] for _, one in points],
            yerr=[one["nll_error"] for _, one in points],
            marker=marker,
            linestyle="none",
            capsize=2,
            label=name,
        )
        for label, one in points:
            steps, at = label.rpartition(" ")[2], (one["entropy"], one["nll"])
            if "passes" in one:
                axes.annotate(steps, at, fontsize=7, xytext=(4, 3), textcoords="offset points")
    axes.set(xlabel="token entropy of the samples, nats", ylabel="NLL under the AR model, nats per token")
    seen = [one["entropy"] for of in found.values() for one in of.values() if "nll" in one]
    shown = [x for x in seen if x > 4]
    axes.set_xlim(min(shown) - 0.05, max(shown) + 0.05)
    if len(shown) < len(seen):
        axes.set_title(
            f"{len(seen) - len(shown)} of {len(seen)} points have an entropy below 4: few tokens, repeated",
            fontsize=9,
        )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(HERE / "quality.png", dpi=130)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "judge"])
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="folders of the models to take")
    given = parser.parse_args()
    (train if given.what == "train" else judge)(given.data, given.runs, given.only)
