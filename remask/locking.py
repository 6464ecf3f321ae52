"""Locks on folders, so that two processes do not work in one at the same time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from remask.errors import RemaskError


@contextmanager
def locked(folder: Path, doing: str) -> Iterator[None]:
    """Holds the lock on a folder, which is created if it does not exist. `doing` says what for, as "training".

    The operating system releases the lock of a process that dies, however it dies.

    Raises:
        RemaskError: another process holds the lock, or the folder cannot be written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RemaskError(f"{folder} cannot be written into: {error.strerror or error}; choose another --out") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RemaskError(f"another process is {doing} in {folder}; choose another --out or wait") from None
        yield
    finally:
        os.close(handle)


class Held(Exception):
    """Another process holds the lock on the folder."""


@contextmanager
def held(folder: Path, wait: bool = False) -> Iterator[None]:
    """Holds the lock on an existing folder itself, so that no file is put into it.

    Raises:
        Held: another process holds the lock, and `wait` is false.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Held from None
        yield
    finally:
        os.close(handle)
