"""Another answer to Ctrl-C and SIGTERM for the duration of a job."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def handled(stop: Callable[[], None]) -> Iterator[None]:
    """Calls `stop()` at each Ctrl-C (SIGINT) and SIGTERM. In threads other than the main one nothing is changed."""
    try:
        before = {n: signal.signal(n, lambda *_: stop()) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
