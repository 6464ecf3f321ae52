"""Files that appear under their name only when they are whole, and what differs from what is there already."""

import errno
import fcntl
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from remask.errors import RemaskError


def write_atomically(path: str | Path, data: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Writes a file so that other processes see the old one or the new one, never a part of it.

    The data are text (written as UTF-8), bytes, or a function that writes them into the binary file it is given. They
    go to a file beside `path`, reach the disk, and are then renamed. On any error, Ctrl-C among them, `path` is as it
    was and the file beside it is gone; what a killed process leaves there is overwritten by the next write. Missing
    folders are created. Processes that write one file at once wait for each other.

    Raises:
        RemaskError: the system refuses, as on a full disk or in a folder without permission.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open_alone(beside) as file:
            try:
                if callable(data):
                    data(file)
                else:
                    file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
                os.replace(beside, path)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise RemaskError(f"cannot write {path}: {error.strerror or error}") from error


def check_writable(path: str | Path) -> None:
    """Creates the folder of a file that is to be written after long work.

    RemaskError where `write_atomically` could not write it, so that the work is not done in vain.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.tmp")
        with _open_alone(beside):
            beside.unlink()
    except OSError as error:
        raise RemaskError(f"cannot write {path}: {error.strerror or error}") from None


def open_to_go_on(path: Path, option: str) -> BinaryIO:
    """Opens a file to read what an earlier run has written and to write on, made where it is not there.

    RemaskError, with the option that names another file, where it cannot be written or another process is writing it.
    """
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    except OSError as error:
        raise RemaskError(f"cannot write {path}: {error.strerror or error}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise RemaskError(f"another process is writing {path}; choose another {option} or wait") from None
    return file


def _open_alone(path: Path) -> BinaryIO:
    """Opens an empty file to write that no other process is writing, waiting for one that does."""
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "wb")  # which keeps what another one has written
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                file.truncate()
                return file
        file.close()  # the process that we waited for has renamed it


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two nested dictionaries of options, as ["--optimizer.lr 0.003 there, 0.001 now"].

    An option that only one of them has is "unset" in the other. A name with spaces is no option and gets no dashes. A
    class is written as jsonargparse does, {"class_path": "Masked", "init_args": {"objective": "elbo"}}, and reads
    --family and --family.objective; the options of two different classes are not compared.
    """
    return _differences("", before, now)


def _differences(path: str, before: Any, now: Any) -> list[str]:
    if before == now:
        return []
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        name = path if " " in path else f"--{path}"
        return [f"{name} {_show(before)} there, {_show(now)} now"]
    if before.get("class_path") != now.get("class_path"):
        return _differences(path, before.get("class_path", "unset"), now.get("class_path", "unset"))
    found = []
    for name in dict.fromkeys([*before, *now]):
        inner = path if name == "init_args" else f"{path}.{name}" if path else name
        found += _differences(inner, before.get(name), now.get(name))
    return found


def _show(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str) and (not value or " " in value) else str(value)
