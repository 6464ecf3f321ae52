"""Identity preference optimisation (Azar et al. 2023, arXiv 2310.12036)."""

from dataclasses import dataclass

from torch import Tensor

from remask.training.preference.objective import PreferenceObjective


@dataclass(frozen=True, kw_only=True)
class IPO(PreferenceObjective):
    """(margin - 1/(2 beta))^2: the margin is to come to a certain size, and to stay there."""

    def loss(self, margin: Tensor) -> Tensor:
        return (margin - 1 / (2 * self.beta)) ** 2
