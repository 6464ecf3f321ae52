"""FreeDave writes the text that Confidence writes, in fewer calls."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import Counting, tiny
from writing import ENDS, MASKED, Fixed, V, begin, fill

from remask.errors import RemaskError
from remask.sampling import stream
from remask.sampling.confidence import Confidence
from remask.sampling.freedave import FreeDave

ROWS = [[3, 1, *[None] * 10], [None] * 7, [2, None, None, 6, None, 7, 7, None]]
MODELS = [tiny(V + 1, V, seed=seed, sharpness=3.0, convolution=3) for seed in range(4)]


@settings(max_examples=16, deadline=None)
@given(
    seed=st.integers(0, 3),
    drafts=st.integers(1, 6),
    rule=st.sampled_from(["probability", "margin", "entropy"]),
    schedule=st.sampled_from(["even", "linear"]),
    steps=st.sampled_from([None, 3, 6, 20]),
    block=st.sampled_from([None, 1, 3]),
    prior=st.sampled_from([0.0, 1.0]),
)
def test_the_text_is_that_of_confidence(seed: int, drafts: int, **options: Any) -> None:
    way = {name: options.pop(name) for name in ("rule", "schedule", "prior")}
    plain = fill(Confidence(**way), MODELS[seed], ROWS, temperature=0, **options)
    found = fill(FreeDave(drafts=drafts, **way), MODELS[seed], ROWS, temperature=0, **options)
    assert torch.equal(found[-1].tokens, plain[-1].tokens) and not found[-1].masked.any()


def calls(sampler: Confidence, model: Any, **options: Any) -> int:
    counted = Counting(model)
    list(stream(counted, MASKED, begin(sampler, [[None] * 12], temperature=0, **options)))
    return counted.calls


def test_what_it_costs() -> None:
    """Where the predictions do not change all drafts are right; with one draft it makes the calls of Confidence."""
    flat = Fixed(torch.eye(12, V) + torch.arange(12)[:, None] / 10)
    assert calls(Confidence(), flat) == 12
    assert calls(FreeDave(drafts=1), flat) == 12
    assert calls(FreeDave(drafts=4), flat) == 4  # the first predictions, then three times four steps
    assert calls(FreeDave(drafts=4), flat, block=6) == 6
    state = begin(FreeDave(drafts=4), [[None] * 12], temperature=0)
    list(stream(flat, MASKED, state))
    assert state.calls.tolist() == [1 + 4 + 4 + 3], "each draft that is read counts; a complete one is not read"
    for model in MODELS:
        assert calls(FreeDave(drafts=3), model) <= calls(Confidence(), model)


def test_it_ends_where_confidence_ends() -> None:
    """At the first end-of-text token with nothing masked before it, whatever a draft has behind it."""
    for seed in range(8):
        model = tiny(7, 6, seed=seed, sharpness=3.0)
        rows = [[1, *[None] * 9], [None] * 5]
        plain, found = (
            fill(way, model, rows, family=ENDS, stop=True, temperature=0, block=5)[-1].tokens
            for way in (Confidence(rule="margin"), FreeDave(rule="margin", drafts=5))
        )
        assert torch.equal(plain, found)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "the temperature must be 0"),
        ({"temperature": 0, "cache": "Dual"}, "leave cache, window and grow out"),
        ({"temperature": 0, "block": 3, "grow": True}, "leave cache, window and grow out"),
    ],
)
def test_what_it_refuses(options: dict[str, Any], says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        begin(FreeDave(), ROWS, **options)
    with pytest.raises(RemaskError, match="drafts is 0"):
        FreeDave(drafts=0)
    with pytest.raises(RemaskError, match="without finish"):
        FreeDave(rule="left")
