"""The bound of any family, by draws of its own: for families that have no estimator made for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.families import Denoiser, Family
from remask.likelihood.estimate import Estimate
from remask.likelihood.estimator import Copy, Estimator, batch_of, noise_of
from remask.likelihood.masks import equal_groups, grouped_error, stratified
from remask.likelihood.request import Request
from remask.seeds import mix_seeds
from remask.uniforms import uniforms


@dataclass(frozen=True, kw_only=True)
class Draws(Estimator):
    """The mean of `Family.bound` over draws at stratified noise levels."""

    name: ClassVar[str] = "draws"

    def count(self, request: Request) -> int:
        return self.draws

    def copies(self, request: Request, family: Family) -> Iterator[Copy]:
        seed, groups = request.noise_seed(self.seed), equal_groups(self.draws)
        offsets = uniforms(torch.tensor([seed]), torch.tensor([self.draws]), len(groups))[0]
        for i, level in enumerate(stratified(groups, offsets).tolist()):
            yield Copy(request, level=level, seed=mix_seeds(seed, i))

    def evaluate(
        self, denoiser: Denoiser, family: Family, copies: Sequence[Copy], device: str | torch.device
    ) -> Tensor:
        batch, _ = batch_of(family, copies, device)
        levels = torch.tensor([copy.level for copy in copies], device=device)
        return family.bound(denoiser, batch, noise_of(copies), levels)

    def finish(self, request: Request, values: Tensor) -> Estimate:
        groups = equal_groups(self.draws)
        mean = torch.stack([part.mean() for part in values.split(groups)]).mean()
        error = grouped_error(values, groups)
        return Estimate(float(mean), error, "bound", len(request.target), request.bytes)
