"""Copies read in rounds that grow, until what is asked is known well enough; many texts share each round.

The rounds of a request end after 4 of its independent groups of copies, 6, 9 and so on (`Estimator.rounds`). They are
the copies that all draws together have, so that a request whose rounds are all read has the value of all draws.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families import Denoiser, Family
from remask.likelihood.estimate import Estimate
from remask.likelihood.estimator import Estimator
from remask.likelihood.reading import WINDOW, Work, checked, read, tokens_of
from remask.likelihood.request import Request
from remask.terminal import progress

LEAST = 8
"""Independent groups whose spread is taken for the standard error of a text: fewer misjudge it too often."""


class Drawn:
    """A request, and the values of its copies that have been read so far."""

    def __init__(self, request: Request, estimator: Estimator, family: Family) -> None:
        self.request, self.estimator = request, estimator
        self.copies = estimator.copies(request, family)
        self.ends = estimator.rounds(request)
        """Copies after each round."""
        self.values: list[float] = []

    @property
    def complete(self) -> bool:
        """Whether all of its copies have been read."""
        return len(self.values) == self.ends[-1]

    @property
    def known(self) -> bool:
        """Whether its value has no error."""
        return not self.estimator.groups_of(self.request) and self.estimate().stderr == 0

    def next_round(self) -> list[Work]:
        """The copies of its next round that the network has to read; none where all are read."""
        end, work = next((end for end in self.ends if end > len(self.values)), 0), []
        while len(self.values) < end:
            copy = next(self.copies)
            if copy.value is None:
                work.append((self.values, len(self.values), copy))
            self.values.append(torch.nan if copy.value is None else copy.value)
        return work

    def estimate(self) -> Estimate:
        """The estimate from what has been read."""
        return self.estimator.finish(self.request, checked(self.values))

    def groups(self) -> Tensor:
        """(g,) float64 nats, the independent estimates of the groups that have been read; (1,) where there are none."""
        values = checked(self.values)
        if self.estimator.groups_of(self.request):
            return self.estimator.group_values(self.request, values)
        return torch.tensor([self.estimator.finish(self.request, values).nats], dtype=torch.float64)


class Item(ABC):
    """Something that needs the values of one or several requests, until it is closed."""

    closed: bool = False

    @abstractmethod
    def next_round(self) -> list[Work]:
        """The copies that it needs next, while it is not closed."""

    @abstractmethod
    def judge(self) -> None:
        """Closes it where what has been read is enough, or all there is."""


T = TypeVar("T", bound=Item)


def read_in_rounds(
    denoiser: Denoiser,
    family: Family,
    estimator: Estimator,
    items: Iterable[T],
    budget: int,
    device: str | torch.device,
    tick: Callable[[int], object],
) -> Iterator[T]:
    """Reads one round of all open items together, then the next; yields closed items in their order.

    New items are taken while the open ones need less than a window of tokens. As every item is closed after a bounded
    number of rounds, memory does not grow with the number of items.
    """
    source, waiting, exhausted = iter(items), deque[T](), False
    while waiting or not exhausted:
        work = [one for item in waiting if not item.closed for one in item.next_round()]
        tokens = tokens_of(work)
        while tokens < WINDOW * budget and not exhausted:
            item = next(source, None)
            exhausted = item is None
            if item is not None:
                waiting.append(item)
                more = item.next_round()
                work += more
                tokens += tokens_of(more)
        for rows in read(denoiser, family, estimator, work, budget, device):
            tick(rows)
        for item in waiting:
            if not item.closed:
                item.judge()
        while waiting and waiting[0].closed:
            yield waiting.popleft()


class Text(Item):
    """A request that is read until its standard error is small enough, or all draws are made."""

    def __init__(self, place: int, request: Request, estimator: Estimator, family: Family, error: float) -> None:
        if not len(request.target):
            raise RemaskError("nothing to score: a text has no tokens")
        self.id = place if request.id is None else request.id
        self.drawn, self.error = Drawn(request, estimator, family), error

    def next_round(self) -> list[Work]:
        return self.drawn.next_round()

    def judge(self) -> None:
        error, groups = self.drawn.estimate().stderr, len(self.drawn.groups())
        enough = groups >= LEAST and error * at_most(groups) <= self.error
        self.closed = self.drawn.complete or enough


def at_most(groups: int) -> float:
    """What a standard error measured between so many groups is multiplied by for its upper confidence limit.

    Of 9 in 10, for normal values. Without it those texts would end early whose error happens to look too small.
    """
    from scipy.special import chdtri

    return math.sqrt((groups - 1) / float(chdtri(groups - 1, 0.9)))


@torch.inference_mode()
def score_to_error(
    denoiser: Denoiser,
    family: Family,
    requests: Iterable[Request],
    estimator: Estimator,
    budget: int,
    device: str | torch.device,
    show: bool,
    error: float,
) -> Iterator[tuple[Any, Estimate]]:
    """-log p of each request, as (id, estimate) in their order, from as many rounds as reach the standard error."""
    items = (Text(i, request, estimator, family, error) for i, request in enumerate(requests))
    with progress("scoring", None, "rows") if show else nullcontext(lambda n: None) as tick:
        for item in read_in_rounds(denoiser, family, estimator, items, budget, device, tick):
            yield item.id, item.drawn.estimate()
