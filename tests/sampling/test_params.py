"""What a generation may ask is checked where it is asked."""

import math

import pytest

from remask.errors import RemaskError
from remask.sampling import SamplingParams
from remask.sampling.params import LARGEST


def test_what_is_out_of_range_is_named_with_what_is_accepted() -> None:
    for options, says in [
        ({"length": 0}, "length is 0; it must be at least 1"),
        ({"steps": 0}, "steps is 0; it must be at least 1, and at most 65536"),
        ({"steps": -3}, "steps is -3"),
        ({"steps": LARGEST + 1}, "steps is 65537"),
        ({"block": 0}, "block is 0; it must be at least 1"),
        ({"block": -1}, "block is -1"),
        ({"temperature": -1.0}, "temperature is -1.0; it must be 0 or more"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0; it must be above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_p": math.nan}, "top_p is nan"),
        ({"top_k": -1}, "top_k is -1; it must be 0"),
        ({"top_k": 2**63}, f"top_k is {2**63}; it must be 0"),
        ({"guidance": math.nan}, "guidance is nan; it must be finite"),
        ({"guidance": math.inf}, "guidance is inf"),
    ]:
        with pytest.raises(RemaskError, match=says):
            SamplingParams(**options)


def test_the_ends_of_the_ranges_are_in() -> None:
    least = SamplingParams(length=1, steps=1, block=1, temperature=0, top_p=1e-9, top_k=0, guidance=-1.0)
    most = SamplingParams(steps=LARGEST, block=LARGEST, temperature=1e9, top_p=1.0, top_k=10**9)
    assert least.steps == 1 and most.steps == LARGEST
