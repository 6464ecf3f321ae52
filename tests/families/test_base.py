"""What all families share: losses as sums over the scored tokens of the global batch."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from tables import Table, any_order, masked_nats, rng, subsets, tiny

from remask.batch import Batch
from remask.families import Family, build, families
from remask.vocabulary import Vocabulary

WORDS = Vocabulary(size=12, mask=11, end=0)


def uneven(rows: int = 8, length: int = 6) -> Batch:
    """Rows that have from 0 to `length` scored tokens, behind prompts of the rest."""
    tokens = torch.randint(0, 11, (rows, length), generator=rng(3))
    scored = torch.arange(length) >= torch.arange(rows)[:, None] % (length + 1)
    return Batch(tokens, scored, global_rows=rows, global_tokens=int(scored.sum()))


@pytest.mark.parametrize("cuts", [(8,), (4, 4), (1, 7), (2, 1, 5), (1,) * 8], ids=str)
@pytest.mark.parametrize("name", sorted(families()))
def test_shares_of_a_batch_give_its_loss_and_gradient(name: str, cuts: tuple[int, ...]) -> None:
    """Micro-batches and processes have rows of unequal numbers of scored tokens; trainers average their gradients."""
    model = tiny(12, 11, seed=1, time=name == "Uniform")
    family, whole = build({"name": name}).over(WORDS), uneven()
    expected = family.loss(model, replace(whole, global_tokens=None), rng(9))
    assert expected.tokens == whole.global_tokens
    wanted = torch.autograd.grad(expected.total / expected.tokens, list(model.parameters()))
    values, gradients, first = [], [], 0
    for rows in cuts:
        share = replace(whole.at(torch.arange(first, first + rows)), offset=first)
        loss = family.loss(model, share, rng(9))
        assert loss.tokens == int(share.scored.sum())
        value = loss.per_token(whole.global_tokens, len(cuts))
        values.append(value.detach())
        gradients.append(torch.autograd.grad(value, list(model.parameters())))
        first += rows
    torch.testing.assert_close(torch.stack(values).mean(), expected.per_token().detach())
    for found, truth in zip(zip(*gradients, strict=True), wanted, strict=True):
        torch.testing.assert_close(torch.stack(found).mean(0), truth, rtol=1e-4, atol=1e-6)


@dataclass(frozen=True, kw_only=True)
class Quadratic(Family):
    """Another law of the mask rate."""

    def alpha(self, t: Any) -> Any:
        return 1 - t**2


@dataclass(frozen=True, kw_only=True)
class Sine(Family):
    """Another one, of a tensor or a number."""

    def alpha(self, t: Any) -> Any:
        return 1 - torch.sin(torch.as_tensor(t) * math.pi / 2)


@pytest.mark.parametrize("kind", [Family, Quadratic, Sine])
def test_the_loss_of_any_schedule_has_the_bound_as_its_mean(kind: type[Family]) -> None:
    """The integral over time of weight, chance of each mask and nats, by the midpoint rule, is the mean over orders."""
    table, text = Table.random(3, 4, seed=4, sharpness=1.5), (2, 0, 1, 1)
    family, n = kind().over(table.vocabulary), 4000
    times = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    with torch.inference_mode():
        hidden, weight = family.masks(torch.ones(n, 4, dtype=torch.bool), times, torch.rand(n, 4, generator=rng(1)))
    rate = 1 - torch.as_tensor(family.alpha(times))
    assert float(hidden.double().mean()) == pytest.approx(float(rate.mean()), abs=0.02)
    total = 0.0
    for subset in subsets(4):
        chance = rate ** len(subset) * (1 - rate) ** (4 - len(subset))
        total += float((weight.double() * chance).mean()) * masked_nats(table, text, subset)
    assert total == pytest.approx(any_order(table, text), rel=1e-4)


@pytest.mark.parametrize("kind", [Family, Quadratic, Sine])
def test_the_bound_is_the_same_for_every_schedule(kind: type[Family]) -> None:
    table, text = Table.random(3, 4, seed=4, sharpness=1.5), (2, 0, 1, 1)
    family = kind().over(table.vocabulary)
    tokens = torch.tensor([text]).expand(4000, -1)
    values = family.bound(table, Batch(tokens, torch.ones_like(tokens, dtype=torch.bool)), rng(2))
    assert abs(float(values.mean()) - any_order(table, text)) < 4 * float(values.std()) / math.sqrt(4000)


def test_a_batch_without_scored_tokens_has_no_loss() -> None:
    batch = Batch(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.bool))
    for name in families():
        model = tiny(12, 11, time=name == "Uniform")
        loss = build({"name": name}).over(WORDS).loss(model, batch, rng(0))
        assert float(loss.per_token().detach()) == 0
