"""Copies of many requests, sorted by length, in the network's calls."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families import Denoiser, Family
from remask.likelihood.estimator import Copy, Estimator, choose

WINDOW = 64
"""Network calls' worth of copies that are sorted by length together: what is in memory at a time."""

Work = tuple[list[float], int, Copy]
"""The values of a request, the number of a copy among them, and the copy."""


def prepared(
    family: Family,
    estimator: str | Estimator,
    tokens: int | None,
    device: str | torch.device,
    options: dict[str, Any],
) -> tuple[Estimator, int]:
    """The estimator that is asked for, and the most tokens of one network call."""
    kind = estimator if isinstance(estimator, Estimator) else choose(family, estimator, **options)
    return kind, tokens or (4096 if torch.device(device).type == "cpu" else 32768)


def read(
    denoiser: Denoiser,
    family: Family,
    estimator: Estimator,
    window: list[Work],
    budget: int,
    device: str | torch.device,
) -> Iterator[int]:
    """Has the network read the copies of a window and stores their values; yields the number of rows of each call."""
    for part in batches(window, budget):
        found = estimator.evaluate(denoiser, family, [copy for _, _, copy in part], device)
        for (values, i, _), value in zip(part, found.tolist(), strict=True):
            values[i] = value
        yield len(part)


def tokens_of(work: list[Work]) -> int:
    """Tokens of some copies, without padding."""
    return sum(copy.request.length for _, _, copy in work)


def batches(window: list[Work], budget: int) -> Iterator[list[Work]]:
    """The copies of a window in batches of like length, each of at most `budget` tokens with its padding."""
    part: list[Work] = []
    for item in sorted(window, key=lambda item: item[2].request.length):  # so the last is the longest
        if part and (len(part) + 1) * item[2].request.length > budget:
            yield part
            part = []
        part.append(item)
    if part:
        yield part


def checked(values: list[float]) -> Tensor:
    """(n,) float64 from the values of all copies. RemaskError where one is nan."""
    found = torch.tensor(values, dtype=torch.float64)
    if bool(found.isnan().any()):
        raise RemaskError("the model predicts nan: its weights are damaged, or guidance too extreme")
    return found
