"""SMDM's estimator of the bound (Nie et al. 2025, *Scaling up Masked Diffusion Models on Text*)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from remask.likelihood.masks import stratified
from remask.likelihood.strata import Stratified


@dataclass(frozen=True, kw_only=True)
class SMDM(Stratified):
    """Independent masks at stratified rates p, weight 1/p.

    Its variance is infinite, since 1/p is not integrable, and so its standard error is understated.
    """

    name: ClassVar[str] = "smdm"

    def exact(self, length: int) -> bool:
        return False

    def label(self, length: int) -> str:
        return "SMDM's estimator"

    def masks(self, length: int, seed: int) -> tuple[Tensor, Tensor]:
        groups = self.groups(length)
        rate = stratified(groups, self.offsets(len(groups), seed))
        hidden = self.uniforms(length, seed) < rate[:, None]
        return hidden, self.weights(hidden, 1 / rate, groups)
