"""How mask rates are drawn in training, which decides how soon a small network learns.

A uniform rate, which the bound needs, leaves a masked position without a visible neighbour in a third of the cases, and
a fresh network learns nothing there beyond the frequencies of tokens. Three laws give it more to learn from: rates that
are low at first, under a ceiling that rises to 1; rates around one half, with the density 6 r (1 - r) of Beta(2, 2);
and both. They end before training does, so that the last part sees all rates. What is reported is the uniform bound in
any case, which no law of training enters.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from remask.errors import RemaskError


@dataclass(frozen=True, kw_only=True)
class MaskRates:
    """Options of families that train on masks."""

    ceiling: float = 1.0
    """Highest mask rate at the first step of training; 1 for all rates. It rises evenly to 1."""
    ceiling_until: float = 0.6
    """Share of the training after which the ceiling is 1."""
    bell: float = 0.0
    """Share of the training, from its beginning, in which rates are drawn from Beta(2, 2) instead of evenly."""

    def check_rates(self, objective: str) -> None:
        """RemaskError where an option is out of range, and where the objective has no weight for such rates."""
        if not 0 < self.ceiling <= 1:
            raise RemaskError(f"ceiling is {self.ceiling}; it must be above 0 and at most 1, which is no ceiling")
        for name in ("ceiling_until", "bell"):
            if not 0 <= getattr(self, name) <= 1:
                raise RemaskError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")
        if self.change_rates and objective != "low_variance":
            given = f"ceiling {self.ceiling:g}" if self.ceiling < 1 else f"bell {self.bell:g}"
            raise RemaskError(
                f"objective is {objective} and {given}: the weights of this objective are those of uniform rates, and "
                "some rates have no density now. Use the objective low_variance, or uniform rates (ceiling 1, bell 0)"
            )

    @property
    def change_rates(self) -> bool:
        """Whether rates differ from uniform ones in some part of the training."""
        return (self.ceiling < 1 and self.ceiling_until > 0) or self.bell > 0

    def training_levels(self, levels: Tensor, progress: float) -> Tensor:
        """(B,) uniform levels in [0, 1) -> levels as they are drawn when a share `progress` of the training is done."""
        if progress < self.bell:
            levels = bell_quantile(levels)
        if progress < self.ceiling_until:
            levels = levels * (self.ceiling + (1 - self.ceiling) * progress / self.ceiling_until)
        return levels


RATES = {f.name: f.default for f in fields(MaskRates)}
"""The options of `MaskRates` as they were before they existed: uniform rates."""


def bell_quantile(u: Tensor) -> Tensor:
    """The quantiles of Beta(2, 2): the x in [0, 1] with 3 x^2 - 2 x^3 = u."""
    x = 0.5 - torch.sin(torch.asin((1 - 2 * u.double()).clamp(-1, 1)) / 3)
    return x.clamp(0, 1 - 2**-24).to(u.dtype)
