"""Confidence: the two published schedules, and which position is the most certain."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import UNHURRIED, Counting, Table
from writing import PROMPTED, counts, fill, network

from remask.errors import RemaskError
from remask.families.masked import Masked
from remask.sampling.confidence import Confidence, Rule, Schedule

EVEN = [
    (10, 4, [3, 3, 2, 2]),
    (8, 8, [1] * 8),
    (8, 1, [8]),
    (7, 3, [3, 2, 2]),
    (3, 5, [1, 1, 1]),
    (32, 5, [7, 7, 6, 6, 6]),
]


def test_even_schedule_is_that_of_llada() -> None:
    for rule in get_args(Rule):
        for masks, steps, expected in EVEN:
            assert counts(Confidence(rule=rule), masks, steps=steps) == expected


def test_linear_schedule_is_that_of_smdm() -> None:
    for masks, steps, expected in [
        (32, 32, [0, *[1] * 30, 2]),
        (8, 8, [0, 1, 1, 1, 1, 1, 1, 2]),
        (10, 4, [2, 2, 2, 4]),
        (40, 32, [*[1] * 25, *[2] * 6, 3]),
        (64, 16, [3, *[4] * 14, 5]),
        (100, 128, None),
        (200, 256, None),
    ]:
        sampler = Confidence(schedule="linear", rule="left")
        left, found = masks, []
        for i in range(steps):
            n = int(sampler.count(torch.tensor([i]), steps, torch.tensor([masks]), torch.tensor([left])))
            found.append(n)
            left -= n
        assert left == 0
        if expected is not None:
            assert found == expected
        elif masks == 100:
            assert found[:30] == [0] * 29 + [1]
        else:
            assert (found[:58], found[-1]) == ([0] * 57 + [1], 2)
        if masks <= 64:
            assert counts(sampler, masks, steps=steps) == [n for n in found if n]


@UNHURRIED
@given(masks=st.integers(0, 60), steps=st.integers(1, 80), schedule=st.sampled_from(get_args(Schedule)))
def test_a_schedule_writes_everything_and_never_too_much(masks: int, steps: int, schedule: Schedule) -> None:
    """Of rows that are at different steps too."""
    sampler = Confidence(schedule=schedule)
    whole = torch.tensor([masks, 60 - masks])
    left, step, late = whole.clone(), torch.zeros(2, dtype=torch.int64), torch.tensor([0, 1])
    for _ in range(steps + 1):
        begun = step >= late
        count = sampler.count((step - late).clamp(min=0), steps, whole, left) * begun
        assert bool((count >= 0).all() and (count <= left).all())
        left, step = left - count, step + 1
    assert not bool(left.any())


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_more_steps_than_masks_cost_no_more_calls(schedule: Schedule) -> None:
    model = network()
    for rule in get_args(Rule):
        counted = Counting(model)
        fill(Confidence(rule=rule, schedule=schedule), counted, [[1, *[None] * 6]], steps=50)
        assert counted.calls <= 6


def test_one_token_at_a_time_is_the_most_certain_one() -> None:
    table = Table.random(4, 5, seed=3)
    family = Masked().over(table.vocabulary)
    for rule in ("probability", "margin", "entropy"):
        before = torch.full((1, 5), 4)
        for step in fill(Confidence(rule=rule), table, [[None] * 5], family=family, seed=1):
            p = table(before)[0].softmax(-1).sort(-1, descending=True).values
            sure = {"probability": p[:, 0], "margin": p[:, 0] - p[:, 1], "entropy": (p * p.log()).sum(-1)}[rule]
            sure = sure.masked_fill(before[0] != 4, -torch.inf)
            assert int(step.changed[0].nonzero()) == int(sure.argmax())
            before = step.tokens


def test_left_takes_the_leftmost_and_random_is_another_order_with_every_seed() -> None:
    model, row = network(), PROMPTED[4]
    places = [i for i, token in enumerate(row) if token is None]
    order = [int(step.changed[0].nonzero()) for step in fill(Confidence(rule="left"), model, [row])]
    assert order == places
    orders = {
        tuple(int(step.changed[0].nonzero()) for step in fill(Confidence(rule="random"), model, [row], seed=seed))
        for seed in range(12)
    }
    assert len(orders) > 6 and all(sorted(order) == places for order in orders)


def test_options() -> None:
    with pytest.raises(RemaskError, match=r"unknown rule 'margn'. Did you mean 'margin'"):
        Confidence(rule="margn")  # type: ignore[arg-type]
    with pytest.raises(RemaskError, match=r"unknown schedule 'cosine'. Known: even, linear"):
        Confidence(schedule="cosine")  # type: ignore[arg-type]
