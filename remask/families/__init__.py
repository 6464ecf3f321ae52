"""Ways of destroying text: one file per family. Importing the folder imports its files."""

import importlib
import pkgutil

from remask.families.base import Batch, Denoiser, Family, Loss, Noisy, Vocabulary, build, describe, families

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Batch", "Denoiser", "Family", "Loss", "Noisy", "Vocabulary", "build", "describe", "families"]
