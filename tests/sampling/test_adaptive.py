"""Rules that write as many positions as they find certain: each against its definition, and what they refuse."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from writing import begin

from remask.errors import RemaskError
from remask.sampling.adaptive import Adaptive, EntropyBound, Factor, LocalLeap, Runs, Threshold
from remask.sampling.certain import Certain
from remask.sampling.predictions import Predictions
from remask.sampling.sampler import Query

ROWS = st.lists(st.one_of(st.none(), st.floats(0.02, 0.999)), min_size=1, max_size=12).filter(
    lambda row: any(x is not None for x in row)
)
"""Of one row: None where nothing is asked, else the probability of the most probable of 60 tokens."""


def predictions(row: list[float | None]) -> tuple[Tensor, Tensor]:
    """Logits with these highest probabilities, and the asked positions, (1, L) bool."""
    asked = torch.tensor([[x is not None for x in row]])
    p = torch.tensor([x for x in row if x is not None], dtype=torch.float64)
    rest = ((1 - p) / 59)[:, None].expand(-1, 59)
    return torch.cat([p[:, None], rest], 1).log().float(), asked


def seen(logits: Tensor, asked: Tensor) -> Predictions:
    """Predictions of a row whose asked positions are open."""
    row = [[None if x else 0 for x in asked[0].tolist()]]
    return Predictions(logits, Query(asked), begin(Threshold(), row))


def chosen(rule: Certain, row: list[float | None]) -> set[int]:
    logits, asked = predictions(row)
    return set((rule.choose(seen(logits, asked)) & asked)[0].nonzero()[:, 0].tolist())


def best(row: list[float | None]) -> int:
    return max(range(len(row)), key=lambda i: -1.0 if row[i] is None else row[i])  # type: ignore[arg-type, return-value]


def ranked(row: list[float | None]) -> list[int]:
    """Asked positions, the most certain first; of equal ones the left one."""
    return sorted((i for i, x in enumerate(row) if x is not None), key=lambda i: (-(row[i] or 0.0), i))


@given(ROWS)
def test_threshold(row: list[float | None]) -> None:
    wanted = {i for i, x in enumerate(row) if x is not None and x >= 0.9} | {best(row)}
    near = {i for i, x in enumerate(row) if x is not None and abs(x - 0.9) < 1e-5}
    assert chosen(Threshold(), row) - near == wanted - near


@given(ROWS, st.sampled_from([0.3, 1.0, 2.5]))
def test_factor(row: list[float | None], factor: float) -> None:
    order, count = ranked(row), 1
    while count < len(order) and (count + 2) * (1 - (row[order[count]] or 0.0)) <= factor:
        if abs((count + 2) * (1 - (row[order[count]] or 0.0)) - factor) < 1e-4:
            return  # rounding decides
        count += 1
    if count < len(order) and abs((count + 2) * (1 - (row[order[count]] or 0.0)) - factor) < 1e-4:
        return
    found = chosen(Factor(factor=factor), row)
    assert len(found) == count and all((row[i] or 0) >= (row[order[count - 1]] or 0) - 1e-6 for i in found)


@given(ROWS, st.sampled_from([0.0, 0.1, 1.0, 5.0]))
def test_entropy_bound(row: list[float | None], bound: float) -> None:
    def entropy(p: float) -> float:
        return -p * math.log(p) - (1 - p) * math.log((1 - p) / 59)

    order = sorted((i for i, x in enumerate(row) if x is not None), key=lambda i: entropy(row[i] or 0.5))
    values = [entropy(row[i] or 0.5) for i in order]
    sums = [sum(values[:n]) - max(values[:n]) for n in range(1, len(values) + 1)]
    if any(abs(one - bound) < 1e-4 for one in sums[1:]):
        return  # rounding decides
    count = max(n for n, one in enumerate(sums, 1) if one <= bound + 1e-9)
    found = chosen(EntropyBound(bound=bound), row)
    assert len(found) == count and max(entropy(row[i] or 0.5) for i in found) <= values[count - 1] + 1e-4


@pytest.mark.parametrize(("order", "wanted"), [("entropy", {0, 2}), ("probability", {0, 1}), ("margin", {1, 0})])
def test_entropy_bound_in_another_order(order: str, wanted: set[int]) -> None:
    """Three predictions whose entropies, 0.75, 1.26 and 1.02, are in another order than their certainty."""
    p = torch.tensor([[0.50, 0.49, 0.005, 0.005], [0.48, 0.18, 0.17, 0.17], [0.45, 0.45, 0.05, 0.05]])
    rule = EntropyBound(bound=0.8, measure=order)  # type: ignore[arg-type]
    found = rule.choose(seen(p.log(), torch.ones(1, 3, dtype=torch.bool)))
    assert set(found[0].nonzero()[:, 0].tolist()) == wanted


@pytest.mark.parametrize("rule", [Threshold(), Factor(), EntropyBound(), LocalLeap(), Runs()])
def test_something_is_written_even_where_the_network_predicts_nan(rule: Adaptive) -> None:
    asked = torch.tensor([[True, False, True, True]])
    assert int((rule.choose(seen(torch.full((3, 5), math.nan), asked)) & asked).sum()) >= 1


@given(ROWS)
def test_local_leap(row: list[float | None]) -> None:
    rule = LocalLeap(threshold=0.9, near=0.6, radius=2)
    anchors = [i for i, x in enumerate(row) if x is not None and x >= 0.9]
    wanted = {i for i, x in enumerate(row) if x is not None and x >= 0.6 and any(abs(i - a) <= 2 for a in anchors)}
    if all(x is None or min(abs(x - 0.9), abs(x - 0.6)) > 1e-5 for x in row):
        assert chosen(rule, row) == wanted | {best(row)}


@given(ROWS)
def test_runs(row: list[float | None]) -> None:
    wanted = {best(row)} | {i for i, x in enumerate(row) if x is not None and x >= 0.95}
    start = 0
    for i in range(len(row) + 1):
        if i == len(row) or row[i] is None:
            run = [j for j in range(start, i) if row[j] is not None]
            if run:
                top = max(run, key=lambda j: (row[j] or 0.0, -j))
                wanted |= {top} if (row[top] or 0.0) > 0.4 else set()
            start = i + 1
    distinct = [x for x in row if x is not None]
    apart = all(abs(a - b) > 1e-5 for n, a in enumerate(distinct) for b in distinct[:n])
    if apart and all(min(abs(x - 0.4), abs(x - 0.95)) > 1e-5 for x in distinct):
        assert chosen(Runs(threshold=0.95, low=0.4), row) == wanted


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Threshold(threshold=1.5), "threshold is 1.5; it is a probability"),
        (lambda: Factor(factor=0.0), "factor is 0.0; it must be above 0"),
        (lambda: EntropyBound(bound=-1.0), "bound is -1.0; it must be 0 nats or more"),
        (lambda: EntropyBound(measure="size"), "unknown measure 'size'"),  # type: ignore[arg-type]
        (lambda: LocalLeap(near=math.nan), "near is nan"),
        (lambda: LocalLeap(threshold=0.5, near=0.9), "near is 0.9, above the threshold of 0.5"),
        (lambda: Runs(threshold=0.3, low=0.9), "low is 0.9, above the threshold of 0.3"),
        (lambda: LocalLeap(radius=-1), "radius is -1"),
        (lambda: Runs(low=2.0), "low is 2.0"),
    ],
)
def test_what_cannot_be(made: object, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        made()  # type: ignore[operator]
