"""The one exception for everything a user can cause.

A `RemaskError` names the option or the file, its value, and what would be accepted, in one or two lines. The command
line prints it without a traceback and exits with status 1, or 2 for wrong use.
"""

import difflib
from collections.abc import Iterable


class RemaskError(Exception):
    """Something that the user can put right. Its text is the whole message."""


class Interrupted(RemaskError):
    """The user stopped a job, and its work is saved."""


class WrongUse(RemaskError):
    """The options of a command are wrong in themselves, whatever the files hold."""


def unknown(what: str, name: object, known: Iterable[str]) -> RemaskError:
    """An error for a name that does not exist: it lists the names that do, and suggests the nearest one."""
    names = sorted(known)
    near = nearest(str(name), names)
    hint = f" Did you mean {near!r}?" if near else ""
    return RemaskError(f"unknown {what} {name!r}.{hint} Known: {', '.join(names)}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is spelt most alike; None where none is alike."""
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.6)), None)


def first_line(error: BaseException) -> str:
    """The first line of an error's text; the name of its class where it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
