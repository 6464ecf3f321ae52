"""Ways of filling a canvas: one file per sampler. Importing the folder imports its files."""

import importlib
import pkgutil

from remask.sampling.base import Canvas, Dice, Pen, Sampler, Step, samplers

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Canvas", "Dice", "Pen", "Sampler", "Step", "samplers"]
