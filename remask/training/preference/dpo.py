"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290)."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from remask.training.preference.objective import PreferenceObjective


@dataclass(frozen=True, kw_only=True)
class DPO(PreferenceObjective):
    """-log sigmoid(beta margin): the chosen reply is to be the more probable one, the more so the better."""

    def loss(self, margin: Tensor) -> Tensor:
        return -logsigmoid(self.beta * margin)
