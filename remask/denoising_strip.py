"""A picture of a text being denoised: the text at several moments, with what is hidden, new and given."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from remask.data.tokenizer import Tokenizer
from remask.sampling.loop import Step

SIZE = 9.0
"""Points of the text."""
ADVANCE, LINE = 0.60205 * SIZE / 72, 1.5 * SIZE / 72
"""Inches of a character of DejaVu Sans Mono, and of a line."""
GAP = 1.7
"""Lines before a moment, in which its title stands."""
HIDDEN = "#e3e6ea"


@dataclass(frozen=True)
class Cell:
    """A piece of one token on one line of a text."""

    line: int
    column: int
    text: str
    """What stands there; a hidden token is two spaces."""
    state: Literal["hidden", "new", "earlier", "given"]
    confidence: float


def denoising_strip(
    steps: Sequence[Step], tokenizer: Tokenizer, path: Path, frames: int = 5, columns: int = 80
) -> None:
    """A text at several moments of its denoising.

    Hidden tokens are grey; those that are new since the moment before stand on a colour that says with which
    probability they were written.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    shown = [steps[round(i * (len(steps) - 1) / (frames - 1))] for i in range(frames)]
    given = (~(steps[0].masked | steps[0].changed))[0].tolist()
    befores = zip(shown, [None, *shown], strict=False)
    pages = [cells(step, before, given, tokenizer, columns) for step, before in befores]
    lines = [1 + max((cell.line for cell in page), default=0) for page in pages]
    height = sum(lines) + GAP * frames + 2.2
    figure = Figure(figsize=((columns + 4) * ADVANCE, height * LINE), facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(-2, columns + 2), ylim=(height, 0))
    axes.axis("off")
    font: dict[str, Any] = {"family": "DejaVu Sans Mono", "fontsize": SIZE, "va": "center_baseline"}
    small: dict[str, Any] = font | {"fontsize": 0.8 * SIZE, "color": "#57606a"}
    top = 0.0
    for step, page, count in zip(shown, pages, lines, strict=True):
        calls, left = int(step.calls[0]), int(step.masked[0].sum())
        title = f"{calls} network call{'s' * (calls != 1)}, {left} hidden"
        axes.text(0, top + GAP - 0.7, title, **small)
        top += GAP
        for cell in page:
            at, wide = top + cell.line, len(cell.text)
            if cell.state in ("hidden", "new"):
                colour = HIDDEN if cell.state == "hidden" else confidence_colour(cell.confidence)
                inset = 0.06 if cell.state == "hidden" else 0.0
                axes.add_patch(
                    Rectangle((cell.column + inset, at + 0.08), wide - 2 * inset, 0.84, color=colour, linewidth=0)
                )
            colour = "#8c959f" if cell.state == "given" else "#1f2328"
            axes.text(cell.column, at + 0.5, cell.text, **font, color=colour, parse_math=False)
        top += count
    _legend(axes, top + 1.2, small, Rectangle)
    figure.savefig(path, dpi=150)


def confidence_colour(probability: float) -> tuple[float, float, float]:
    """From amber, for tokens that were written with a small probability, to green, for certain ones."""
    low, high = (1.0, 0.80, 0.45), (0.55, 0.86, 0.62)
    return tuple(a + (b - a) * probability for a, b in zip(low, high, strict=True))  # type: ignore[return-value]


def _legend(axes: Any, at: float, small: dict[str, Any], rectangle: Any) -> None:
    """What the colours mean."""
    column = 0.0
    for colour, says in ((HIDDEN, "hidden"), (None, "new, by the probability it was written with")):
        if colour is not None:
            axes.add_patch(rectangle((column, at - 0.42), 2, 0.84, color=colour, linewidth=0))
            column += 2
        else:
            for step in range(16):
                shade = confidence_colour(step / 15)
                axes.add_patch(rectangle((column, at - 0.42), 0.51, 0.84, color=shade, linewidth=0))
                column += 0.5
        axes.text(column + 0.7, at, says, **small)
        column += 0.8 * len(says) + 3
    axes.text(column, at, "grey text: given", **small)


def cells(step: Step, before: Step | None, given: Sequence[bool], tokenizer: Tokenizer, columns: int) -> list[Cell]:
    """The text of one step on lines of so many columns.

    `before` is the step that is shown before it, and `given` says which positions the model did not write.
    """
    ids, masked, confidence = (x[0].tolist() for x in (step.tokens, step.masked, step.confidence))
    was = before.masked[0].tolist() if before is not None else step.changed[0].tolist()
    found: list[Cell] = []
    line = used = 0
    for i, (piece, hidden) in enumerate(zip(tokenizer.pieces(ids, end="\u25a0"), masked, strict=True)):
        state = "hidden" if hidden else "new" if was[i] else "given" if given[i] else "earlier"
        text = "  " if hidden else piece.replace("\t", "    ")
        for number, part in enumerate(text.split("\n")):
            if number:
                line, used = line + 1, 0
            while part:
                if used >= columns:
                    line, used = line + 1, 0
                here, part = part[: columns - used], part[columns - used :]
                found.append(Cell(line, used, here, state, confidence[i]))  # type: ignore[arg-type]
                used += len(here)
    return found
