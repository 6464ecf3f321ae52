"""One entry for one text and for forty thousand: copies of all requests share the network's calls."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from remask.errors import RemaskError
from remask.families import Denoiser, Family
from remask.likelihood.estimate import Estimate
from remask.likelihood.estimator import Estimator, in_pairs
from remask.likelihood.reading import WINDOW, Work, checked, prepared, read
from remask.likelihood.request import Request
from remask.likelihood.rounds import score_to_error
from remask.terminal import progress


@dataclass
class Pending:
    """A request that is being scored."""

    id: Any
    request: Request
    values: list[float] = field(default_factory=list)
    complete: bool = False
    """Whether all of its copies have been made."""


def score(
    denoiser: Denoiser,
    family: Family,
    requests: Iterable[Request],
    *,
    estimator: str | Estimator = "auto",
    tokens: int | None = None,
    device: str | torch.device = "cpu",
    show: bool = False,
    error: float | None = None,
    **options: Any,
) -> Iterator[tuple[Any, Estimate]]:
    """-log p of each request, as (id, estimate) in the order of the requests.

    Requests are read as they are needed, and estimates come as they are ready: memory does not grow with their
    number. An estimate depends, but for rounding, on the request, the estimator and its seed, and neither on its place
    nor on what shares its batch.

    Args:
        denoiser: the network.
        family: what it is, with its vocabulary.
        requests: what to score.
        estimator: one of those that the family names, or "auto" for the first of them; or an `Estimator`.
        tokens: the most tokens, padding included, that one network call reads, unless one row has more; by default
            4096, and 32768 on a GPU.
        device: where the network is.
        show: show progress on standard error.
        error: the standard error, in nats of a request, at which its draws end: where the upper limit of the measured
            error, at a confidence of 0.9, is below. They are made in rounds of 4 groups of copies, 6, 9 and so
            on, of which those of 8 groups or more are believed.
            By default, and where it is not reached, all draws are made.
        options: of the estimator, such as draws, seed, guidance, strata, or params for "rule".

    RemaskError for an estimator that does not fit or an option that it does not have, and, when it is reached, for a
    request without tokens.
    """
    kind, budget = prepared(family, estimator, tokens, device, options)
    if error is not None and not error > 0:
        raise RemaskError(f"error is {error}; it must be above 0, in nats")
    if error is None:
        return _score(denoiser, family, requests, kind, budget, device, show)
    return score_to_error(denoiser, family, requests, in_pairs(kind), budget, device, show, error)


@torch.inference_mode()
def _score(
    denoiser: Denoiser,
    family: Family,
    requests: Iterable[Request],
    estimator: Estimator,
    budget: int,
    device: str | torch.device,
    show: bool,
) -> Iterator[tuple[Any, Estimate]]:
    waiting: deque[Pending] = deque()
    total = sum(estimator.count(r) for r in requests) if show and isinstance(requests, Sequence) else None
    with progress("scoring", total, "rows") if show else nullcontext(lambda n: None) as tick:
        for window in windows(work_of(requests, estimator, family, waiting), WINDOW * budget):
            for size in read(denoiser, family, estimator, window, budget, device):
                tick(size)
            yield from finish_scored(waiting, estimator)
        yield from finish_scored(waiting, estimator)


def work_of(
    requests: Iterable[Request], estimator: Estimator, family: Family, waiting: deque[Pending]
) -> Iterator[Work]:
    """The copies that the network has to read, one request after another; adds the requests to `waiting`."""
    for place, request in enumerate(requests):
        if not len(request.target):
            raise RemaskError("nothing to score: a text has no tokens")
        pending = Pending(place if request.id is None else request.id, request)
        waiting.append(pending)
        for i, copy in enumerate(estimator.copies(request, family)):
            pending.values.append(math.nan if copy.value is None else copy.value)
            if copy.value is None:
                yield pending.values, i, copy
        pending.complete = True


def windows(work: Iterator[Work], size: int) -> Iterator[list[Work]]:
    """The copies in parts of about `size` tokens."""
    window, tokens = [], 0
    for item in work:
        window.append(item)
        tokens += item[2].request.length
        if tokens >= size:
            yield window
            window, tokens = [], 0
    if window:
        yield window


def finish_scored(waiting: deque[Pending], estimator: Estimator) -> Iterator[tuple[Any, Estimate]]:
    """The estimates of the first requests whose copies have all been read, which leave the queue."""
    while waiting and waiting[0].complete:
        pending = waiting.popleft()
        yield pending.id, estimator.finish(pending.request, checked(pending.values))
