"""What an estimator is: one way to find -log p of a text.

It turns a request into copies for the network, lazily; says what the network makes of some copies, which may be of
different requests; and finishes an estimate from the values of all copies of a request. A family names the estimators
that fit it (`Family.estimators`). A new estimator is one new file in this folder with a subclass of `Estimator`.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from remask.batch import Batch, RowNoise
from remask.errors import RemaskError, unknown
from remask.extensions import subclasses_in
from remask.families import Denoiser, Family
from remask.likelihood.estimate import Estimate
from remask.likelihood.request import Request
from remask.model.attention import FULL, Padded

MOST_DRAWS = 2**17
"""The largest number of draws."""
FIRST_ROUND = 4
"""Independent groups in the first of several rounds: fewer say next to nothing about their error."""


@dataclass(frozen=True, eq=False)
class Copy:
    """One row for the network: a request with noise."""

    request: Request
    hidden: Tensor | None = None
    """(T,) bool, tokens of the target that are masked, for estimators that mask."""
    weight: Tensor | None = None
    """(T,) float64, the weight of each token's nats; only those above 0 are asked of the network."""
    level: float = 0.0
    """Noise level in [0, 1), for families that draw their own noise."""
    seed: int = 0
    """Of the noise of this copy."""
    value: float | None = None
    """The value of the copy, where it is known without the network."""


@dataclass(frozen=True, kw_only=True)
class Estimator(ABC):
    """One way to find -log p. An estimator has options but no state: everything about a request is in its arguments."""

    name: ClassVar[str]
    """The name by which families and the command line refer to it."""

    draws: int = 128
    """Number of noisy copies of a request, where the estimator is random."""
    seed: int = 0
    """Seed of the noise, which also depends on the content of each request."""

    def __post_init__(self) -> None:
        if not 1 <= self.draws <= MOST_DRAWS:
            raise RemaskError(f"draws is {self.draws}; it must be at least 1, and at most {MOST_DRAWS}")

    @abstractmethod
    def count(self, request: Request) -> int:
        """The number of copies of a request."""

    @abstractmethod
    def copies(self, request: Request, family: Family) -> Iterator[Copy]:
        """The copies of a request, made as they are asked for."""

    @abstractmethod
    def evaluate(
        self, denoiser: Denoiser, family: Family, copies: Sequence[Copy], device: str | torch.device
    ) -> Tensor:
        """(B,) float64 values of some copies, which share the network's calls."""

    def evaluate_tokens(
        self, denoiser: Denoiser, family: Family, copies: Sequence[Copy], device: str | torch.device
    ) -> Tensor:
        """(B, T) float64 values of some copies of one request, divided among its T target tokens: rows sum to those of
        `evaluate`. RemaskError where the value is no sum over tokens."""
        raise RemaskError(f"estimator {self.name!r} gives no values of single tokens")

    @abstractmethod
    def finish(self, request: Request, values: Tensor) -> Estimate:
        """The estimate, from the (n,) float64 values of all copies of a request in their order, or of the copies of the
        first independent groups."""

    def preview(self, request: Request) -> "Estimator | None":
        """An estimator with rounds whose first draws may settle a ranking at less cost; None where this one has rounds
        itself, or few copies."""
        return None

    # for those whose copies form independent groups

    def groups_of(self, request: Request) -> list[int]:
        """Sizes of the independent groups that the copies form, in their order. Each group alone is an estimate with
        the same mean. Empty where nothing is random, or where parts of the copies are no estimate."""
        return []

    def group_values(self, request: Request, values: Tensor) -> Tensor:
        """(g,) float64 nats, the estimate of each of the groups whose copies have the (n,) `values`."""
        groups = self.groups_of(request)
        return torch.stack([part.mean() for part in values.split(whole_groups(groups, len(values)))])

    def rounds(self, request: Request) -> list[int]:
        """The numbers of copies after which there is an estimate with an error: those of 4 groups, of 6, 9 and so on,
        half as many again each time, up to three quarters of them; and all copies."""
        ends, rounds, n = list(itertools.accumulate(self.groups_of(request))), [], FIRST_ROUND
        while 4 * n <= 3 * len(ends):
            rounds.append(ends[n - 1])
            n = n * 3 // 2
        return [*rounds, self.count(request)]


def in_pairs(estimator: Estimator) -> Estimator:
    """The estimator with groups of two copies, where it has groups and their size is not chosen."""
    if getattr(estimator, "group", 0) is None and estimator.draws > 1:
        return replace(estimator, group=2)  # type: ignore[call-arg]
    return estimator


def whole_groups(groups: list[int], copies: int) -> list[int]:
    """Sizes of the first groups, which have so many copies together."""
    ends = list(itertools.accumulate(groups))
    return groups[: ends.index(copies) + 1]


def runs_of(copies: Sequence[Copy]) -> list[tuple[Request, slice]]:
    """The requests of some copies, each with the slice of its copies; copies of one request stand side by side."""
    runs, first = [], 0
    for _, group in itertools.groupby(copies, key=lambda copy: id(copy.request)):
        last = first + len(list(group))
        runs.append((copies[first].request, slice(first, last)))
        first = last
    return runs


def batch_of(family: Family, copies: Sequence[Copy], device: str | torch.device) -> tuple[Batch, Tensor]:
    """The texts of some copies as rows, padded behind, and (B, L) bool, True on their prompts."""
    runs = runs_of(copies)
    length = max(request.length for request, _ in runs)
    tokens = torch.zeros(len(copies), length, dtype=torch.int64)
    prompt, valid = (torch.zeros(len(copies), length, dtype=torch.bool) for _ in range(2))
    for request, rows in runs:
        tokens[rows, : request.length] = torch.tensor([*request.prompt, *request.target])
        prompt[rows, : len(request.prompt)], valid[rows, : request.length] = True, True
    # what is read from left to right never sees the padding behind it
    padded = family.order != "left" and any(request.length < length for request, _ in runs)
    tokens, prompt, valid = (x.to(device) for x in (tokens, prompt, valid))
    return Batch(tokens, valid & ~prompt, attention=Padded(valid) if padded else FULL), prompt


def noise_of(copies: Sequence[Copy]) -> RowNoise:
    """The noise of some copies."""
    return RowNoise(torch.tensor([copy.seed for copy in copies]))


def estimators() -> dict[str, type[Estimator]]:
    """Every estimator of this package by name."""
    kinds = [kind for kind in subclasses_in("remask.likelihood", Estimator) if "name" in vars(kind)]
    return {kind.name: kind for kind in sorted(kinds, key=lambda kind: kind.name)}


def choose(family: Family, name: str = "auto", **options: Any) -> Estimator:
    """An estimator by name; "auto" is the first that the family names.

    An option of None, or of 0 that the estimator does not have, is not given. RemaskError for an estimator that is
    unknown or does not fit the family, and for an option that it does not have.
    """
    known = estimators()
    if name != "auto" and name not in known:
        raise unknown("estimator", name, ["auto", *known])
    if name != "auto" and name not in family.estimators:
        fitting = ", ".join(["auto", *family.estimators])
        raise RemaskError(f"estimator {name!r} does not fit {type(family).__name__} models; these do: {fitting}")
    kind = known[family.estimators[0] if name == "auto" else name]
    taken = {f.name for f in fields(kind)}
    given = {key: value for key, value in options.items() if value is not None and (value or key in taken)}
    for option in given.keys() - taken:
        having = sorted(n for n, other in known.items() if option in {f.name for f in fields(other)})
        raise RemaskError(
            f"{option} is for the estimators {', '.join(having)}, not for {kind.name!r}, by which this "
            f"{type(family).__name__} model would be scored"
        )
    return kind(**given)
