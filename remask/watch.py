"""Shows text being denoised, live in a terminal: masks as shaded blocks, new tokens bold, uncertain ones red."""

import time
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from remask.data.tokenizer import Tokenizer
from remask.sampling.loop import Step

MASK = "\u2591\u2591"


CONTROLS = {code: "\ufffd" for code in (*range(32), 127, *range(128, 160)) if chr(code) not in "\n\t"}
"""Characters that would move the cursor or recolour the terminal."""


def without_controls(text: str) -> str:
    """A text in which characters that a terminal obeys are shown as replacement characters."""
    return text.translate(CONTROLS)


def frame(step: Step, tokenizer: Tokenizer, row: int = 0, columns: slice = slice(None)) -> Text:
    """One step of one row, or of some columns of it, as coloured text."""
    text = Text()
    valid = step.valid[row][columns]
    tokens, *about = (
        x[row][columns][valid].tolist() for x in (step.tokens, step.masked, step.changed, step.confidence)
    )
    pieces, states = tokenizer.pieces(tokens, mask=MASK, end="\u23f9"), zip(*about, strict=True)
    for piece, (masked, changed, sure) in zip(pieces, states, strict=True):
        text.append(MASK if masked else without_controls(piece), style(masked, changed, sure))
    return text


def style(masked: bool, changed: bool, sure: float) -> str:
    """Colour of a token, by whether it is new and by the probability with which it was written."""
    if masked:
        return "bright_black"
    colour = "green" if sure >= 0.7 else "yellow" if sure >= 0.3 else "red"
    return f"bold {colour}" if changed else "default" if sure == 1 else colour


def watch(steps: Iterator[Step], tokenizer: Tokenizer, seconds: float = 4.0, title: str = "denoising") -> Step:
    """Shows every step, for about `seconds` in all, and returns the last; where there is no terminal, prints a few."""
    console = Console(stderr=True)
    taken = list(steps) if not console.is_terminal else None
    if taken is not None:
        for i in sorted({0, len(taken) // 3, 2 * len(taken) // 3, len(taken) - 1}):
            console.print(
                f"step {i + 1}/{len(taken)}: {frame(taken[i], tokenizer).plain}", markup=False, highlight=False
            )
        return taken[-1]
    last = None
    with Live(console=console, refresh_per_second=20, auto_refresh=False) as live:
        for number, step in enumerate(steps):
            last = step
            left = int(step.masked[0].sum())
            live.update(Panel(frame(step, tokenizer), title=title, subtitle=f"step {number + 1}, {left} masked"))
            live.refresh()
            time.sleep(min(0.2, seconds / (left + int(step.changed[0].sum()) + 1)))
    assert last is not None
    return last
