"""The tables, networks and texts that the tests of likelihoods share."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from tables import Table, tiny

from remask.families import Denoiser, Family
from remask.families.masked import Masked
from remask.likelihood import Estimate, Estimator, Request, score
from remask.vocabulary import Vocabulary

TABLE = Table.random(3, 4, seed=4, sharpness=1.5)
FAMILY = Masked().over(TABLE.vocabulary)
TEXT = (2, 0, 1, 1)
V, MASK = 9, 9
MASKED = Masked().over(Vocabulary(size=V + 1, mask=MASK))
MODEL = tiny(V + 1, V, seed=6, sharpness=2.0)
TIMED = tiny(V + 1, V, seed=7, sharpness=2.0, time=True)
TEXTS = [
    Request((1, 2, 3, 4, 5)),
    Request((8,), (1, 2)),
    Request((0, 7, 7), (5, 5, 5, 5, 2, 1)),
    Request((3, 1, 4, 1, 5, 2, 6, 5, 3, 5)),
    Request((2, 2), (6,)),
]


def scores(denoiser: Denoiser, family: Family, requests: Sequence[Request], **options: Any) -> list[Estimate]:
    """The estimates of some requests, in their order."""
    return [estimate for _, estimate in score(denoiser, family, requests, **options)]


def one(estimator: str = "auto", request: Request | None = None, **options: Any) -> Estimate:
    """The estimate of one text by the table."""
    (found,) = scores(TABLE, FAMILY, [request or Request(TEXT)], estimator=estimator, **options)
    return found


def spread(estimator: str | Estimator, draws: int, times: int, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and reported errors of one text, with other noise each time."""
    requests = [Request(TEXT, noise_key=i) for i in range(times)]
    found = scores(TABLE, FAMILY, requests, estimator=estimator, draws=draws, tokens=2**14, **options)
    return (
        torch.tensor([e.nats for e in found], dtype=torch.float64),
        torch.tensor([e.stderr for e in found], dtype=torch.float64),
    )


def assert_mean(values: torch.Tensor, truth: float) -> None:
    """The mean of independent values is the truth, within four standard errors."""
    assert abs(float(values.mean()) - truth) < 4 * float(values.std()) / math.sqrt(len(values))
