"""SMDM's own rules: what it keeps of its draws, and pooling over the batch where that is asked for."""

import pytest
import torch
from writing import ENDS, Fixed, Row, fill, network

from remask.errors import RemaskError
from remask.sampling import Sampler
from remask.sampling.llada import LLaDA
from remask.sampling.smdm import SMDM, probability


def test_pooling_depends_on_the_batch_and_is_asked_for() -> None:
    model = network()
    rows: list[Row] = [[1, 2, *[None] * 9], [5, 3, *[None] * 9]]
    alone = fill(SMDM(), model, rows[:1], steps=5, temperature=0)[-1].tokens[0]
    assert torch.equal(fill(SMDM(), model, rows, steps=5, temperature=0)[-1].tokens[0], alone)
    counts = [step.changed.sum(1).tolist() for step in fill(SMDM(pooled=True), model, rows, steps=5)]
    assert any(one != two for one, two in counts)
    assert [sum(c) for c in counts] == [3, 3, 3, 4, 5], "floor of a share of all 18 masks; the rest at the last step"


def test_it_tells_apart_what_is_nearly_sure() -> None:
    """Confidence in float64, as published: 1 - 2e-9 comes after 1 - 1e-11."""
    logits = torch.tensor([[20.0, 0, 0, 0, 0, 0], [0, 25.0, 0, 0, 0, 0], [0, 0, 3.0, 0, 0, 0], [0, 0, 0, 22.0, 0, 0]])
    steps = fill(SMDM(), Fixed(logits), [[None] * 4], family=ENDS, steps=8, temperature=0)
    order = [column for step in steps for column in step.changed[0].nonzero()[:, 0].tolist()]
    assert order[:3] == [1, 3, 0]
    torch.testing.assert_close(
        probability(logits, torch.arange(4)), logits.double().softmax(-1).diagonal(), rtol=1e-7, atol=1e-15
    )


@pytest.mark.parametrize(("sampler", "steps"), [(SMDM(), 64), (LLaDA(), None)], ids=["SMDM", "LLaDA"])
def test_confidence_is_that_of_the_model_and_not_of_the_temperature(sampler: Sampler, steps: int | None) -> None:
    """At a high temperature anything is drawn; what was drawn is judged by the prediction without temperature."""
    logits, rows = torch.tensor([[6.0, 0, 0, 0, 0, 0]]).repeat(4, 1), 60
    every = fill(sampler, Fixed(logits), [[None] * 4] * rows, family=ENDS, steps=steps, temperature=50.0)
    first = next(step for step in every if bool(step.changed.any()))
    likely = int((first.tokens[first.changed] == 0).sum())
    assert int(first.changed.sum()) == rows
    assert likely > 0.35 * rows, "of four draws that are 0 one time in six, a 0 is kept whenever there is one"


def test_options() -> None:
    with pytest.raises(RemaskError, match=r"unknown algorithm 'greddy'. Did you mean 'greedy'"):
        SMDM(algorithm="greddy")  # type: ignore[arg-type]
