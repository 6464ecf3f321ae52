"""The whole job in a few minutes, on text that every machine has: Python's own standard library.

    remask demo --out runs/demo

Trains a tokenizer, a masked model and an autoregressive one at equal compute; scores both on held-out
files; shows text being denoised and a function body being filled in; writes a report with pictures.
"""

import json
import lzma
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from remask.api import Sample, sample, stream
from remask.checkpoints.checkpoint import Checkpoint, load
from remask.data.batches import Rows, in_order
from remask.data.tokens import Prepared, prepare
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.likelihood import Estimate, validate
from remask.plots import denoising_strip, loss_curves
from remask.sampling.loop import Step
from remask.terminal import duration, say
from remask.training.optim import Budget, Optimizer
from remask.training.recipe import Recipe
from remask.training.run import train
from remask.watch import watch

LENGTH = 256
PROMPT = 'def read(path):\n    """'
BODY = '''def mean(values):
    """Return the mean of a list of numbers."""
    if not values:
        [MASK:8]
    total = sum(values)
    return [MASK:8]


def main():
'''


def demo(out: Path = Path("runs/demo"), minutes: float = 5.0, seed: int = 0) -> None:
    """Runs the demonstration.

    Args:
        out: Folder for data, runs and the report.
        minutes: How long all of it may take.
        seed: Of everything.
    """
    if not 0.5 <= minutes <= 24 * 60:
        raise RemaskError(f"minutes is {minutes}; it must be at least half a minute and at most a day")
    start = time.monotonic()
    say("1. Corpus: the source files and help texts of this machine's Python")
    prepared = prepare("stdlib", out / "data", vocab_size=4096)
    size = prepared.manifest["train"]
    say(f"   {size['bytes']:,} bytes in {size['documents']:,} documents, {size['tokens']:,} tokens\n")

    # two runs at equal FLOPs: the first is timed, the second takes as many steps
    recipe = Recipe(
        data=prepared.folder,
        out=out / "masked",
        family=Masked(objective="low_variance"),
        model="tiny" if minutes < 15 else "3M",
        budget=Budget(minutes=(minutes * 60 - 25) * 0.40 / 60),
        optimizer=Optimizer(lr=3e-3),
        length=LENGTH,
        batch=16,
        seed=seed,
        validation_rows=48,
    )
    say("2. A masked diffusion model, which learns to fill in what is hidden")
    train(recipe)
    steps = json.loads((out / "masked" / "run.json").read_text())["plan"]["steps"]
    say("\n3. An autoregressive model of the same size, on as much text and with as many FLOPs")
    train(replace(recipe, out=out / "autoregressive", family=Autoregressive(), budget=Budget(steps=steps)))

    say("\n4. Held-out files")
    runs = {"masked": load(out / "masked"), "autoregressive": load(out / "autoregressive")}
    scores = {name: score_held_out_files(checkpoint, prepared, seed) for name, checkpoint in runs.items()}
    table = scoreboard(scores, measure_xz(prepared))
    say(table)

    say("\n5. A text being denoised")
    writing: dict[str, Any] = dict(prompt=PROMPT, length=96, sampler="Ancestral", steps=48, top_p=0.9, seed=seed)
    written: list[Step] = []
    watch(collect(stream(runs["masked"], **writing), written), runs["masked"].tokenizer)
    texts = {
        "masked": sample(runs["masked"], **writing),
        "autoregressive": sample(runs["autoregressive"], prompt=PROMPT, length=96, top_p=0.9, seed=seed),
    }
    body = sample(runs["masked"], infill=BODY, sampler="Confidence", temperature=0.0, seed=seed)
    say(f"\n6. A function body, filled in by the masked model\n\n{body.text}")
    spent = time.monotonic() - start
    write_report(out, table, texts, body, written, runs["masked"], spent)
    say(f"Report: {out / 'report' / 'report.md'}, after {duration(spent)}")


def score_held_out_files(checkpoint: Checkpoint, prepared: Prepared, seed: int) -> Estimate:
    """Likelihood of the validation files, in float32."""
    rows = Rows(prepared.valid, LENGTH)
    return validate(checkpoint.model, checkpoint.family, enumerate(in_order(rows, None, 32)), draws=4, seed=seed)


def measure_xz(prepared: Prepared) -> float:
    """Bits per byte that xz reaches on the same files, all in one."""
    text = prepared.tokenizer.decode(prepared.valid.ids.tolist()).encode()
    return 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text)


def scoreboard(scores: dict[str, Estimate], compressed: float) -> str:
    """The results as a Markdown table."""
    lines = ["| model | bits per byte on held-out files | what the number is |", "|---|---|---|"]
    for name, found in scores.items():
        error = f" ± {found.bits_per_byte_stderr:.3f}" if found.stderr else ""
        what = "exact" if found.kind == "exact" else "upper bound, with the standard error of its noise"
        lines.append(f"| {name} | {found.bits_per_byte:.3f}{error} | {what} |")
    return "\n".join([*lines, f"| `xz -9e` | {compressed:.3f} | size of the compressed files |"])


def collect(steps: Iterable[Step], into: list[Step]) -> Iterator[Step]:
    """Passes steps on, and appends them to a list."""
    for step in steps:
        into.append(step)
        yield step


def write_report(
    out: Path, table: str, texts: dict[str, Sample], body: Sample, written: list[Step], masked: Checkpoint, spent: float
) -> None:
    """report.md with its pictures."""
    folder = out / "report"
    folder.mkdir(parents=True, exist_ok=True)
    loss_curves({"masked": out / "masked", "autoregressive": out / "autoregressive"}, folder / "loss.png")
    denoising_strip(written, masked.tokenizer, folder / "denoising.png")
    about, shape = masked.about, masked.model.architecture
    parts = [
        "# remask demo",
        f"Two models of {shape.non_embedding:,} parameters without embeddings, {about['steps']:,} steps of "
        f"{about['tokens_a_step']:,} tokens each ({about['flops_6n']:.2e} training FLOPs, as 6ND), "
        f"on Python's standard library. All of it took {duration(spent)}.",
        table,
        "![Validation loss against compute](loss.png)",
        "## A text being denoised",
        "![The text at five moments](denoising.png)",
    ]
    for name, text in texts.items():
        parts += [
            f"## Written by the {name} model, {text.evaluations} network calls",
            code_block(text.prompt + text.text),
        ]
    parts += ["## A function body, filled in by the masked model", code_block(body.text)]
    (folder / "report.md").write_text("\n\n".join(parts) + "\n")


def code_block(text: str) -> str:
    """A fenced block of Markdown, which the text cannot close."""
    return "~~~~python\n" + text.replace("~~~~", "~ ~ ~ ~") + "\n~~~~"
