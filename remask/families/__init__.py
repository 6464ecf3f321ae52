"""Ways of destroying text: one file per family. Importing the folder imports its files."""

import importlib
import pkgutil

from remask.batch import Batch
from remask.families.base import Family, Loss
from remask.families.denoiser import Denoiser, Noisy
from remask.families.description import build, describe, families
from remask.vocabulary import Vocabulary

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Batch", "Denoiser", "Family", "Loss", "Noisy", "Vocabulary", "build", "describe", "families"]
