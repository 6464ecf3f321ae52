"""The likelihood of texts and its gradient, against enumeration of all texts of a small vocabulary and length."""

import itertools
from typing import Any

import pytest
import torch
from tables import rng, tiny
from torch import Tensor

from remask.batch import Batch, RowNoise
from remask.families import Family
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.model.transformer import Transformer
from remask.sampling import Canvas, start, stream
from remask.training.reinforcement import likelihood
from remask.training.reinforcement.just_grpo import JustGRPO
from remask.training.reinforcement.likelihood import weighted_nats
from remask.training.reinforcement.objective import PolicyObjective, group_advantages
from remask.training.reinforcement.policy import up_to_end
from remask.training.reinforcement.wd1 import WD1
from remask.vocabulary import Vocabulary

END, ROOM = 2, 3
PROMPT = [0, 1]
LAST = Vocabulary(size=4, mask=3, end=END)
"""Three ids, one of which ends a text, and the mask behind them."""
FIRST = Vocabulary(size=4, mask=3 - 3, end=END)
"""The mask is id 0, so that the head has a row for it."""
CASES = [(Masked(), LAST), (Masked(), FIRST), (Autoregressive(), LAST)]


def network(vocabulary: Vocabulary) -> Transformer:
    return tiny(vocabulary.size, vocabulary.predicted, seed=3).double()


def every_text(vocabulary: Vocabulary) -> list[list[int]]:
    """All texts that can be written: they stop at their end, or where the room is full."""
    ids = [i for i in range(vocabulary.size) if i != vocabulary.mask]
    whole = itertools.product(ids, repeat=ROOM)
    return [list(t) for t in dict.fromkeys(t[: t.index(END) + 1] if END in t else t for t in whole)]


def log_prob(model: Transformer, family: Family, text: list[int], prompt: list[int]) -> Tensor:
    """() log p(text | prompt), one call of the network for each token."""
    found = torch.zeros((), dtype=torch.float64)
    vocabulary = family.vocabulary
    for t, token in enumerate(text):
        if family.order == "left":
            from remask.model.attention import CAUSAL

            logits = model(torch.tensor([[END, *prompt, *text[:t]]]), attention=CAUSAL)[0, -1]
        else:
            assert vocabulary.mask is not None
            logits = model(torch.tensor([[*prompt, *text[:t], *[vocabulary.mask] * (ROOM - t)]]))[0, len(prompt) + t]
            if vocabulary.mask < len(logits):
                logits = logits.index_fill(0, torch.tensor([vocabulary.mask]), -torch.inf)
        found = found + logits.double().log_softmax(0)[token]
    return found


def batch_of(texts: list[list[int]], prompt: list[int]) -> tuple[Batch, Tensor]:
    """The texts behind the prompt, with the end where a text has ended; and (B, L) bool, what was written."""
    rows = torch.tensor([[*prompt, *text, *[END] * (ROOM - len(text))] for text in texts])
    scored = torch.zeros_like(rows, dtype=torch.bool)
    scored[:, len(prompt) :] = True
    return Batch(rows, scored), up_to_end(rows, scored, [END])


def gradient_of(value: Tensor, model: Transformer) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])


def reward_of(text: list[int]) -> float:
    return float(len(text) - 2 * text.count(1) + 0.5 * (text[0] == END))


@pytest.mark.parametrize(("family", "vocabulary"), CASES)
def test_texts_have_the_probability_with_which_they_are_written(family: Family, vocabulary: Vocabulary) -> None:
    family, model = family.over(vocabulary), network(vocabulary)
    texts, prompt = every_text(vocabulary), PROMPT if vocabulary.mask == 3 else [1, 3]
    batch, written = batch_of(texts, prompt)
    assert written.sum(1).tolist() == [len(text) for text in texts]
    copies = JustGRPO().copies(family, batch, written, rng(0))
    assert len(copies.row) == (len(texts) if family.order == "left" else sum(map(len, texts)))
    expected = torch.stack([log_prob(model, family, text, prompt) for text in texts])
    for i in range(len(texts)):
        weight = torch.zeros(len(texts), dtype=torch.float64)
        weight[i] = 1.0
        found = weighted_nats(model, family, batch, copies, weight)
        torch.testing.assert_close(found.double(), -expected[i], rtol=0, atol=1e-5)
    assert float(expected.exp().sum().detach()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("family", "vocabulary"), CASES)
def test_the_sampler_agrees(family: Family, vocabulary: Vocabulary) -> None:
    """Texts are written by the very law whose likelihood is taken."""
    family, model = family.over(vocabulary), network(vocabulary)
    batch, _ = batch_of([[END]] * 24, [1, 3 if vocabulary.mask == 0 else 0])
    canvas = Canvas(batch.tokens, batch.scored, torch.ones_like(batch.scored))
    state = start(family, canvas, JustGRPO().sampling(family), list(range(24)))
    for _ in stream(model, family, state):
        pass
    tokens = state.tokens.clone()
    written = up_to_end(tokens, batch.scored, [END])
    assert len({tuple(row) for row in tokens.tolist()}) > 2 and 0 < int(written.sum()) < 24 * ROOM
    filled = Batch(tokens, batch.scored)
    copies = JustGRPO().copies(family, filled, written, rng(0))
    for i in range(24):
        weight = torch.zeros(24, dtype=torch.float64).index_fill(0, torch.tensor([i]), 1.0)
        found = -float(weighted_nats(model, family, filled, copies, weight).detach())
        assert found == pytest.approx(float(state.log_prob[i]), abs=1e-5)


@pytest.mark.parametrize(("family", "vocabulary"), CASES)
def test_the_policy_gradient_is_that_of_the_expected_reward(family: Family, vocabulary: Vocabulary) -> None:
    """The mean over all texts, weighted by their probability, of r (-log p)'s gradient is minus that of E r; and the
    mean over all pairs, with the advantages of the pair, is that as well: a baseline changes no mean."""
    family, model = family.over(vocabulary), network(vocabulary)
    texts, prompt = every_text(vocabulary), PROMPT if vocabulary.mask == 3 else [1, 3]
    rewards = torch.tensor([reward_of(text) for text in texts], dtype=torch.float64)
    probabilities = torch.stack([log_prob(model, family, text, prompt) for text in texts]).exp()
    expected = gradient_of((probabilities * rewards).sum(), model)
    p = probabilities.detach()
    batch, written = batch_of(texts, prompt)
    copies = JustGRPO().copies(family, batch, written, rng(0))
    found = gradient_of(-weighted_nats(model, family, batch, copies, p * rewards), model)
    assert float(expected.norm()) > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    in_pairs = torch.stack(torch.meshgrid(rewards, rewards, indexing="ij"), -1).view(-1, 2)
    advantages = group_advantages(in_pairs).view(len(p), len(p), 2)
    weight = (p[:, None, None] * p[None, :, None] * advantages).unbind(-1)
    each = weight[0].sum(1) + weight[1].sum(0)  # what a text gets as the first, and as the second of a pair
    found = gradient_of(-weighted_nats(model, family, batch, copies, each), model)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", [JustGRPO(), WD1(prompt_mask=0.5)])
def test_parts_have_the_gradient_of_the_whole(objective: PolicyObjective, monkeypatch: pytest.MonkeyPatch) -> None:
    family, model = Masked().over(LAST), network(LAST)
    batch, written = batch_of(every_text(LAST), PROMPT)
    copies = objective.copies(family, batch, written, rng(0))
    weight = torch.randn(len(batch.tokens), generator=rng(1), dtype=torch.float64)
    weight[::3] = 0.0
    whole = weighted_nats(model, family, batch, copies, weight)
    monkeypatch.setattr(likelihood, "TOKENS", 20)
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    parts = weighted_nats(model, family, batch, copies, weight)
    assert len(calls) > 2
    torch.testing.assert_close(whole, parts.to(whole), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient_of(whole, model), gradient_of(2 * parts, model) / 2, rtol=1e-5, atol=1e-6)


def test_texts_without_weight_are_not_read() -> None:
    family, model = Masked().over(LAST), network(LAST)
    batch, written = batch_of(every_text(LAST), PROMPT)
    copies = JustGRPO().copies(family, batch, written, rng(0))
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    found = weighted_nats(model, family, batch, copies, torch.zeros(len(batch.tokens)))
    assert not calls and float(found.detach()) == 0.0 and not gradient_of(found, model).any()


def test_wd1_reads_each_text_once_with_all_of_it_masked() -> None:
    family = Masked().over(LAST)
    texts = every_text(LAST) * 40
    batch, written = batch_of(texts, PROMPT)
    copies = WD1(prompt_mask=0.25).copies(family, batch, written, rng(0))
    assert copies.row.tolist() == list(range(len(texts)))
    assert torch.equal(copies.hidden, batch.scored) and torch.equal(copies.ask, written)
    masked = (copies.tokens == LAST.mask)[:, : len(PROMPT)]
    assert abs(float(masked.double().mean()) - 0.25) < 0.04
    read: list[Any] = []

    def denoiser(tokens: Tensor, *, ask: Tensor, target: Tensor, **_: Any) -> Tensor:
        read.append((tokens, ask, target))
        return torch.zeros(len(target))

    weighted_nats(denoiser, family, batch, copies, torch.ones(len(texts)))
    (tokens, ask, target) = read[0]
    assert bool((tokens[:, len(PROMPT) :] == LAST.mask).all()) and torch.equal(ask, written)
    assert torch.equal(target, batch.tokens[written])
    by_row = WD1(prompt_mask=0.25).copies(family, batch, written, RowNoise(torch.arange(len(texts))))
    assert not torch.equal(by_row.tokens, copies.tokens), "the masks are drawn"
