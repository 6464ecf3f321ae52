"""How checkpoints are opened, for processes each of which opens its own."""

from dataclasses import dataclass
from pathlib import Path

import torch

from remask.checkpoints.checkpoint import Checkpoint, load, usable_device
from remask.checkpoints.precision import Precision


@dataclass(frozen=True)
class Opening:
    """The options of `load` that a command has."""

    device: str = "auto"
    precision: Precision = "stored"
    tokenizer: Path | None = None

    def open(self, run: str, worker: int = 0) -> Checkpoint:
        """The checkpoint of a run. On a machine with several GPUs each worker takes another one."""
        device = self.device
        if worker and device in ("auto", "cuda") and usable_device(device).type == "cuda":
            device = f"cuda:{worker % torch.cuda.device_count()}"
        return load(run, device=device, precision=self.precision, tokenizer=self.tokenizer)
