"""An estimator that also says what each of its independent groups of draws found.

The metrics of a benchmark are no means of -log p, so that their Monte Carlo error does not follow from that of each
answer. It is found from the groups, which the answers of a question share.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from remask.families import Denoiser, Family
from remask.likelihood import Copy, Estimate, Estimator, Request
from remask.likelihood.masks import GROUPS, MaskEstimator, equal_groups


@dataclass(frozen=True)
class GroupedEstimate(Estimate):
    """An estimate with those of its groups."""

    groups: tuple[float, ...] = ()
    """The estimates of independent groups of draws, in nats; none where nothing is random."""


@dataclass(frozen=True, kw_only=True)
class Grouped(Estimator):
    """Another estimator, which keeps the estimates of its groups."""

    inner: Estimator

    def count(self, request: Request) -> int:
        return self.inner.count(request)

    def copies(self, request: Request, family: Family) -> Iterator[Copy]:
        return self.inner.copies(request, family)

    def evaluate(
        self, denoiser: Denoiser, family: Family, copies: Sequence[Copy], device: str | torch.device
    ) -> Tensor:
        return self.inner.evaluate(denoiser, family, copies, device)

    def preview(self, request: Request) -> Estimator | None:
        preview = self.inner.preview(request)
        return preview and Grouped(inner=preview)

    def groups_of(self, request: Request) -> list[int]:
        return self.inner.groups_of(request)

    def group_values(self, request: Request, values: Tensor) -> Tensor:
        return self.inner.group_values(request, values)

    def finish(self, request: Request, values: Tensor) -> GroupedEstimate:
        found: dict[str, Any] = vars(self.inner.finish(request, values))
        return GroupedEstimate(**found, groups=group_values(self.inner, request, values, found["kind"]))


def group_values(estimator: Estimator, request: Request, values: Tensor, kind: str) -> tuple[float, ...]:
    """The estimates of the independent groups of the (n,) `values` of a request's copies."""
    if kind == "exact" or len(values) < 2:
        return ()
    if estimator.groups_of(request):
        found = [float(nats) for nats in estimator.group_values(request, values)]
        return tuple(found) if len(found) > 1 else ()
    if isinstance(estimator, MaskEstimator):  # all masks were read, so nothing is random
        return ()
    return tuple(float(part.mean()) for part in values.split(equal_groups(len(values), min(GROUPS, len(values)))))
