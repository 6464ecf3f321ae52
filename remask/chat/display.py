"""Shows an answer while it is written, live in a terminal; elsewhere only the whole text is printed."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from remask.data.tokenizer import Tokenizer
from remask.sampling.loop import Step
from remask.watch import frame, without_controls

INTERVAL = 0.05
"""Seconds between two pictures of an answer."""


class Display:
    """Where answers are shown."""

    def __init__(self, file: TextIO | None = None, terminal: bool | None = None) -> None:
        """Answers go to `file`, by default standard output; `terminal`: whether it is one, by default as it says."""
        self.console = Console(file=file, force_terminal=terminal)

    @property
    def live(self) -> bool:
        """Whether an answer is shown while it is written."""
        return self.console.is_terminal

    def last_of(
        self, steps: Iterator[Step], tokenizer: Tokenizer, given: int, in_order: bool
    ) -> tuple[Step | None, bool]:
        """Shows the steps of an answer, and returns the last of them and whether Ctrl-C ended it before.

        Arguments:
            steps: of one row, whose answer begins behind `given` positions.
            tokenizer: of the model.
            given: positions of the prompt.
            in_order: whether it is written from left to right, so that masks behind it show nothing.
        """
        last, shown = None, -INTERVAL
        picture = Live(console=self.console, auto_refresh=False, transient=True) if self.live else nullcontext()
        with picture as live:
            try:
                for last in steps:
                    if live is not None and time.monotonic() - shown >= INTERVAL:
                        live.update(self.tail(answer_frame(last, tokenizer, given, in_order)), refresh=True)
                        shown = time.monotonic()
            except KeyboardInterrupt:
                return last, True
        return last, False

    def tail(self, text: Text) -> Text:
        """The last lines of a text, as many as the terminal has room for."""
        lines = text.wrap(self.console, self.console.width)
        return Text("\n").join(lines[-max(1, self.console.height - 2) :])

    def show(self, text: str) -> None:
        """Prints a whole answer."""
        print(without_controls(text) if self.live else text, file=self.console.file, flush=True)


def answer_frame(step: Step, tokenizer: Tokenizer, given: int, in_order: bool) -> Text:
    """An answer as coloured text, up to its first end-of-text token."""
    ends = (tokenizer.vocabulary.end, tokenizer.vocabulary.end_of_turn)
    tokens, masked = step.tokens[0].tolist(), step.masked[0].tolist()
    written = (i for i in range(given, len(tokens)) if not masked[i] and tokens[i] in ends)
    most = next(written, len(tokens))
    if in_order:
        most = min([most, *(i for i in range(given, len(tokens)) if masked[i])])
    return frame(step, tokenizer, columns=slice(given, most))
