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
from remask.likelihood.estimator import Copy, Estimator, choose
from remask.likelihood.request import Request
from remask.terminal import progress

WINDOW = 64
"""Network calls' worth of copies that are sorted by length together: what is in memory at a time."""


@dataclass
class Pending:
    """A request that is being scored."""

    id: Any
    request: Request
    values: list[float] = field(default_factory=list)
    complete: bool = False
    """Whether all of its copies have been made."""


Work = tuple[Pending, int, Copy]
"""A request, the number of a copy, and the copy."""


def score(
    denoiser: Denoiser,
    family: Family,
    requests: Iterable[Request],
    *,
    estimator: str | Estimator = "auto",
    tokens: int | None = None,
    device: str | torch.device = "cpu",
    show: bool = False,
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
        options: of the estimator, such as draws, seed, guidance, strata, or params for "rule".

    RemaskError for an estimator that does not fit or an option that it does not have, and, when it is reached, for a
    request without tokens.
    """
    if not isinstance(estimator, Estimator):
        estimator = choose(family, estimator, **options)
    budget = tokens or (4096 if torch.device(device).type == "cpu" else 32768)
    return _score(denoiser, family, requests, estimator, budget, device, show)


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
            for part in batches(window, budget):
                values = estimator.evaluate(denoiser, family, [copy for _, _, copy in part], device)
                for (pending, i, _), value in zip(part, values.tolist(), strict=True):
                    pending.values[i] = value
                tick(len(part))
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
                yield pending, i, copy
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


def batches(window: list[Work], budget: int) -> Iterator[list[Work]]:
    """The copies of a window in batches of like length, each of at most `budget` tokens with its padding."""
    part: list[Work] = []
    for item in sorted(window, key=lambda item: item[2].request.length):  # so the last is the longest
        if part and (len(part) + 1) * item[2].request.length > budget:
            yield part
            part = []
        part.append(item)
    if part:
        yield part


def finish_scored(waiting: deque[Pending], estimator: Estimator) -> Iterator[tuple[Any, Estimate]]:
    """The estimates of the first requests whose copies have all been read, which leave the queue."""
    while waiting and waiting[0].complete:
        pending = waiting.popleft()
        values = torch.tensor(pending.values, dtype=torch.float64)
        if bool(values.isnan().any()):
            raise RemaskError("the model predicts nan: its weights are damaged, or guidance too extreme")
        yield pending.id, estimator.finish(pending.request, values)
