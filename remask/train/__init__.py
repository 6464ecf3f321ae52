"""Pre-training. `remask.train(...)` is `remask.train.run.train(...)`: the folder answers to a call."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any


class _Called(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Path:
        """See `remask.train.run.train`."""
        from remask.train.run import train

        return train(*args, **options)


sys.modules[__name__].__class__ = _Called
