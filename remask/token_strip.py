"""A text whose tokens are coloured by their nats, for `remask score --tokens`; a table where there is no colour."""

import math

from rich.console import Console
from rich.text import Text

from remask.scoring import TokenScores

STYLES = ((0.7, "green"), (0.3, "yellow"), (0.05, "red"), (0.0, "bold white on red"))
"""The least probability of a token, e^-nats, and the colour of those that have it; the first as `--watch` has them."""


def style_of(nats: float) -> str:
    """The colour of a token."""
    return next(style for least, style in STYLES if math.exp(-max(nats, 0.0)) >= least)


def strip(scores: TokenScores) -> Text:
    """The text, each token in its colour, and below it what the colours mean."""
    text = Text()
    for piece, nats in zip(scores.texts, scores.nats, strict=True):
        text.append(piece, style_of(nats))
    text.append("\n")
    above = ""
    for least, style in STYLES:
        name = f"p >= {least}" if least else f"p < {above}"
        text.append("\n" if above == "" else "  ").append(name, style)
        above = str(least)
    return text


def table(scores: TokenScores) -> str:
    """A line for each token: its nats, its error where it has one, and its text in quotes."""
    lines = []
    for piece, nats, error in zip(scores.texts, scores.nats, scores.stderr, strict=True):
        spread = "" if error == 0 else f" +- {error:.4f}"
        lines.append(f"{nats:9.4f}{spread}  {piece!r}")
    return "\n".join(lines)


def show_tokens(scores: TokenScores, console: Console | None = None) -> None:
    """Prints the strip on a terminal with colours; elsewhere, and with NO_COLOR set, the table."""
    console = console or Console()
    if console.is_terminal and console.color_system is not None and not console.no_color:
        console.print(strip(scores), soft_wrap=True)
    else:
        console.out(table(scores), highlight=False)
