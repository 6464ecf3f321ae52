"""What an objective of preferences is: a loss of the margin by which the network prefers the chosen reply.

With B the bound on log p(reply | prompt), which is log p itself of a model that writes from left to right, and a
reference that is the checkpoint which the training starts from,

    margin = [B(chosen) - B_ref(chosen)] - [B(rejected) - B_ref(rejected)], in nats.

A new objective is one new file in this folder with a subclass of `PreferenceObjective`: `--objective Name` finds it.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from remask.errors import RemaskError
from remask.extensions import import_files, subclasses_in
from remask.families import Family
from remask.options import build_named


@dataclass(frozen=True, kw_only=True)
class PreferenceObjective(ABC):
    """One way of learning from preferences."""

    beta: float = 0.1
    """How strongly the network is held to the reference: a large one is content with a small margin."""
    draws: int = 8
    """Noisy copies by which the bound of each reply is estimated; one, where it is exact."""

    def __post_init__(self) -> None:
        if not 0 < self.beta < math.inf:
            raise RemaskError(f"{type(self).__name__}: beta is {self.beta}; it must be above 0, and finite")
        if self.draws < 1:
            raise RemaskError(f"{type(self).__name__}: draws is {self.draws}; it must be at least 1")

    @abstractmethod
    def loss(self, margin: Tensor) -> Tensor:
        """(P,) margins in nats -> (P,) losses."""

    def copies(self, family: Family) -> int:
        """Copies of a reply that a network reads."""
        return 1 if family.exact else self.draws


def objectives() -> dict[str, type[PreferenceObjective]]:
    """Every objective of this folder by its class name."""
    import_files(__package__ or "")
    return {kind.__name__: kind for kind in subclasses_in("remask.training.preference", PreferenceObjective)}


def objective_of(name: str) -> PreferenceObjective:
    """An objective from its name and options, such as "IPO:beta=0.2"; RemaskError where one of them is wrong."""
    found: PreferenceObjective = build_named("objective", name, objectives())
    return found
