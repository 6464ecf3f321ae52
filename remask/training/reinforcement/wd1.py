"""wd1: weighted likelihood, which one reading of each text estimates."""

from dataclasses import dataclass, replace

from torch import Tensor

from remask.batch import Batch, Noise
from remask.errors import RemaskError
from remask.families import Family
from remask.sampling import SamplingParams
from remask.sampling.sampler import sampler_of
from remask.training.reinforcement.objective import (
    Copies,
    PolicyObjective,
    forward_passes,
    group_advantages,
    left_to_right,
)


@dataclass(frozen=True, kw_only=True)
class WD1(PolicyObjective):
    """Weights softmax(A) - softmax(-A) over the group, A = r - mean, and one reading of each text (arXiv 2507.08838).

    log p(y) is taken for sum_t log p(y_t | x, all of y masked), with some tokens of the prompt x masked too: not the
    likelihood of any way of writing, but what one reading gives. Texts can be written by any sampler. On an
    autoregressive model, whose one reading is exact, nothing is masked.
    """

    prompt_mask: float = 0.15
    """Chance that a token of the prompt is masked."""
    sampler: str | None = None
    """The sampler that writes the texts; by default Confidence, or LeftToRight of autoregressive models."""
    steps: int | None = None
    """Its steps; by default its own number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.prompt_mask <= 1:
            raise RemaskError(f"WD1: prompt_mask is {self.prompt_mask}; it must lie between 0 and 1")

    def sampling(self, family: Family) -> SamplingParams:
        usual = "LeftToRight" if family.order == "left" else "Confidence"
        return SamplingParams(sampler=sampler_of(family, self.sampler or usual), steps=self.steps)

    def weights(self, rewards: Tensor) -> Tensor:
        advantages = group_advantages(rewards)
        return advantages.softmax(1) - (-advantages).softmax(1)

    def copies(self, family: Family, batch: Batch, written: Tensor, rng: Noise) -> Copies:
        every = left_to_right(batch, written)
        if family.order == "left":
            return every
        masked = (batch.draw((written.shape[1],), rng) < self.prompt_mask) & ~batch.scored
        return replace(every, tokens=batch.tokens.masked_fill(masked, family.mask), hidden=batch.scored)

    def passes(self, family: Family, length: int) -> float:
        return forward_passes(1 if family.order == "left" else self.steps or length) + 1
