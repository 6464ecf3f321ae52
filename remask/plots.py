"""Pictures for reports: loss curves, and a text being denoised."""

import csv
from collections.abc import Sequence
from pathlib import Path

from remask.data.tokenizer import Tokenizer
from remask.sampling.loop import Step

COLOURS = {"masked": "#d9d9d9", "fresh": "#1a7f37", "old": "#24292f"}


def loss_curves(runs: dict[str, Path], path: Path) -> None:
    """Validation bits per byte of several runs against their training FLOPs, with error bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, run), marker in zip(runs.items(), "os^vD" * len(runs), strict=False):
        rows = [r for r in _metrics(run) if r["valid_bits_per_byte"]]
        kind = "bound" if rows and rows[-1]["valid_kind"] == "bound" else "exact"
        axes.errorbar(
            [float(r["flops_6n"]) for r in rows],
            [float(r["valid_bits_per_byte"]) for r in rows],
            yerr=[float(r["valid_stderr"]) for r in rows],
            marker=marker,
            markersize=4,
            capsize=2,
            label=f"{name} ({kind})",
        )
    axes.set(xlabel="training FLOPs (6 N D)", ylabel="validation bits per byte")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def denoising_strip(
    steps: Sequence[Step], tokenizer: Tokenizer, path: Path, frames: int = 5, columns: int = 76
) -> None:
    """A text at several moments of its denoising: masks grey, new tokens green, earlier ones black."""
    from matplotlib.figure import Figure

    shown = [steps[round(i * (len(steps) - 1) / (frames - 1))] for i in range(frames)]
    pages = []
    before = None
    for step in shown:
        pages.append(_lines(step, before, tokenizer, columns))
        before = step
    height = sum(len(page) + 1.6 for page in pages)
    figure = Figure(figsize=(columns * 0.105 + 0.3, height * 0.185 + 0.2))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(-1.5, columns + 1), ylim=(height + 0.5, -0.5))
    axes.axis("off")
    top = 0.8
    for step, page in zip(shown, pages, strict=True):
        left = int(step.masked[0].sum())
        calls = int(step.calls[0])
        axes.text(0, top, f"after {calls} network calls, {left} masked", fontsize=7.5, color="#57606a", va="center")
        for line in page:
            top += 1
            column = 0
            for piece, state in line:
                style = {"fontsize": 9, "family": "monospace", "va": "center", "color": COLOURS[state]}
                for character in piece:
                    axes.text(column, top, character, parse_math=False, **style)  # type: ignore[arg-type]
                    column += 1
        top += 1.6
    figure.savefig(path, dpi=110)


def _lines(step: Step, before: Step | None, tokenizer: Tokenizer, columns: int) -> list[list[tuple[str, str]]]:
    """The text of one step, wrapped, as lines of (character, state); `before` is the step shown before it."""
    ids, masked = step.tokens[0].tolist(), step.masked[0].tolist()
    was = before.masked[0].tolist() if before is not None else step.changed[0].tolist()
    lines: list[list[tuple[str, str]]] = [[]]
    used = 0
    for piece, hidden, new in zip(tokenizer.pieces(ids, end="\u25a0"), masked, was, strict=True):
        state = "masked" if hidden else "fresh" if new else "old"
        for character in "\u2588\u2588" if hidden else piece.replace("\t", "    "):
            if character == "\n" or used >= columns:
                lines.append([])
                used = 0
            if character != "\n":
                lines[-1].append((character, state))
                used += 1
    return lines


def _metrics(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))
