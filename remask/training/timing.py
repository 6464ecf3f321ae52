"""How long a training step takes on this machine: one measurement, for budgets in minutes, for the decision whether
compiling pays, and for the plans of scaling studies."""

import statistics
import time
from dataclasses import replace
from typing import Any

import torch

from remask import machine
from remask.batch import Batch
from remask.families import Family
from remask.model.transformer import Transformer
from remask.training.optim import Optimizer


def seconds_per_step(
    denoiser: Transformer,
    family: Family,
    rows: Batch,
    optimizer: Optimizer,
    *,
    bf16: bool,
    accumulate: int = 1,
    repeats: int = 4,
) -> float:
    """Seconds of a step of `accumulate` micro-batches like `rows`: the median of a few, after two to warm up.

    Weights stay as they are, since the steps are taken at a learning rate of 0. `rows` must be where the denoiser is.
    The settings are those of a run, so that a network that was compiled here is not compiled again there.
    """
    rows, spent = replace(rows, progress=0.5), []  # as in the middle of the training
    stepping = optimizer.build(denoiser)
    for group in stepping.param_groups:
        group["lr"] = 0.0
    number_format: dict[str, Any] = {"dtype": torch.bfloat16, "enabled": bf16, "cache_enabled": not bf16}
    for number in range(2 + repeats):
        start = time.perf_counter()
        with machine.deterministic(denoiser.device):
            for _ in range(accumulate):
                with torch.autocast(denoiser.device.type, **number_format):
                    loss = family.loss(denoiser, rows, torch.Generator().manual_seed(number)).per_token()
                loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(denoiser.parameters(), optimizer.clip or float("inf"))
            if norm.isfinite():  # as in training, which skips the others
                stepping.step()
        loss.item()
        spent.append(time.perf_counter() - start)
        denoiser.zero_grad()
    return statistics.median(spent[2:])
