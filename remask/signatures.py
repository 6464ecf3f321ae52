"""The options of a verb, as the signature of its function says them.

A parameter is an option, and so is a field of a dataclass that the function takes without a default. A dataclass inside
such a dataclass, or one that the function takes with a default, is a section: its fields are `--section.field`. Where
it has subclasses, as `Family`, one of them is chosen by its name: `--family Masked --family.objective count`.
Descriptions come from the docstring of the function and from those below the fields.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, is_dataclass, replace
from types import NoneType
from typing import Any, get_args, get_type_hints

import docstring_parser

from remask.options import is_union, listed_fields


@dataclass(frozen=True)
class Option:
    """A parameter of a function or a field of a dataclass."""

    name: str
    """With the section, as `optimizer.lr`."""
    hint: Any
    default: Any
    """MISSING where the option must be given."""
    help: str
    section_help: str = ""

    @property
    def flag(self) -> bool:
        """Whether it is given as --name or --no-name."""
        return self.hint is bool or bool in get_args(self.hint)

    @property
    def by_name(self) -> bool:
        """Whether its value is an object of a class chosen by name, such as a family."""
        return has_subclasses(self.hint)


def options_of(kind: Callable[..., Any], section: str = "", section_help: str = "") -> Iterator[Option]:
    """The options of a function or a dataclass, those of its dataclasses among them, in order."""
    help = descriptions(kind)
    for name, hint, default in parameters(kind):
        inner = section_of(hint)
        if flattened(kind, hint, default):
            yield from options_of(hint)
        elif inner is None:
            yield Option(section + name, hint, default, help.get(name, ""), section_help)
        else:
            for option in options_of(inner, f"{section}{name}.", help.get(name, "")):
                own = option.name.removeprefix(f"{section}{name}.")
                yield replace(option, default=getattr(default, own)) if hasattr(default, own) else option


def parameters(kind: Callable[..., Any]) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default (or MISSING) of each parameter of a function or field of a dataclass."""
    hints = get_type_hints(kind)
    if not isinstance(kind, type):
        for name, parameter in inspect.signature(kind).parameters.items():
            yield name, hints[name], MISSING if parameter.default is parameter.empty else parameter.default
        return
    for field in listed_fields(kind):
        if field.init and not field.name.startswith("_"):
            default = field.default if field.default_factory is MISSING else field.default_factory()
            yield field.name, hints[field.name], default


def section_of(hint: Any) -> type | None:
    """The dataclass in `Dataclass` or `Dataclass | None`, whose fields are options; None for any other type."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType] if is_union(hint) else [hint]
    is_one = len(kinds) == 1 and isinstance(kinds[0], type) and is_dataclass(kinds[0])
    return kinds[0] if is_one and not has_subclasses(kinds[0]) else None


def has_subclasses(hint: Any) -> bool:
    """Whether a type is a class with subclasses, one of which is chosen by its name."""
    return isinstance(hint, type) and is_dataclass(hint) and bool(hint.__subclasses__())


def flattened(kind: Callable[..., Any], hint: Any, default: Any) -> bool:
    """Whether a parameter of `kind` is a dataclass whose fields are options, without the name of a section before."""
    return not isinstance(kind, type) and default is MISSING and isinstance(hint, type) and is_dataclass(hint)


def descriptions(kind: Callable[..., Any]) -> dict[str, str]:
    """What the docstrings of a function, or of a dataclass and its bases, say about each parameter."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]) if isinstance(kind, type) else (kind,):
        for parameter in docstring_parser.parse_from_object(one).params:
            found[parameter.arg_name] = " ".join((parameter.description or "").split())
    return found
