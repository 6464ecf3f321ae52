"""Rolling windows over a long text: each token is scored once, given as much of the text before it as fits.

The windows are those of lm-evaluation-harness (`get_rolling_token_windows`): the first scores as many tokens as fit,
each later one `stride` more, behind as many earlier tokens as there is room for. One thing differs. There a window
begins with the last token of the text before it; here a row always begins as in training, with the start or
end-of-text token of an autoregressive model, which takes the place of that token.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A part of a text that is scored."""

    first: int
    """The first token that is given."""
    scored: int
    """The first token that is scored."""
    end: int
    """The token behind the last."""


def rolling_windows(length: int, room: int, stride: int) -> Iterator[Window]:
    """The windows of at most `room` tokens over a text of `length` tokens; `stride` is from 1 to `room`."""
    scored, end = 0, min(room, length)
    while scored < length:
        yield Window(max(0, end - room), scored, end)
        scored, end = end, min(end + stride, length)
