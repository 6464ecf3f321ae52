"""Another answer to Ctrl-C and SIGTERM for the duration of a job, and processes that end with the one above them."""

import ctypes
import signal
import sys
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


@contextmanager
def ignored(number: signal.Signals) -> Iterator[None]:
    """A signal has no effect meanwhile, nor ever on the processes that are started. Only in the main thread."""
    try:
        before = signal.signal(number, signal.SIG_IGN)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(number, before)


def end_with_parent(how: signal.Signals = signal.SIGINT) -> None:
    """Asks Linux to send this process a signal when the one that started it dies, even of kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, how)  # PR_SET_PDEATHSIG
