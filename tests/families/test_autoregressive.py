"""The autoregressive baseline: an exact likelihood, behind an end id, in every way of asking for it."""

import itertools
import math

import pytest
import torch
from tables import CausalTable, Counting, random_joint, rng, tiny
from torch import Tensor

from remask.batch import Batch
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.model.attention import CAUSAL, Both
from remask.vocabulary import Vocabulary


@pytest.mark.parametrize(("symbols", "length"), [(2, 1), (2, 4), (3, 3), (4, 4)])
def test_likelihood_is_that_of_the_table(symbols: int, length: int) -> None:
    joint = random_joint(symbols, length, seed=length)
    table = CausalTable(joint, end=symbols)
    family = Autoregressive().over(table.vocabulary)
    texts = torch.tensor(list(itertools.product(range(symbols), repeat=length)))
    batch = Batch(texts, torch.ones_like(texts, dtype=torch.bool))
    nats = family.bound(table, batch)
    assert nats.dtype == torch.float64
    torch.testing.assert_close(nats, -joint.flatten().log(), rtol=1e-6, atol=1e-6)
    loss = family.loss(table, batch, rng(0))
    assert loss.tokens == texts.numel()
    assert float(loss.per_token()) == pytest.approx(float(nats.sum()) / texts.numel(), rel=1e-6)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_probabilities_of_all_texts_sum_to_one(kv_heads: int) -> None:
    model = tiny(4, 3, seed=3, kv_heads=kv_heads, sharpness=2.0)
    family = Autoregressive().over(Vocabulary(size=4, end=3))
    texts = torch.tensor(list(itertools.product(range(3), repeat=3)))
    with torch.no_grad():
        nats = family.bound(model, Batch(texts, torch.ones_like(texts, dtype=torch.bool)))
    assert float((-nats).exp().sum()) == pytest.approx(1, abs=1e-5)
    assert float(nats.std()) > 0.1


def test_the_network_reads_the_row_moved_right_behind_the_end_id() -> None:
    family = Autoregressive().over(Vocabulary(size=10, end=9))
    tokens = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    scored = torch.tensor([[True, True, True, True], [False, False, True, True]])
    noisy = family.corrupt(Batch(tokens, scored))
    assert noisy.tokens.tolist() == [[9, 1, 2, 3], [9, 5, 6, 7]]
    assert torch.equal(noisy.ask, scored)
    assert noisy.target.tolist() == [1, 2, 3, 4, 7, 8]
    assert noisy.weight.tolist() == [1.0] * 6
    assert noisy.attention is CAUSAL
    assert noisy.time is None and noisy.positions is None


def test_a_network_that_could_see_the_answer_does_not() -> None:
    """Position i reads tokens before i only: a change of token i leaves its own logits as they were."""
    model = tiny(6, 5, seed=1)
    family = Autoregressive().over(Vocabulary(size=6, end=5))
    tokens = torch.randint(5, (1, 7), generator=rng(0))

    def read(text: Tensor) -> Tensor:
        noisy = family.corrupt(Batch(text, torch.ones_like(text, dtype=torch.bool)))
        return model(noisy.tokens, ask=noisy.ask, **noisy.conditions)

    with torch.no_grad():
        before = read(tokens)
        for i in range(7):
            other = tokens.clone()
            other[0, i] = (other[0, i] + 1) % 5
            after = read(other)
            torch.testing.assert_close(after[: i + 1], before[: i + 1])
            assert i == 6 or not torch.allclose(after[i + 1], before[i + 1])


def test_prompts_condition_and_are_not_scored() -> None:
    joint = random_joint(3, 4, seed=9)
    table = Counting(CausalTable(joint, end=3))
    family = Autoregressive().over(Vocabulary(size=4, end=3))
    tokens = torch.tensor([[2, 0, 1, 1]])
    nats = family.bound(table, Batch(tokens, torch.tensor([[False, False, True, True]])))
    truth = math.log(float(joint[2, 0].sum())) - math.log(float(joint[2, 0, 1, 1]))
    assert float(nats) == pytest.approx(truth, rel=1e-6)
    assert table.asked == [2]
    batch = Batch(tokens, torch.tensor([[False, False, True, True]]))
    assert float(family.loss(table, batch, rng(0)).per_token()) == pytest.approx(truth / 2, rel=1e-6)


def test_a_row_in_two_pieces_has_the_likelihood_of_the_pieces_apart() -> None:
    """Each piece is a text of its own, so it starts behind the end id and not behind the other's last token."""
    model = tiny(8, 7, seed=5)
    family = Autoregressive().over(Vocabulary(size=8, end=7))
    tokens = torch.randint(7, (2, 9), generator=rng(1))
    cut = 4
    segments = (torch.arange(9) >= cut).long().expand(2, -1)
    whole = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool), segments)
    noisy = family.corrupt(whole)
    assert isinstance(noisy.attention, Both)
    with torch.no_grad():
        together = family.bound(model, whole)
        apart = sum(
            family.bound(model, Batch(part, torch.ones_like(part, dtype=torch.bool)))
            for part in (tokens[:, :cut], tokens[:, cut:])
        )
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)


def test_it_says_what_it_is() -> None:
    family = Autoregressive()
    assert family.exact and family.sampler == "LeftToRight"
    with pytest.raises(RemaskError, match="end-of-text"):
        _ = family.over(Vocabulary(size=4, mask=3)).start
    with pytest.raises(RemaskError, match="no noise process"):
        family.alpha(0.5)
