"""Values of options: from the command line, from YAML, and from one word as "LLaDA:late_end=true,remasking=random".

All three are read here, by the type of the option, so that they accept the same and complain in the same words.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import Field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from remask.errors import RemaskError, unknown

LARGEST = 2**16
"""The largest whole number among the options of a sampler or a family that are written in one word."""


def listed_fields(kind: Any) -> list[Field[Any]]:
    """The fields of a dataclass in the order of the help: those that its class names in `listed_first`, then the others
    as they stand, those of its bases before its own."""
    every = {field.name: field for field in fields(kind)}
    return [every.pop(name) for name in getattr(kind, "listed_first", ())] + list(every.values())


def read_value(hint: Any, value: Any) -> Any:
    """The value of an option of type `hint`, from text or from what YAML made of it.

    Text is taken as it stands where the option holds text. Elsewhere "null" is None, where that is accepted.

    Raises:
        ValueError: the value is none of this type.
    """
    kinds = get_args(hint) if is_union(hint) else (hint,)
    for kind in kinds:
        if kind is not NoneType:
            with suppress(ValueError):
                return _read(kind, value)
    if NoneType in kinds and value in (None, "null"):
        return None
    raise ValueError(f"{value!r} is not {accepted(hint)}")


def _read(kind: Any, value: Any) -> Any:
    """A value of one type that is no union."""
    if kind is Any:
        return value
    if get_origin(kind) is Literal:
        return get_args(kind)[[str(choice) for choice in get_args(kind)].index(str(value))]
    if get_origin(kind) in (list, tuple):
        return _read_list(kind, value)
    if kind is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if kind is str and isinstance(value, str):
        return value
    if kind is Path and value and isinstance(value, str | Path):
        return Path(value)
    if kind in (int, float) and isinstance(value, str | kind | int) and not isinstance(value, bool):
        return kind(value)
    raise ValueError


def _read_list(kind: Any, value: Any) -> Any:
    """A list, or a tuple of a fixed number of values; as text it is written [a, b]."""
    if isinstance(value, str):
        import yaml

        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError from None
    inner = [hint for hint in get_args(kind) if hint is not Ellipsis]
    if not isinstance(value, list | tuple) or (len(inner) > 1 and len(inner) != len(value)):
        raise ValueError
    hints = inner if len(inner) > 1 else inner * len(value)
    return get_origin(kind)(read_value(hint, one) for hint, one in zip(hints, value, strict=True))


def accepted(hint: Any) -> str:
    """What an option accepts, in words."""
    if is_union(hint):
        lists = [kind for kind in get_args(hint) if get_origin(kind) is list]
        if lists and NoneType in get_args(hint):  # which is left out rather than given as null
            return f"{accepted(lists[0])}, as [a] for a single one"
        return " or ".join("null" if kind is NoneType else accepted(kind) for kind in get_args(hint))
    if get_origin(hint) is Literal:
        *others, last = map(str, get_args(hint))
        return f"{', '.join(others)} or {last}" if others else last
    if get_origin(hint) is list:
        return f"a list [a, b, ...] each of which is {accepted(get_args(hint)[0])}"
    if get_origin(hint) is tuple:
        return f"[{', '.join(accepted(kind) for kind in get_args(hint))}]"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def is_union(hint: Any) -> bool:
    """Whether a type is `A | B`."""
    return get_origin(hint) in (Union, UnionType)


def holds_text(hint: Any) -> bool:
    """Whether an option's value is text, so that it is taken as it stands."""
    return hint is str or (is_union(hint) and str in get_args(hint))


def parse_options(kind: Any, text: str, largest: int = LARGEST) -> dict[str, Any]:
    """The options of a dataclass written as KEY=VALUE,...; RemaskError for an unknown key or a value of another type.

    Fields that take more than one value, or an object, cannot be given. Whole numbers are from 0 to `largest`.
    """
    hints = get_type_hints(kind)
    types = {f.name: hints[f.name] for f in fields(kind) if f.init and fits_one_word(hints[f.name])}
    given: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in types:
            raise unknown(f"option of {kind.__name__}", key, types)
        if not equals:
            raise RemaskError(f"{kind.__name__}: {key} has no value; write {key}=VALUE")
        try:
            given[key] = read_value(types[key], value)
            if isinstance(given[key], int) and not 0 <= given[key] <= largest:
                raise ValueError
        except ValueError:
            most = f", from 0 to {largest}" if int in (types[key], *get_args(types[key])) else ""
            raise RemaskError(f"{kind.__name__}: {key} is {value!r}; it must be {accepted(types[key])}{most}") from None
    return given


def build_named(what: str, text: str, known: Mapping[str, Any], also: Iterable[str] = ()) -> Any:
    """One of the known classes, with its options, from "NAME" or "NAME:KEY=VALUE,...".

    RemaskError as of `parse_options`, and for another name than those: it calls it a `what`, and names the known ones
    and those of `also`.
    """
    name, _, given = text.partition(":")
    if name not in known:
        raise unknown(what, name, [*known, *also])
    return known[name](**parse_options(known[name], given))


def fits_one_word(hint: Any) -> bool:
    """Whether a type is a number, a truth value, text, a choice of words, or one of these or nothing."""
    kinds = get_args(hint) if is_union(hint) else (hint,)
    return all(kind in (bool, int, float, str, NoneType) or get_origin(kind) is Literal for kind in kinds)
