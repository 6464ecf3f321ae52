"""remask: the toolkit for language models that write by denoising.

    m = remask.load("runs/x")
    remask.sample(m, prompt="def ", length=128, sampler="Confidence", steps=32).text
    remask.score(m, text="...").bits_per_byte

Names are imported when first used, so that `import remask` costs nothing.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from remask.api import sample, stream
    from remask.checkpoints.checkpoint import Checkpoint, load
    from remask.checkpoints.convert import convert
    from remask.checkpoints.overrides import Overrides
    from remask.errors import RemaskError
    from remask.evaluation.periods import ByPeriod, perplexity_by
    from remask.evaluation.perplexity import Perplexity, perplexity
    from remask.evaluation.quality import TextQuality, quality
    from remask.generation.result import Sample
    from remask.likelihood import Estimate
    from remask.presets import preset
    from remask.scoring import TokenScores, score, score_tokens
    from remask.training.distill import Distillation, distill
    from remask.training.optim import Budget, Optimizer
    from remask.training.preference.run import Preferences, prefer
    from remask.training.recipe import Recipe
    from remask.training.reinforcement.run import Reinforcement, reinforce
    from remask.training.run import train

_HOME = {
    "Budget": "remask.training.optim",
    "ByPeriod": "remask.evaluation.periods",
    "Checkpoint": "remask.checkpoints.checkpoint",
    "Distillation": "remask.training.distill",
    "Estimate": "remask.likelihood",
    "Optimizer": "remask.training.optim",
    "Overrides": "remask.checkpoints.overrides",
    "Perplexity": "remask.evaluation.perplexity",
    "Preferences": "remask.training.preference.run",
    "Recipe": "remask.training.recipe",
    "Reinforcement": "remask.training.reinforcement.run",
    "RemaskError": "remask.errors",
    "Sample": "remask.generation.result",
    "TextQuality": "remask.evaluation.quality",
    "TokenScores": "remask.scoring",
    "convert": "remask.checkpoints.convert",
    "distill": "remask.training.distill",
    "load": "remask.checkpoints.checkpoint",
    "perplexity": "remask.evaluation.perplexity",
    "perplexity_by": "remask.evaluation.periods",
    "prefer": "remask.training.preference.run",
    "preset": "remask.presets",
    "quality": "remask.evaluation.quality",
    "reinforce": "remask.training.reinforcement.run",
    "sample": "remask.api",
    "score": "remask.scoring",
    "score_tokens": "remask.scoring",
    "stream": "remask.api",
    "train": "remask.training.run",
}
__all__ = [
    "Budget",
    "ByPeriod",
    "Checkpoint",
    "Distillation",
    "Estimate",
    "Optimizer",
    "Overrides",
    "Perplexity",
    "Preferences",
    "Recipe",
    "Reinforcement",
    "RemaskError",
    "Sample",
    "TextQuality",
    "TokenScores",
    "convert",
    "distill",
    "load",
    "perplexity",
    "perplexity_by",
    "prefer",
    "preset",
    "quality",
    "reinforce",
    "sample",
    "score",
    "score_tokens",
    "stream",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'remask' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
