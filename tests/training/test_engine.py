"""Lightning comes with a part of torchmetrics, and whoever imports all of it later gets the same classes."""

from pathlib import Path

import killing

CODE = """
import sys
from remask.training.engine import import_lightning
import_lightning()  # as `imported` has done it before
assert "lightning" in sys.modules and "torchmetrics" not in sys.modules
assert not {"transformers", "scipy.signal"} & set(sys.modules)
from lightning.pytorch.core.module import Metric
import torchmetrics
assert torchmetrics.Metric is Metric and torchmetrics.Accuracy
import_lightning()
assert sys.modules["torchmetrics"] is torchmetrics
print("the same")
"""


def test_lightning_without_all_of_torchmetrics(tmp_path: Path) -> None:
    assert "the same" in killing.output_of(CODE, tmp_path / "log")
