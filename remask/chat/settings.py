"""One option of writing, changed while talking: `/set temperature 0.5`."""

from dataclasses import fields, replace
from typing import Any, get_type_hints

from remask.errors import RemaskError, unknown
from remask.options import accepted, read_value
from remask.sampling.params import SamplingParams


def changed(params: SamplingParams, name: str, text: str) -> SamplingParams:
    """The settings with another value of one of them, as the command line reads it; none or null takes it away.

    Raises:
        RemaskError: there is no such setting, or it cannot have this value.
    """
    name = name.lstrip("-").replace("-", "_")
    hints = get_type_hints(SamplingParams)
    if name not in hints:
        raise unknown("setting", name, hints)
    hint = hints[name]
    try:
        value = (
            None if hint is Any and text in ("none", "null") else read_value(hint, "null" if text == "none" else text)
        )
    except ValueError:
        raise RemaskError(f"{name} is {text!r}; it must be {accepted(hint)}") from None
    change: dict[str, Any] = {name: value}
    return replace(params, **change)


def shown(params: SamplingParams) -> list[str]:
    """A line for each setting, with a star before those that are not at their default."""
    usual = SamplingParams()
    lines = []
    for name in [field.name for field in fields(SamplingParams)]:
        value = getattr(params, name)
        text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        lines.append(f"{' ' if value == getattr(usual, name) else '*'} {name:<12}{text}")
    return lines
