"""One process on a folder at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from remask.errors import RemaskError


@contextmanager
def locked(folder: Path, doing: str) -> Iterator[None]:
    """Holds `folder/.lock`, made if need be. RemaskError when another process does.

    The system drops the lock of a process that dies, however it dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RemaskError(f"another process is {doing} in {folder}; choose another --out or wait") from None
        yield


class Held(Exception):
    """Another process holds the folder."""


@contextmanager
def held(folder: Path, wait: bool = False) -> Iterator[None]:
    """Holds a folder that exists, without a file in it. Raises `Held` when another process does, or waits."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Held from None
        yield
    finally:
        os.close(handle)
