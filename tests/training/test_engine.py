"""Lightning comes with a part of torchmetrics, and whoever imports all of it later gets the same classes."""

import subprocess
import sys

CODE = """
import sys
from remask.training.engine import import_lightning
import_lightning()
assert "torchmetrics" not in sys.modules and not {"transformers", "scipy.signal"} & set(sys.modules)
from lightning.pytorch.core.module import Metric
import torchmetrics
assert torchmetrics.Metric is Metric and torchmetrics.Accuracy
import_lightning()
assert sys.modules["torchmetrics"] is torchmetrics
"""


def test_lightning_without_all_of_torchmetrics() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
