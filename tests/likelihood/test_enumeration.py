"""All masks: the bound itself."""

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from tables import Counting, any_order

from likelihood.cases import FAMILY, MASKED, MODEL, TABLE, TEXT, TIMED, one, scores
from remask.batch import Batch
from remask.families.denoiser import per_row
from remask.likelihood import Request
from remask.likelihood.enumeration import Enumeration
from remask.model.transformer import Transformer


@pytest.mark.parametrize("text", [TEXT, (0, 0, 0, 0), (1, 2, 0, 2)])
def test_few_tokens_are_enumerated(text: tuple[int, ...]) -> None:
    counted = Counting(TABLE)
    (found,) = scores(counted, FAMILY, [Request(text)], draws=15)
    assert found.nats == pytest.approx(any_order(TABLE, text), rel=1e-6)
    assert (found.stderr, found.kind, found.tokens) == (0.0, "bound", 4)
    assert sum(counted.sizes) == 15
    drawn = one(request=Request(text), draws=14)
    assert drawn.stderr > 0 and drawn.nats != found.nats


def test_enumeration_with_a_prompt_is_the_bound_of_the_rest() -> None:
    table = Counting(TABLE)
    (found,) = scores(table, FAMILY, [Request(TEXT[2:], TEXT[:2])])
    given = TABLE.given((2, 0, None, None))
    first = [
        -(given[i][TEXT[i]] + TABLE.given(s)[j][TEXT[j]])
        for i, j, s in ((2, 3, (2, 0, 1, None)), (3, 2, (2, 0, None, 1)))
    ]
    assert found.nats == pytest.approx(sum(first) / 2, rel=1e-6)


@pytest.mark.parametrize("model", [MODEL, TIMED], ids=["no time", "time"])
def test_scores_are_the_bound_of_the_family(model: Transformer) -> None:
    """A network that is conditioned on time reads the same time in both."""
    request = Request((3, 1, 4), (1, 5))
    (found,) = scores(model, MASKED, [request])
    whole = torch.tensor([[*request.prompt, *request.target]]).expand(6, -1)
    batch = Batch(whole, torch.arange(5).expand(6, -1) >= 2)
    family = replace(MASKED, objective="count")
    uniform = torch.tensor([[0, 0, *order] for order in permutations([0.1, 0.2, 0.3])])
    values = []
    with torch.no_grad():
        for k in range(3):
            hidden, weight = family.masks(batch.scored, torch.full((6,), (k + 0.5) / 3), uniform)
            noisy = family.inputs_for(batch, hidden, weight)
            values.append(per_row(family.token_loss(model, noisy), noisy.ask))
    assert found.nats == pytest.approx(float(torch.stack(values).mean()), rel=1e-5)


def test_weights_of_the_enumeration_sum_to_the_tokens() -> None:
    for length in range(1, 8):
        hidden, weight = Enumeration(draws=2**length).masks(length, 0)
        assert len(hidden) == 2**length - 1 == len(hidden.unique(dim=0))
        assert float(weight.sum()) == pytest.approx(length)
        assert weight.sum(0).tolist() == pytest.approx([1.0] * length)
