"""What the published estimators of SMDM and LLaDA share: draws spread evenly together, a batch of theirs at a time."""

import math
from dataclasses import dataclass

from remask.errors import RemaskError
from remask.likelihood.masks import MaskEstimator

STRATA = 16
"""The batch size of their scripts."""


@dataclass(frozen=True, kw_only=True)
class Stratified(MaskEstimator):
    """Groups of `strata` draws each."""

    strata: int | None = None
    """Draws that are spread evenly together; by default at most 16, and so that two groups are left for the error."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strata is not None and (self.strata < 1 or self.draws % self.strata):
            raise RemaskError(f"strata is {self.strata}; it must divide the {self.draws} draws")

    def groups(self, length: int) -> list[int]:
        size = self.strata or self.default_strata()
        return [size] * (self.draws // size)

    def default_strata(self) -> int:
        """The largest divisor of the draws and of 16, if two groups are left; else half of the draws."""
        size = math.gcd(self.draws, STRATA)
        return size if size < self.draws else max(1, self.draws // 2 if self.draws % 2 == 0 else 1)
