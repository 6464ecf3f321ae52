"""Where all logits of a step would take much memory, they are computed in parts: the same text, never all at once."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tables import tiny
from torch import Tensor
from writing import BIDIRECTIONAL, END, MASK, MASKED, PROMPTED, V, fill, how, network

from remask.families.masked import Masked
from remask.model import logits
from remask.model.head import Head
from remask.model.logits import LogitsInParts
from remask.sampling import Canvas, start, stream
from remask.sampling.certain import Certain
from remask.sampling.confidence import Confidence
from remask.sampling.freedave import FreeDave
from remask.sampling.wino import WINO
from remask.vocabulary import Vocabulary

BY_CERTAINTY = [name for name, params in BIDIRECTIONAL.items() if isinstance(params.sampler, Certain)]
WHOLE = ["klass", "klass, in blocks", "credit", "threshold, finished early"]
"""Rules that need all logits of a step at once."""
ROWS = 4
"""Positions in a part."""


def in_parts_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a part has `ROWS` positions."""
    monkeypatch.setattr(logits, "PART", ROWS * V)
    monkeypatch.setattr(logits, "LEAST_ROWS", 1)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many positions each product of a head was, from now on."""
    sizes: list[int] = []
    real: Callable[[Head, Tensor, Tensor | None], Tensor] = Head.forward

    def forward(self: Head, hidden: Tensor, target: Tensor | None = None) -> Tensor:
        sizes.append(len(hidden))
        return real(self, hidden, target)

    monkeypatch.setattr(Head, "forward", forward)
    return sizes


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("name", BY_CERTAINTY)
def test_the_same_text_with_the_same_probabilities(
    name: str, temperature: float, products: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, way = network(), BIDIRECTIONAL[name]
    at_once = fill(way, model, PROMPTED, temperature=temperature)
    assert max(products) > ROWS
    products.clear()
    in_parts_of_few(monkeypatch)
    in_parts = fill(way, model, PROMPTED, temperature=temperature)
    most_written = max(int(step.changed.sum()) for step in at_once)  # whose logits are looked at together
    assert name in WHOLE or max(products) <= max(ROWS, most_written)
    for one, two in zip(at_once, in_parts, strict=True):
        assert torch.equal(one.tokens, two.tokens) and torch.equal(one.calls, two.calls)
        torch.testing.assert_close(one.log_prob, two.log_prob, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one.confidence, two.confidence, rtol=1e-5, atol=1e-6)


def test_rows_with_rules_of_their_own_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch in which some rules need all logits and others do not, each row is written as it is alone."""
    model, row = network(), PROMPTED[2]
    twice = [how(WINO(threshold=0.3)), how(FreeDave(), steps=6), how(Confidence(), expand="DAEDAL:initial=4,add=2")]
    ways = [replace(way, temperature=0.0) for way in [*BIDIRECTIONAL.values(), *twice]]
    alone = [fill(way, model, [row], seeds=[5])[-1].tokens for way in ways]
    in_parts_of_few(monkeypatch)
    state = start(MASKED, Canvas.of([row] * len(ways)), ways, [5] * len(ways))
    *_, last = stream(model, MASKED, state)
    assert torch.equal(last.tokens, torch.cat(alone))


def test_the_mask_is_never_written_where_the_head_predicts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, way = tiny(V + 1, V + 1, seed=2, sharpness=2.0), BIDIRECTIONAL["probability, one a step"]
    family = Masked().over(Vocabulary(size=V + 1, mask=MASK, end=END))
    model.lm_head.weight.data[MASK] = 3 * model.lm_head.weight.data[:MASK].amax(0)
    at_once = fill(way, model, PROMPTED, family=family)[-1].tokens
    in_parts_of_few(monkeypatch)
    in_parts = fill(way, model, PROMPTED, family=family)[-1].tokens
    assert torch.equal(at_once, in_parts)
    written = torch.tensor([[token is None for token in [*row, *[0] * (13 - len(row))]] for row in PROMPTED])
    assert not (in_parts[written] == MASK).any()


def test_any_part_of_the_logits_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts_of_few(monkeypatch)
    model = network()
    hidden = torch.randn(11, model.architecture.width, generator=torch.Generator().manual_seed(0))
    every = model.lm_head(hidden).detach()
    every[:, 3] = -torch.inf
    with torch.inference_mode():
        parts = LogitsInParts(model.lm_head, hidden, impossible=3)
        assert parts.shape == every.shape
        some = torch.tensor([7, 0, 7])
        torch.testing.assert_close(parts[some], every[some])
        torch.testing.assert_close(parts.map(lambda x: x.logsumexp(-1)), every.logsumexp(-1))
        none = LogitsInParts(model.lm_head, hidden[:0])
        assert none.map(lambda x: x.argmax(-1)).shape == (0,)
