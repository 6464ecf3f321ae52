"""Measurements kept in a JSON file, to which a command that is run again adds those that are missing."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from remask.errors import RemaskError
from remask.files import differences

T = TypeVar("T")


def read_kept(
    path: Path, settings: Mapping[str, Any], parse: Callable[[dict[str, Any]], T]
) -> tuple[T, dict[str, Any]]:
    """What `parse` makes of a file of measurements, and the settings of both: those there, and those asked now.

    Settings are compared by name; one that the file does not have, such as the weights of another model, is new there.

    Raises:
        RemaskError: the file is damaged, or was measured with other values of these settings.
    """
    try:
        content = json.loads(path.read_text())
        parsed, before = parse(content), dict(content["settings"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RemaskError(f"{path} is damaged: {error!r}; remove it, or choose another --out") from None
    known = {name: value for name, value in settings.items() if name in before}
    other = differences(before, {**before, **known})
    if other:
        raise RemaskError(f"{path} was measured otherwise: {'; '.join(other)}. Choose another --out")
    return parsed, {**before, **settings}
