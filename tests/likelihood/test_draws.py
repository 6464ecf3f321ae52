"""The bound of any family, by draws of its own."""

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from tables import tiny

from likelihood.cases import TABLE, TEXT, V, assert_mean, one, scores
from remask.families import Family
from remask.families.interpolating import Interpolating
from remask.families.uniform import Uniform
from remask.likelihood import Request
from remask.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Plain(Family):
    """Masked diffusion that names no estimator made for it."""

    estimators: ClassVar[tuple[str, ...]] = ("draws",)


@pytest.mark.parametrize("draws", [1, 3, 20])
def test_any_family_is_scored_by_its_own_bound(draws: int) -> None:
    family, requests = Plain().over(TABLE.vocabulary), [Request(TEXT[1:], TEXT[:1], noise_key=i) for i in range(500)]
    found = scores(TABLE, family, requests, draws=draws)
    values = torch.tensor([e.nats for e in found], dtype=torch.float64)
    assert_mean(values, one(request=Request(TEXT[1:], TEXT[:1])).nats)  # enumerated
    if draws == 1:
        assert all(math.isnan(e.stderr) for e in found)
    if draws == 20:
        reported = torch.tensor([e.stderr for e in found]).square().mean().sqrt()
        assert 0.8 < float(values.std() / reported) < 1.25


FAMILIES = [
    Uniform(),
    Interpolating(alpha_0=1.0),
    Interpolating(alpha_0=0.5),
    Interpolating(alpha_0=0.5, variant="A"),
    Interpolating(alpha_0=0.0),
]


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_padding_and_neighbours_change_nothing(family: Family) -> None:
    """Rows of other lengths share the batch: a row's noise, and what it sees, are its own."""
    bound = family.over(Vocabulary(size=V + 1, mask=V))
    model = tiny(V + 1, V, seed=3, sharpness=2.0, time=family.time == "required")
    requests = [Request((1, 2, 3)), Request((4, 5), (6, 7, 8, 1, 2, 3)), Request((5,), (2,)), Request((1,) * 9)]
    together = scores(model, bound, requests, draws=10)
    for request, found in zip(requests, together, strict=True):
        (alone,) = scores(model, bound, [request], draws=10, tokens=1)
        assert found.nats == pytest.approx(alone.nats, rel=1e-5)
        assert found.stderr == pytest.approx(alone.stderr, rel=1e-3, abs=1e-6)
        assert found.kind == ("exact" if family.exact else "bound")
