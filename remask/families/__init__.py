"""Ways of destroying text: one file per family. Importing the folder imports its files."""

from remask.batch import Batch
from remask.extensions import import_files
from remask.families.base import Family, Loss
from remask.families.denoiser import Denoiser, Noisy
from remask.families.description import build, describe, families
from remask.vocabulary import Vocabulary

import_files(__name__)

__all__ = ["Batch", "Denoiser", "Family", "Loss", "Noisy", "Vocabulary", "build", "describe", "families"]
