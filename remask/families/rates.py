"""How mask rates are drawn in training, which decides how soon a small network learns.

Under a uniform rate half of the masked positions have no visible neighbour (a third, as the bound weighs them), and a
fresh network learns nothing there beyond the frequencies of tokens. Three laws give it more to learn from: rates that
are low at first, under a ceiling that rises to 1; rates around one half, with the density 6 r (1 - r) of Beta(2, 2);
and both. They end before training does, so that the last part sees all rates. What is reported is the uniform bound,
whatever the distribution in training.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from remask.errors import RemaskError

CEILING, BELL = 0.4, 0.8
"""The first ceiling and the share of bell-shaped rates by default; measured in experiments/learning."""


@dataclass(frozen=True, kw_only=True)
class MaskRates:
    """Options of families that train on masks."""

    ceiling: float | None = None
    """Highest mask rate at the first step of training, which rises evenly to 1; 1: all rates from the beginning.
    By default 0.4 with the objective low_variance, and 1 with others, whose weights are those of uniform rates, and
    with complementary pairs of masks."""
    ceiling_until: float = 0.6
    """Share of the training after which the ceiling is 1."""
    bell: float | None = None
    """Share of the training, from its beginning, in which rates are drawn from Beta(2, 2), most of them around one
    half, instead of evenly. By default 0.8 under a ceiling, and 0 without one."""

    def check_rates(self, objective: str) -> None:
        """RemaskError where an option is out of range, and where the objective has no weight for such rates."""
        if self.ceiling is not None and not 0 < self.ceiling <= 1:
            raise RemaskError(f"ceiling is {self.ceiling}; it must be above 0 and at most 1, which is no ceiling")
        for name, share in (("ceiling_until", self.ceiling_until), ("bell", self.bell)):
            if share is not None and not 0 <= share <= 1:
                raise RemaskError(f"{name} is {share}; it must lie between 0 and 1")
        if self.changes_rates and objective != "low_variance":
            given = f"bell {self.bell:g}" if self.bell else f"ceiling {self.first_ceiling:g}"
            raise RemaskError(
                f"objective is {objective} and {given}: the weights of this objective are those of uniform rates, and "
                "some rates have no density now. Use the objective low_variance, or uniform rates (ceiling 1, bell 0)"
            )

    @property
    def first_ceiling(self) -> float:
        """Highest mask rate at the first step of training."""
        return self.default_ceiling if self.ceiling is None else self.ceiling

    @property
    def default_ceiling(self) -> float:
        """The first ceiling where none is given: none at all, unless the family says otherwise."""
        return 1.0

    @property
    def bell_until(self) -> float:
        """Share of the training after which rates are drawn evenly."""
        if self.bell is not None:
            return self.bell
        return BELL if self.has_ceiling else 0.0

    @property
    def has_ceiling(self) -> bool:
        """Whether high rates are left out in some part of the training."""
        return self.first_ceiling < 1 and self.ceiling_until > 0

    @property
    def mean_rate(self) -> float:
        """The mean mask rate of the whole training: rates are even, or symmetric around one half, but for a ceiling."""
        return 0.5 * (1 - self.ceiling_until * (1 - self.first_ceiling) / 2)

    @property
    def changes_rates(self) -> bool:
        """Whether rates differ from uniform ones in some part of the training."""
        return self.has_ceiling or self.bell_until > 0

    def rates_in_words(self) -> str:
        """How mask rates are drawn in training, for the line with which a run begins."""
        laws = [f"around one half for {self.bell_until:.0%} of the steps"] if self.bell_until else []
        if self.has_ceiling:
            laws.append(f"below a ceiling that rises from {self.first_ceiling:g} to 1 over {self.ceiling_until:.0%}")
        return f"mask rates {' and '.join(laws) or 'uniform'}"

    def training_levels(self, levels: Tensor, progress: float) -> Tensor:
        """(B,) uniform levels in [0, 1) -> levels as they are drawn when a share `progress` of the training is done."""
        if progress < self.bell_until:
            levels = bell_quantile(levels)
        if progress < self.ceiling_until:
            levels = levels * (self.first_ceiling + (1 - self.first_ceiling) * progress / self.ceiling_until)
        return levels


def bell_quantile(u: Tensor) -> Tensor:
    """The quantiles of Beta(2, 2): the x in [0, 1] with 3 x^2 - 2 x^3 = u."""
    x = 0.5 - torch.sin(torch.asin((1 - 2 * u.double()).clamp(-1, 1)) / 3)
    return x.clamp(0, 1 - 2**-24).to(u.dtype)
