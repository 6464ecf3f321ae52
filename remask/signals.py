"""What Ctrl-C and SIGTERM do for a while."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def handled(stop: Callable[[], None]) -> Iterator[None]:
    """Calls `stop()` at each of them, in place of what they did. Outside the main thread, nothing is changed."""
    try:
        before = {n: signal.signal(n, lambda *_: stop()) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
