"""What an objective of reinforcement is: how texts are written, what their rewards make of them, and how likely the
network finds them.

For each of P prompts x a group of G texts y is written by the network as it is, and each has a reward r. A step
minimises

    sum of w(y) (-log p(y | x)) over all texts, divided by the tokens that there was room for,

with weights w from the rewards of the group. Each batch of texts serves one step, so that the ratio of new to old
probabilities is 1 and there is nothing to clip.

A new objective is one new file in this folder with a subclass of `PolicyObjective`: `--objective Name` finds it.

Symbols: B = P G texts, L positions, N copies of texts that the network reads.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from remask.batch import Batch, Noise
from remask.errors import RemaskError
from remask.extensions import import_files, subclasses_in
from remask.families import Family
from remask.options import build_named
from remask.sampling import SamplingParams


@dataclass(frozen=True)
class Copies:
    """What the network reads to find how likely texts are: each a text with some of its tokens hidden."""

    row: Tensor
    """(N,) int64, the text that each is a copy of."""
    tokens: Tensor
    """(N, L) int64, what is read where nothing is hidden."""
    hidden: Tensor
    """(N, L) bool, tokens of the text that are hidden."""
    ask: Tensor
    """(N, L) bool, those of the hidden tokens whose probability is wanted."""

    def at(self, index: Tensor) -> "Copies":
        """The copies `index`."""
        return Copies(self.row[index], self.tokens[index], self.hidden[index], self.ask[index])


@dataclass(frozen=True, kw_only=True)
class PolicyObjective(ABC):
    """One way of learning from rewards."""

    group: int = 8
    """Texts that are written for each prompt, whose rewards are compared."""

    def __post_init__(self) -> None:
        if self.group < 2:
            raise RemaskError(f"{type(self).__name__}: group is {self.group}; rewards are compared among 2 or more")

    @abstractmethod
    def sampling(self, family: Family) -> SamplingParams:
        """How texts are written, but for their length."""

    @abstractmethod
    def weights(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards -> (P, G) weights of the texts, which sum to 0 in each group."""

    @abstractmethod
    def copies(self, family: Family, batch: Batch, written: Tensor, rng: Noise) -> Copies:
        """What is read to find -log p of the texts of a batch, as the sum over what is asked.

        `written` (B, L) bool are the tokens up to the end of each text, that among them.
        """

    @abstractmethod
    def passes(self, family: Family, length: int) -> float:
        """How often a step does the arithmetic of a plain training step on its rows, at most."""

    def check(self, family: Family) -> None:
        """RemaskError where the objective does not fit a family."""
        if family.order not in ("left", "any"):
            raise RemaskError(
                f"{type(self).__name__} is for models that fill masks in any order, or write from left to right; this "
                f"one is {type(family).__name__}"
            )


def left_to_right(batch: Batch, written: Tensor) -> Copies:
    """All texts as they are, for models that write from left to right, which one reading scores exactly."""
    return Copies(torch.arange(len(written), device=written.device), batch.tokens, written, written)


def group_advantages(rewards: Tensor) -> Tensor:
    """(P, G) rewards less the mean of their group."""
    return rewards - rewards.mean(1, keepdim=True)


def objectives() -> dict[str, type[PolicyObjective]]:
    """Every objective of this folder by its class name."""
    import_files(__package__ or "")
    return {kind.__name__: kind for kind in subclasses_in("remask.training.reinforcement", PolicyObjective)}


def objective_of(name: str) -> PolicyObjective:
    """An objective from its name and options, such as "JustGRPO:group=16"; RemaskError where one of them is wrong."""
    found: PolicyObjective = build_named("objective", name, objectives())
    return found


def forward_passes(calls: float) -> float:
    """Calls of the network without gradients, a third of a training step each."""
    return math.ceil(calls) / 3
