"""Options in one word, as in "LLaDA:late_end=true,remasking=random"."""

from dataclasses import fields
from typing import Any

from remask.errors import RemaskError, unknown

MOST = 2**16
"""The largest whole number that an option takes."""


def parse_options(kind: Any, text: str) -> dict[str, Any]:
    """The options of a dataclass written as KEY=VALUE,...; RemaskError for an unknown key or a value of another type.

    Fields that take more than one value, or an object, cannot be given.
    """
    types = {f.name: f.type for f in fields(kind) if plain(f.type)}
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in types or not equals:
            raise unknown(f"option of {kind.__name__}", key, types)
        if types[key] is bool:
            if value not in ("true", "false"):
                raise RemaskError(f"{kind.__name__}: {key} is {value!r}; it must be true or false")
            found[key] = value == "true"
        elif types[key] is float:
            try:
                found[key] = float(value)
            except ValueError:
                raise RemaskError(f"{kind.__name__}: {key} is {value!r}; it must be a number") from None
        elif types[key] in (int, int | None):
            if not value.isdecimal() or int(value[:9]) > MOST:
                raise RemaskError(f"{kind.__name__}: {key} is {value!r}; it must be a whole number, at most {MOST}")
            found[key] = int(value)
        else:
            found[key] = value
    return found


def plain(kind: Any) -> bool:
    """Whether a type is a number, a truth value, a word, or a choice of words."""
    return kind in (bool, int, float, str) if isinstance(kind, type) else "tuple" not in str(kind)
