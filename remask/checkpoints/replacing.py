"""Folders that are written whole: a new one is filled beside the old and takes its name in one instant.

`remask/files.py` does the same for single files.
"""

import ctypes
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from remask.errors import RemaskError
from remask.locking import Held, held

HERE, EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux."""


@contextmanager
def replacing(folder: Path, guard: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Yields a new folder to fill, which takes the place of `folder` at the end; on any error nothing has changed.

    `guard` raises where `folder` must not be replaced. It is called before, and again when no other process can
    replace it. RemaskError where the system refuses, as on a full disk.
    """
    folder = Path(os.path.abspath(folder))
    guard()
    fresh = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}.tmp")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        fresh.mkdir()
        with held(fresh):
            yield fresh
            with held(folder.parent, wait=True):
                guard()
                swap(fresh, folder)
    except OSError as error:
        raise RemaskError(f"cannot write {folder}: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # half-written, or what was replaced


def sweep(folder: Path) -> None:
    """Removes the unfinished folders that killed processes have left beside `folder`."""
    for left in folder.parent.glob(f".{folder.name}-????????.tmp"):
        if left.is_dir() and not left.is_symlink():
            with suppress(Held, OSError), held(left):
                shutil.rmtree(left, ignore_errors=True)


def swap(fresh: Path, folder: Path) -> None:
    """Exchanges `fresh` and `folder`, or renames `fresh` where there is no `folder`.

    Where the system cannot exchange names, a kill between two renames leaves the old folder as `folder`.old.
    """
    if not folder.exists():
        os.rename(fresh, folder)
    elif not exchange(fresh, folder):
        old = folder.with_name(folder.name + ".old")
        old = fresh.with_suffix(".old") if old.exists() or old.is_symlink() else old
        os.rename(folder, old)
        os.rename(fresh, folder)
        shutil.rmtree(old, ignore_errors=True)


def exchange(one: Path, two: Path) -> bool:
    """Exchanges the names of two folders; False where the system cannot."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return call is not None and call(HERE, os.fsencode(one), HERE, os.fsencode(two), EXCHANGE) == 0
