"""-log p itself, for families whose bound is exact: one reading of the text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.families import Denoiser, Family
from remask.likelihood.estimate import Estimate
from remask.likelihood.estimator import Copy, Estimator, batch_of, noise_of
from remask.likelihood.request import Request


@dataclass(frozen=True, kw_only=True)
class Exact(Estimator):
    """The chain rule of the family itself."""

    name: ClassVar[str] = "exact"

    def count(self, request: Request) -> int:
        return 1

    def copies(self, request: Request, family: Family) -> Iterator[Copy]:
        yield Copy(request)

    def evaluate(
        self, denoiser: Denoiser, family: Family, copies: Sequence[Copy], device: str | torch.device
    ) -> Tensor:
        batch, _ = batch_of(family, copies, device)
        return family.bound(denoiser, batch, noise_of(copies), torch.zeros(len(copies), device=device))

    def evaluate_tokens(
        self, denoiser: Denoiser, family: Family, copies: Sequence[Copy], device: str | torch.device
    ) -> Tensor:
        batch, _ = batch_of(family, copies, device)
        noisy = family.inputs_for(batch, batch.scored, torch.ones(len(copies), device=device))
        nats = family.token_loss(denoiser, noisy)  # of each row's targets from left to right, however it is read
        return nats.double().view(len(copies), -1)

    def finish(self, request: Request, values: Tensor) -> Estimate:
        return Estimate(float(values), 0.0, "exact", len(request.target), request.bytes, draws=1)
