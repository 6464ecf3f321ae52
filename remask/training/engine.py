"""Lightning, imported quickly and quietly."""

import importlib.util
import logging
import sys
import types
import warnings
from importlib.metadata import version


def import_lightning() -> None:
    """Imports Lightning in half of the time that it takes by itself, and keeps its warnings off the terminal.

    Of torchmetrics Lightning uses two classes, and imports all of it: scipy.signal, transformers and matplotlib with
    it, which are half of its 10 s. Here it finds a torchmetrics of these classes only. Afterwards `import torchmetrics`
    gives the whole package, whose classes are the same.
    """
    whole = "torchmetrics" in sys.modules or "lightning" in sys.modules
    if not whole:
        try:
            sys.modules["torchmetrics"] = two_classes()
        except ImportError:  # another version, with other needs: it is imported as a whole
            forget_torchmetrics()
            whole = True
    import lightning.pytorch.loggers  # noqa: F401

    if not whole:
        del sys.modules["torchmetrics"]
    warnings.filterwarnings("ignore", module="lightning")
    for name in ("lightning.pytorch", "lightning.fabric"):  # which set their own level when imported
        logging.getLogger(name).setLevel(logging.ERROR)


def two_classes() -> types.ModuleType:
    """torchmetrics with Metric and MetricCollection only. ImportError where they cannot be imported alone."""
    found = importlib.util.find_spec("torchmetrics")
    if found is None or found.submodule_search_locations is None:
        raise ImportError("torchmetrics")
    module = types.ModuleType("torchmetrics")
    module.__path__ = list(found.submodule_search_locations)
    module.__spec__, module.__version__ = found, version("torchmetrics")  # type: ignore[attr-defined]
    module._logger = logging.getLogger("torchmetrics")  # type: ignore[attr-defined]
    sys.modules["torchmetrics"] = module
    importlib.import_module("torchmetrics.utilities")  # first, since it and torchmetrics.metric import each other
    for name, place in (("Metric", "metric"), ("MetricCollection", "collections")):
        setattr(module, name, getattr(importlib.import_module(f"torchmetrics.{place}"), name))
    return module


def forget_torchmetrics() -> None:
    """Removes what was imported of torchmetrics."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchmetrics"]:
        del sys.modules[name]
