"""How long a training step takes on this machine: one measurement, for budgets in minutes, for the decision whether
compiling pays, and for the plans of scaling studies."""

import statistics
import time
from dataclasses import replace

import torch

from remask.batch import Batch
from remask.families import Family
from remask.model.transformer import Transformer

OPTIMISER_SHARE = 1.03
"""A step with clipping and AdamW takes this many times as long as its forward and backward passes."""


def seconds_per_step(
    denoiser: Transformer, family: Family, rows: Batch, *, bf16: bool, accumulate: int = 1, repeats: int = 4
) -> float:
    """Seconds of a step of `accumulate` micro-batches like `rows`: the median of a few, after two to warm up.

    Weights stay as they are. `rows` must be where the denoiser is.
    """
    rows, spent = replace(rows, progress=0.0), []
    for number in range(2 + repeats):
        start = time.perf_counter()
        for _ in range(accumulate):
            with torch.autocast(denoiser.device.type, torch.bfloat16, enabled=bf16):
                loss = family.loss(denoiser, rows, torch.Generator().manual_seed(number)).per_token()
            loss.backward()
        loss.item()
        spent.append(time.perf_counter() - start)
        denoiser.zero_grad()
    return statistics.median(spent[2:]) * OPTIMISER_SHARE
