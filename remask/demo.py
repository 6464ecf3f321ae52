"""The whole job in a few minutes, on text that every machine has: Python's own standard library.

    remask demo --out runs/demo

Trains a tokenizer, and at equal compute a masked model, an autoregressive one, and a masked one that was autoregressive
for the first half; scores all on held-out files; shows text being denoised and function bodies being filled in; writes
a report with pictures.
"""

import json
import lzma
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from remask import machine
from remask.api import sample, stream
from remask.checkpoints.checkpoint import Checkpoint, load
from remask.checkpoints.replacing import replacing
from remask.data.batches import Rows, in_order
from remask.data.tokens import Prepared, prepare
from remask.denoising_strip import denoising_strip
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.files import write_atomically
from remask.generation.result import Sample
from remask.likelihood import Estimate, LossByLevel, validate
from remask.plots import loss_by_level, loss_curves
from remask.sampling.loop import Step
from remask.terminal import duration, say
from remask.training.beside import train_beside
from remask.training.optim import Budget, Optimizer
from remask.training.plan import COMPILING_SAVES, Plan, changed_options, read_run
from remask.training.recipe import Recipe
from remask.watch import watch

LENGTH = 256
LEAST = 8
"""Steps of which half can be told from all."""
OTHERWISE, BEGINNING = 25.0, 10.0
"""Seconds that everything but the trainings takes, and their four processes to begin, if one after another."""
SHARE, SHARE_BESIDE = 0.31, 0.615
"""Of the time that is left, that the first of the three models is trained: the others take 1.2 and 0.5 times as long,
after it or, the autoregressive one on other cores, beside it."""
PROMPT = 'def read(path):\n    """'
BODIES = '''class Counter:
    """Counts how often it is called."""

    def __init__(self, name):
        if not isinstance(name, [MASK:1]):
            raise [MASK:1]("name must be a string")
        self.count = [MASK:1]

    def __call__(self):
        self.count += [MASK:1]
        return [MASK:3]

    def __enter__(self):
        [MASK:2]


def main():
'''


def demo(out: Path = Path("runs/demo"), minutes: float = 5.0, seed: int = 0) -> None:
    """Runs the demonstration.

    Args:
        out: Folder for data, runs and the report.
        minutes: How long all of it may take.
        seed: Of everything.
    """
    if not 1 <= minutes <= 24 * 60:
        raise RemaskError(f"minutes is {minutes}; it must be at least 1 and at most a day")
    start = time.monotonic()
    say("1. Corpus: the source files and help texts of this machine's Python")
    prepared = prepare("stdlib", out / "data", vocab_size=4096)
    size = prepared.manifest["train"]
    say(f"   {size['bytes']:,} bytes in {size['documents']:,} documents, {size['tokens']:,} tokens\n")

    beside = torch.get_num_threads() > 1 and not torch.cuda.is_available()
    chosen = settings(out, minutes, beside)
    recipe = Recipe(
        data=prepared.folder,
        out=out / "masked",
        model="tiny" if minutes < 15 else "3M",
        budget=Budget(minutes=chosen["first"]),
        length=LENGTH,
        batch=16,
        seed=seed,
        validation_rows=48,
        left_to_right_rows=0,
        compile=chosen["compile"],
    )
    say("2. Three models at equal FLOPs: a masked diffusion model, which learns to fill in what is hidden; an")
    say("   autoregressive one of the same size; and one that goes on as a masked model from half of its steps")
    # the first is timed, the others take as many steps
    one, other, third = iter([recipe]), train_twin(recipe), convert(recipe)
    train_beside([chain(one, third), other] if beside else [chain(one, other, third)])

    say("\n3. Held-out files")
    runs = {name: load(out / name) for name in ("masked", "autoregressive", "converted")}
    by_level = {name: LossByLevel() for name in runs}
    scores = {name: score_held_out_files(one, prepared, seed, by_level[name]) for name, one in runs.items()}
    table = scoreboard(scores, measure_xz(prepared))
    say(table)

    say("\n4. A text being denoised")
    writing: dict[str, Any] = dict(prompt=PROMPT, length=96, sampler="Ancestral", steps=96, temperature=0.7, seed=seed)
    written: list[Step] = []
    watch(collect(stream(runs["masked"], **writing), written), runs["masked"].tokenizer)
    texts = {
        "masked": sample(runs["masked"], **writing),
        "autoregressive": sample(runs["autoregressive"], prompt=PROMPT, length=96, temperature=0.7, seed=seed),
    }
    bodies = sample(runs["masked"], infill=BODIES, sampler="Confidence", temperature=0.0, seed=seed)
    say(f"\n5. Function bodies, filled in by the masked model\n\n{bodies.text}")
    spent = time.monotonic() - start
    del by_level["autoregressive"]
    loss_by_level(by_level, report_folder(out) / "levels.png")
    write_report(out, table, texts, bodies, written, runs["masked"], spent)
    say(f"Report: {out / 'report' / 'report.md'}, after {duration(spent)}")


def settings(
    out: Path, minutes: float, beside: bool, compiling: Callable[[], float] = machine.seconds_to_compile
) -> dict[str, Any]:
    """Whether to compile, and the minutes of the first training: as they were, where the same demo began before."""
    path, asked = out / "settings.json", {"minutes": minutes, "beside": beside}
    if path.exists():
        with suppress(ValueError):
            before = json.loads(path.read_text())
            if isinstance(before, dict) and {name: before.get(name) for name in asked} == asked:
                return before
    compiled, seconds = "auto", minutes * 60 - OTHERWISE - (0 if beside else BEGINNING)
    if not torch.cuda.is_available():  # there each training decides for itself
        cost = 2 * compiling()  # of two families
        compiled = "on" if COMPILING_SAVES * seconds > cost else "off"
        seconds -= cost if compiled == "on" else 0
    found = asked | {"compile": compiled, "first": seconds * (SHARE_BESIDE if beside else SHARE) / 60}
    write_atomically(path, json.dumps(found) + "\n")
    return found


def planned(recipe: Recipe) -> Plan | None:
    """The plan of the masked model's run; None until it has one for this recipe."""
    found = read_run(recipe.out)
    return None if found is None or changed_options(*found, recipe) else found[1]


def train_twin(recipe: Recipe) -> Iterator[Recipe | None]:
    """The recipes of the autoregressive model, of as many steps as the masked one has.

    Half of the steps come first, with the decay of the learning rate at their end; a copy of that run is `half`. With a
    rate that is stable until its decay, the whole run goes on from where the half one had not decayed yet.
    """
    while (plan := planned(recipe)) is None:
        yield None
    if plan.steps < LEAST:
        raise RemaskError(f"there is time for {plan.steps} steps only, and it needs {LEAST}: give more minutes")
    twin = replace(
        recipe,
        out=recipe.out.with_name("autoregressive"),
        family=Autoregressive(),
        optimizer=Optimizer(schedule="wsd"),
        compile="on" if plan.compile else "off",
    )
    half = recipe.out.with_name("half")
    if not half.exists():
        yield replace(twin, budget=Budget(steps=plan.steps // 2))
        with replacing(half) as fresh:
            shutil.copytree(twin.out / "latest", fresh, dirs_exist_ok=True)
    yield replace(twin, budget=Budget(steps=plan.steps))


def convert(recipe: Recipe) -> Iterator[Recipe | None]:
    """The recipe of the masked model that was autoregressive for half of its steps."""
    half = recipe.out.with_name("half")
    while not half.exists() or (plan := planned(recipe)) is None:
        yield None
    steps, compiling = plan.steps - plan.steps // 2, "on" if plan.compile else "off"
    out = recipe.out.with_name("converted")
    yield replace(recipe, out=out, model=str(half), budget=Budget(steps=steps), compile=compiling)


def score_held_out_files(checkpoint: Checkpoint, prepared: Prepared, seed: int, by_level: LossByLevel) -> Estimate:
    """Likelihood of the validation files, in float32, and the loss at each noise level."""
    batches = enumerate(in_order(Rows(prepared.valid, LENGTH), None, 32))
    return validate(checkpoint.model, checkpoint.family, batches, draws=4, seed=seed, by_level=by_level)


def measure_xz(prepared: Prepared) -> float:
    """Bits per byte that xz reaches on the same files, all in one."""
    text = prepared.tokenizer.decode(prepared.valid.ids.tolist()).encode()
    return 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text)


def scoreboard(scores: dict[str, Estimate], compressed: float) -> str:
    """The results as a Markdown table."""
    lines = ["| model | bits per byte on held-out files | what the number is |", "|---|---|---|"]
    for name, found in scores.items():
        error = f" ± {found.bits_per_byte_stderr:.3f}" if found.stderr else ""
        exact = found.kind == "exact"
        sign, what = ("=", "exact") if exact else ("<=", "upper bound, with the standard error of its noise")
        lines.append(f"| {name} | {sign} {found.bits_per_byte:.3f}{error} | {what} |")
    return "\n".join([*lines, f"| `xz -9e` | {compressed:.3f} | size of the compressed files |"])


def collect(steps: Iterable[Step], into: list[Step]) -> Iterator[Step]:
    """Passes steps on, and appends them to a list."""
    for step in steps:
        into.append(step)
        yield step


def write_report(
    out: Path,
    table: str,
    texts: dict[str, Sample],
    bodies: Sample,
    written: list[Step],
    masked: Checkpoint,
    spent: float,
) -> None:
    """report.md with its pictures."""
    folder = report_folder(out)
    loss_curves({name: out / name for name in ("masked", "autoregressive", "converted")}, folder / "loss.png")
    denoising_strip(written, masked.tokenizer, folder / "denoising.png")
    about, shape = masked.about, masked.model.architecture
    parts = [
        "# remask demo",
        f"Three models of {shape.non_embedding:,} parameters without embeddings, {about['steps']:,} steps of "
        f"{about['tokens_a_step']:,} tokens each ({about['flops_6n']:.2e} training FLOPs, as 6ND), "
        f"on Python's standard library. All of it took {duration(spent)}.",
        table,
        "The converted model was autoregressive for the first half of its steps and masked for the second.",
        "![Validation loss against compute](loss.png)",
        "![Nats of a masked token against the share of the tokens that is masked](levels.png)",
        "## A text being denoised",
        "![The text at five moments](denoising.png)",
    ]
    for name, text in texts.items():
        parts += [
            f"## Written by the {name} model, {text.evaluations} network calls",
            code_block(text.prompt + text.text),
        ]
    parts += ["## Function bodies, filled in by the masked model", code_block(bodies.text)]
    (folder / "report.md").write_text("\n\n".join(parts) + "\n")


def report_folder(out: Path) -> Path:
    """Where the report lies; made where it is not there yet."""
    folder = out / "report"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def code_block(text: str) -> str:
    """A fenced block of Markdown, which the text cannot close."""
    return "~~~~python\n" + text.replace("~~~~", "~ ~ ~ ~") + "\n~~~~"
