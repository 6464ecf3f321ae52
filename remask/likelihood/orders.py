"""-log of the mean of p(x | order) over random orders, for families that draw an order beforehand (Eso-LM)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.families import Denoiser, Family
from remask.likelihood.estimate import Estimate
from remask.likelihood.estimator import Copy, Estimator, batch_of, noise_of
from remask.likelihood.request import Request
from remask.seeds import mix_seeds


@dataclass(frozen=True, kw_only=True)
class Orders(Estimator):
    """A bound, in the mean, on -log p of writing one token at a time; it falls with the number of orders.

    The error is that of the mean of p, carried over to its logarithm (the delta method). It is too small where few
    orders carry most of the mean (Burda et al. 2016; Sahoo et al. 2025, *Esoteric Language Models*).
    """

    name: ClassVar[str] = "orders"

    def count(self, request: Request) -> int:
        return self.draws

    def copies(self, request: Request, family: Family) -> Iterator[Copy]:
        seed = request.noise_seed(self.seed)
        for i in range(self.draws):
            yield Copy(request, seed=mix_seeds(seed, i))

    def evaluate(
        self, denoiser: Denoiser, family: Family, copies: Sequence[Copy], device: str | torch.device
    ) -> Tensor:
        batch, _ = batch_of(family, copies, device)
        uniform = batch.draw((batch.tokens.shape[1],), noise_of(copies), torch.float64)
        return family.in_order(denoiser, batch, uniform)

    def finish(self, request: Request, values: Tensor) -> Estimate:
        p = (values.min() - values).exp()
        nats = float(values.min() - p.mean().log())
        error = float(p.std() / p.mean() / math.sqrt(self.draws)) if self.draws > 1 else math.nan
        of = f"importance-weighted over {self.draws} orders"
        return Estimate(nats, error, "bound", len(request.target), request.bytes, of, len(values))
