"""Families by name, and as plain data in checkpoints and recipes."""

from dataclasses import fields
from typing import Any

from remask.errors import RemaskError, unknown
from remask.extensions import subclasses_in
from remask.families.base import Family
from remask.families.rates import MaskRates

RENAMED = {"Uniform": {"least": "t_min", "top_k": "soft_top_k"}}
"""Options that older checkpoints have under other names: {family: {old name: name}}."""

ADDED = {"Masked": {"objective": "bound", "ceiling": 1.0}, "Interpolating": {"ceiling": 1.0}}
"""Options that older checkpoints and runs do not name, and what they were then."""


def renewed(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a family as an older version described them, in the words and with the options of today."""
    renamed = {RENAMED.get(name, {}).get(old, old): value for old, value in options.items()}
    return ADDED.get(name, {}) | renamed


def families() -> dict[str, type[Family]]:
    """Every family of this package by class name."""
    return {kind.__name__: kind for kind in subclasses_in("remask.families", Family)}


def describe(family: Family) -> dict[str, Any]:
    """A family as plain data: its name and options, without the vocabulary. `build` reads it back."""
    options = {f.name: getattr(family, f.name) for f in fields(family) if not f.name.startswith("_")}
    return {"name": type(family).__name__, **options}


def in_effect(family: Family) -> dict[str, Any]:
    """`describe` with the mask rates that the family has where none are given."""
    rates = {"ceiling": family.first_ceiling, "bell": family.bell_until} if isinstance(family, MaskRates) else {}
    return describe(family) | rates


def build(description: dict[str, Any]) -> Family:
    """The family that `describe` described.

    Only names of families in this package are accepted, and no code is loaded. RemaskError for an unknown name or
    option.
    """
    if not isinstance(description, dict):
        raise RemaskError(f"a family is described by its name and options, not by {description!r}")
    known, options = families(), dict(description)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in known:
        raise unknown("family", name, known)
    try:
        return known[name](**renewed(name, options))
    except TypeError as error:
        raise RemaskError(f"family {name}: {error}") from None
