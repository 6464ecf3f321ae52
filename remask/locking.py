"""One process on a folder at a time."""

import fcntl
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
