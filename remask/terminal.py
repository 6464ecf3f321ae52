"""What the person at the terminal sees: progress bars there, plain lines where the output goes elsewhere."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import dumps
from typing import Any

INTERVAL = 10.0
"""Seconds between two lines where there is no terminal."""


def say(text: str) -> None:
    """Prints a line on standard error, so that standard output holds data only."""
    print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """3725 -> '1:02:05', 65 -> '1:05'."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


@contextmanager
def progress(what: str, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Callable[..., None]]:
    """Shows how far a job is. Yields `tick(n, **info)`, which advances by `n` units and shows `info` beside the bar.

    `total` is the number of units of the whole job (None: not known), `done` how many of them an earlier run did.
    """
    if sys.stderr.isatty():
        yield from _bar(what, total, unit, done)
    else:
        yield from _lines(what, total, unit, done)


def bars() -> Any:
    """rich's progress bars as remask shows them: a task has the fields `count` and `info`."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
    )
    return Progress(*columns, console=Console(stderr=True))


def _bar(what: str, total: int | None, unit: str, done: int) -> Iterator[Callable[..., None]]:
    with bars() as bar:
        task = bar.add_task(what, total=total, completed=done, count="", info="")
        state = {"done": done}

        def tick(n: int = 1, **info: Any) -> None:
            state["done"] += n
            bar.update(task, advance=n, count=_count(state["done"], total, unit), info=_info(info))

        yield tick


def _lines(what: str, total: int | None, unit: str, done: int) -> Iterator[Callable[..., None]]:
    start = last = time.monotonic()
    first, latest = done, {}
    written = None

    def line(now: float) -> None:
        nonlocal written
        written = done
        rate = (done - first) / max(now - start, 1e-9)
        left = f", {duration((total - done) / rate)} left" if total and rate > 0 and done < total else ""
        say(f"{what}: {_count(done, total, unit)} in {duration(now - start)}{left}  {_info(latest)}".rstrip())

    def tick(n: int = 1, **info: Any) -> None:
        nonlocal done, last, latest
        done, latest = done + n, info or latest
        now = time.monotonic()
        if now - last >= INTERVAL:
            last = now
            line(now)

    yield tick
    if written != done:
        line(time.monotonic())


def _count(done: int, total: int | None, unit: str) -> str:
    of = f"/{total:,}" if total else ""
    return f"{done:,}{of}{' ' + unit if unit else ''}"


def _info(info: dict[str, Any]) -> str:
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in info.items())


def document(value: Any) -> str:
    """A value as one line of JSON. Numbers that JSON cannot write (NaN and the infinities) become null."""

    def plain(x: Any) -> Any:
        if isinstance(x, dict):
            return {k: plain(v) for k, v in x.items()}
        if isinstance(x, list):
            return [plain(v) for v in x]
        return None if isinstance(x, float) and not math.isfinite(x) else x

    return dumps(plain(value), ensure_ascii=False, allow_nan=False)
