"""Families, samplers and estimators are found by their files: a new one is a new file, and there is no list to edit."""

import importlib
import inspect
import pkgutil
from typing import Any


def import_files(package: str) -> None:
    """Imports every file of a folder, such as "remask.families", so that its classes are known."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def subclasses_in(package: str, base: Any) -> list[Any]:
    """The concrete subclasses of a class, at any depth, that are defined in a folder of this package.

    A class of other people's code is not among them, so that a checkpoint or a recipe cannot name one.
    """
    known, todo = [], list(base.__subclasses__())
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if kind.__module__.startswith(f"{package}.") and not inspect.isabstract(kind):
            known.append(kind)
    return known
