"""The bound of any family, by draws of its own: for families that have no estimator made for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families import Denoiser, Family
from remask.likelihood.estimate import Estimate
from remask.likelihood.estimator import Copy, Estimator, batch_of, noise_of
from remask.likelihood.masks import GROUPS, equal_groups, error_of_mean, stratified
from remask.likelihood.request import Request
from remask.seeds import mix_seeds
from remask.uniforms import uniforms


@dataclass(frozen=True, kw_only=True)
class Draws(Estimator):
    """The mean of `Family.bound` over draws at stratified noise levels."""

    name: ClassVar[str] = "draws"

    group: int | None = None
    """Copies whose levels are stratified together, so that the error is measured between groups of so many; by default
    such that there are 8 groups."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group is not None and not 1 <= self.group <= self.draws:
            raise RemaskError(f"group is {self.group}; it must be at least 1, and at most the {self.draws} draws")

    def count(self, request: Request) -> int:
        return self.draws

    def copies(self, request: Request, family: Family) -> Iterator[Copy]:
        seed, groups = request.noise_seed(self.seed), self.groups_of(request)
        offsets = uniforms(torch.tensor([seed]), torch.tensor([self.draws]), len(groups))[0]
        for i, level in enumerate(stratified(groups, offsets).tolist()):
            yield Copy(request, level=level, seed=mix_seeds(seed, i))

    def evaluate(
        self, denoiser: Denoiser, family: Family, copies: Sequence[Copy], device: str | torch.device
    ) -> Tensor:
        batch, _ = batch_of(family, copies, device)
        levels = torch.tensor([copy.level for copy in copies], device=device)
        return family.bound(denoiser, batch, noise_of(copies), levels)

    def groups_of(self, request: Request) -> list[int]:
        number = self.draws // self.group if self.group else min(GROUPS, self.draws)
        return equal_groups(self.draws, number)

    def finish(self, request: Request, values: Tensor) -> Estimate:
        means = self.group_values(request, values)
        error = error_of_mean(means)
        return Estimate(float(means.mean()), error, "bound", len(request.target), request.bytes, draws=len(values))
