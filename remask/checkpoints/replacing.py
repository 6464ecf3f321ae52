"""A folder that appears under its name only when it is whole, and takes the place of an older one in one instant."""

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
    """A new folder to fill beside `folder`, which takes its place at the end; on any error nothing has changed.

    `guard` raises where `folder` must not be written; it is asked before, and again when nobody else can write it.
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
    """Removes what processes that were killed have left beside `folder`."""
    for left in folder.parent.glob(f".{folder.name}-????????.tmp"):
        if left.is_dir() and not left.is_symlink():
            with suppress(Held, OSError), held(left):
                shutil.rmtree(left, ignore_errors=True)


def swap(fresh: Path, folder: Path) -> None:
    """Puts `fresh` where `folder` is, and what was there where `fresh` was; in one instant where the system can."""
    if not folder.exists():
        os.rename(fresh, folder)
    elif not exchanged(fresh, folder):
        old = folder.with_name(folder.name + ".old")
        old = fresh.with_suffix(".old") if old.exists() or old.is_symlink() else old
        os.rename(folder, old)
        os.rename(fresh, folder)
        shutil.rmtree(old, ignore_errors=True)


def exchanged(one: Path, two: Path) -> bool:
    """Whether the system could exchange two names."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return call is not None and call(HERE, os.fsencode(one), HERE, os.fsencode(two), EXCHANGE) == 0
