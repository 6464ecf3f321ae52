"""Estimators that mask tokens of the target: a weighted sum of -log p(token) over copies with different masks."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from remask.families import Denoiser, Family
from remask.families.denoiser import cross_entropy, per_row
from remask.likelihood.estimate import Estimate
from remask.likelihood.estimator import Copy, Estimator, batch_of, runs_of, whole_groups
from remask.likelihood.request import Request
from remask.sampling.guidance import add_guidance
from remask.uniforms import uniforms

GROUPS = 8
"""Independent groups of stratified draws, between which the error is measured."""


@dataclass(frozen=True, kw_only=True)
class MaskEstimator(Estimator):
    """A sum over masked copies, weighted so that the sum is the estimate."""

    guidance: float = 0.0
    """Weight of classifier-free guidance."""

    @abstractmethod
    def masks(self, length: int, seed: int) -> tuple[Tensor, Tensor]:
        """(n, T) bool, what is masked in the n copies of a text of T = `length` tokens, and (n, T) float64 weights."""

    @abstractmethod
    def groups(self, length: int) -> list[int]:
        """Sizes of the independent groups that the copies form, in their order; none where nothing is random."""

    def exact(self, length: int) -> bool:
        """Whether the estimate is -log p itself: with one token there is one mask, and one weight for it."""
        return length == 1

    def label(self, length: int) -> str:
        """Name of the distribution, where it is not the model's own, or of a published estimator."""
        return ""

    def number(self, length: int) -> int:
        """The number of copies of a text of `length` tokens."""
        return sum(self.groups(length))

    def single(self, length: int) -> bool:
        """Whether one copy says all: there is one token, and every copy would mask it with the same weight."""
        return length == 1 and self.exact(1)

    def count(self, request: Request) -> int:
        length = len(request.target)
        return 1 if self.single(length) else self.number(length)

    def copies(self, request: Request, family: Family) -> Iterator[Copy]:
        if self.single(len(request.target)):
            yield Copy(request, hidden=torch.ones(1, dtype=torch.bool), weight=torch.ones(1, dtype=torch.float64))
            return
        every_hidden, every_weight = self.masks(len(request.target), request.noise_seed(self.seed))
        asks = every_weight.any(1).tolist()
        for hidden, weight, needed in zip(every_hidden, every_weight, asks, strict=True):
            yield Copy(request, hidden=hidden, weight=weight, value=None if needed else 0.0)

    def evaluate(
        self, denoiser: Denoiser, family: Family, copies: Sequence[Copy], device: str | torch.device
    ) -> Tensor:
        return per_row(*self.weighted_nats(denoiser, family, copies, device))

    def evaluate_tokens(
        self, denoiser: Denoiser, family: Family, copies: Sequence[Copy], device: str | torch.device
    ) -> Tensor:
        nats, asked = self.weighted_nats(denoiser, family, copies, device)
        whole = torch.zeros(asked.shape, dtype=torch.float64, device=asked.device)
        whole[asked] = nats
        return whole[:, len(copies[0].request.prompt) :]

    def weighted_nats(
        self, denoiser: Denoiser, family: Family, copies: Sequence[Copy], device: str | torch.device
    ) -> tuple[Tensor, Tensor]:
        """(N,) float64 weighted nats of the tokens that are asked for, and (B, L) bool, where those stand."""
        batch, prompt = batch_of(family, copies, device)
        ask = torch.zeros(prompt.shape, dtype=torch.bool)
        weight = torch.zeros(prompt.shape, dtype=torch.float64)
        for request, rows in runs_of(copies):
            first = len(request.prompt)
            ask[rows, first : request.length] = torch.stack([c.hidden for c in copies[rows] if c.hidden is not None])
            weight[rows, first : request.length] = torch.stack([c.weight for c in copies[rows] if c.weight is not None])
        noisy = family.inputs_for(batch, ask.to(device), weight.to(device))
        needed = noisy.weight > 0  # a copy of the chain rule reads all its masks, and needs one of them
        asked = noisy.ask.masked_scatter(noisy.ask, needed)
        noisy = replace(noisy, ask=asked, target=noisy.target[needed], weight=noisy.weight[needed])
        nats = cross_entropy(add_guidance(denoiser, family, self.guidance, prompt), noisy)
        return nats.double() * noisy.weight, asked

    def finish(self, request: Request, values: Tensor) -> Estimate:
        length = len(request.target)
        kind = "exact" if self.exact(length) else "bound"
        mean, error = values.sum(), 0.0
        if self.groups_of(request):
            means = self.group_values(request, values)
            mean, error = means.mean(), error_of_mean(means)
        return Estimate(float(mean), error, kind, length, request.bytes, self.label(length), draws=len(values))

    def groups_of(self, request: Request) -> list[int]:
        length = len(request.target)
        return [] if self.exact(length) else self.groups(length)

    def group_values(self, request: Request, values: Tensor) -> Tensor:
        groups = self.groups_of(request)
        parts = values.split(whole_groups(groups, len(values)))
        return torch.stack([part.sum() for part in parts]) * len(groups)

    # noise

    def uniforms(self, length: int, seed: int) -> Tensor:
        """(draws, T) float64 in [0, 1), for each copy and token. Texts of other lengths share the first of them."""
        return uniforms(torch.full((self.draws,), seed), torch.arange(self.draws), length)

    def offsets(self, groups: int, seed: int) -> Tensor:
        """(groups,) float64 in [0, 1), one for each group."""
        return uniforms(torch.tensor([seed]), torch.tensor([self.draws]), groups)[0]

    def weights(self, hidden: Tensor, weight: Tensor, groups: list[int]) -> Tensor:
        """(n, T) float64 from the weights of the copies, (n,): groups count alike, and the copies of a group too."""
        sizes = torch.tensor(groups)
        share = (1.0 / (len(groups) * sizes.double())).repeat_interleave(sizes)
        return torch.where(hidden, (share * weight.double())[:, None], 0.0)


def equal_groups(draws: int, number: int) -> list[int]:
    """Sizes of `number` independent groups of `draws` draws, as equal as they can be."""
    return [len(part) for part in torch.arange(draws).tensor_split(number)]


def stratified(groups: list[int], offsets: Tensor) -> Tensor:
    """(n,) float64 levels (u + j)/size in [0, 1) of each group: each uniform, together evenly spread."""
    parts = [(torch.arange(size) + offset) / size for size, offset in zip(groups, offsets, strict=True)]
    return torch.cat(parts).clamp(max=1 - 2**-24)


def error_of_mean(values: Tensor) -> float:
    """Standard error of the mean of (n,) independent values; nan of one."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan
