"""-log p of each token of a text: the parts of an estimate, which sum to it.

From left to right (`exact`, `chain`) a token's value is -log p given those before it; under a sampler's rule it is that
at the moment when the rule writes it; in the bound of a masked model (`count`, `enumeration`) it is the mean over all
orders of writing, in which a token is predicted from those that come before it in the order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families import Denoiser, Family
from remask.likelihood.estimate import Estimate
from remask.likelihood.estimator import Copy, Estimator
from remask.likelihood.request import Request
from remask.terminal import progress


@dataclass(frozen=True)
class TokenValues:
    """The estimate of a text, and the part of each of its tokens."""

    estimate: Estimate
    nats: list[float]
    """(T,) nats of each token; they sum to those of the estimate."""
    stderr: list[float]
    """(T,) Monte Carlo errors. The errors of two tokens are not independent."""


@torch.inference_mode()
def token_values(
    denoiser: Denoiser,
    family: Family,
    request: Request,
    estimator: Estimator,
    *,
    tokens: int | None = None,
    device: str | torch.device = "cpu",
    show: bool = False,
) -> TokenValues:
    """The values of one request, with the same noise as in `score`, of which the arguments are.

    RemaskError where the value of the estimator is no sum over tokens.
    """
    if type(estimator).evaluate_tokens is Estimator.evaluate_tokens:
        raise RemaskError(f"estimator {estimator.name!r} gives no values of single tokens")
    budget = tokens or (4096 if torch.device(device).type == "cpu" else 32768)
    size = max(1, budget // request.length)
    parts = []
    with progress("scoring", estimator.count(request) if show else None, "rows") as tick:
        for copies in chunks(estimator.copies(request, family), size):
            parts.append(values_of(denoiser, family, copies, estimator, device))
            tick(len(copies))
    values = torch.cat(parts)  # (n, T)
    if bool(values.isnan().any()):
        raise RemaskError("the model predicts nan: its weights are damaged, or guidance too extreme")
    each = [estimator.finish(request, column) for column in values.T]
    return TokenValues(
        estimator.finish(request, values.sum(1)), [one.nats for one in each], [one.stderr for one in each]
    )


def values_of(
    denoiser: Denoiser, family: Family, copies: list[Copy], estimator: Estimator, device: str | torch.device
) -> Tensor:
    """(B, T) float64; a copy whose value is known without the network masks nothing that counts."""
    values = torch.zeros(len(copies), len(copies[0].request.target), dtype=torch.float64)
    needed = [i for i, copy in enumerate(copies) if copy.value is None]
    if needed:
        found = estimator.evaluate_tokens(denoiser, family, [copies[i] for i in needed], device)
        values[needed] = found.cpu()
    return values


def chunks(copies: Iterator[Copy], size: int) -> Iterator[list[Copy]]:
    """The copies in lists of at most `size`."""
    while part := list(islice(copies, size)):
        yield part
