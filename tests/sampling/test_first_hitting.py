"""The first-hitting sampler: how many tokens a step writes. Its law is in test_exact.py."""

from tables import Counting
from writing import counts, fill, network

from remask.sampling.first_hitting import FirstHitting


def test_a_step_writes_as_many_as_it_says() -> None:
    for at_once, options, length, expected in [
        (1, {}, 5, [1] * 5),
        (3, {}, 8, [3, 3, 2]),
        (1, {"steps": 4}, 10, [3, 3, 3, 1]),
        (5, {"steps": 10}, 10, [1] * 10),  # the number of steps counts
        (1, {"steps": 50}, 4, [1] * 4),
        (1, {"block": 2}, 5, [1] * 5),
        (1, {"steps": 4, "block": 4}, 8, [2, 2, 2, 2]),
    ]:
        assert counts(FirstHitting(at_once=at_once), length, **options) == expected


def test_it_asks_only_what_it_writes() -> None:
    counted = Counting(network())
    steps = fill(FirstHitting(at_once=2), counted, [[1, *[None] * 6]])
    assert counted.asked == [int(step.changed.sum()) for step in steps]
