"""The loss of preferences: bounds against enumeration of all masks, shared noise, gradients, parts, perturbations."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tables import rng, tiny
from torch import Tensor

from remask.batch import Batch
from remask.families import Family
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.model.attention import CAUSAL, Padded
from remask.model.transformer import Transformer
from remask.training.adversarial import Adversarial, Perturbed, embeddings_of
from remask.training.preference import loss as loss_module
from remask.training.preference.dpo import DPO
from remask.training.preference.ipo import IPO
from remask.training.preference.loss import PreferenceLoss, measure
from remask.training.preference.margin import SharedNoise, bounds
from remask.vocabulary import Vocabulary

V, END = 6, 5
VOCABULARY = Vocabulary(size=V + 1, mask=V, end=END)
MASKED, LEFT = Masked().over(VOCABULARY), Autoregressive().over(VOCABULARY)
PROMPT, LENGTH = 2, 5
FAMILIES: list[Family] = [
    MASKED, LEFT, Uniform().over(VOCABULARY), Interpolating().over(VOCABULARY),
    Interpolating(alpha_0=0.5, variant="A").over(VOCABULARY), Interpolating(alpha_0=0.0).over(VOCABULARY),
]  # fmt: skip


def network(family: Family, seed: int = 3) -> Transformer:
    return tiny(V + 1, V, seed=seed, sharpness=2.0, time=family.time == "required").double()


def pairs(count: int = 4) -> Batch:
    """Replies of two and three tokens to the same prompt, padded behind, as the rows of `count` pairs."""
    tokens = torch.randint(0, END, (2 * count, LENGTH), generator=rng(1))
    tokens[1::2, :PROMPT] = tokens[::2, :PROMPT]
    valid = torch.ones_like(tokens, dtype=torch.bool)
    valid[::2, -1] = False
    scored = valid.clone()
    scored[:, :PROMPT] = False
    return Batch(tokens, scored, attention=Padded(valid), global_tokens=count)


def objective(family: Family, kind: Any = DPO, seed: int = 3, **more: Any) -> PreferenceLoss:
    adversarial = more.pop("adversarial", None)
    return PreferenceLoss(kind(**more), family, network(family, seed), adversarial)


@torch.no_grad()
def exact_bound(model: Transformer, text: list[int]) -> float:
    """-sum over all masks of the reply of (chance of the mask) (weight) (nats of what is masked): L/k / L / C(L, k)."""
    reply, total = range(PROMPT, len(text)), 0.0
    for k in range(1, len(reply) + 1):
        masks = list(itertools.combinations(reply, k))
        for mask in masks:
            noisy = torch.tensor([[V if i in mask else token for i, token in enumerate(text)]])
            log_p = model(noisy)[0].log_softmax(-1)
            total += sum(float(log_p[i, text[i]]) for i in mask) / k / len(masks)
    return total


@torch.no_grad()
def exact_left(model: Transformer, text: list[int]) -> float:
    log_p = model(torch.tensor([[END, *text[:-1]]]), attention=CAUSAL)[0].log_softmax(-1)
    return sum(float(log_p[i, text[i]]) for i in range(PROMPT, len(text)))


def texts(batch: Batch) -> list[list[int]]:
    """The rows without their padding."""
    return [row[: PROMPT + int(s.sum())].tolist() for row, s in zip(batch.tokens, batch.scored, strict=True)]


@torch.no_grad()
def estimates(model: Transformer, family: Family, batch: Batch, draws: int, repeats: int, seed: int = 0) -> Tensor:
    """(repeats, B) estimates of the bounds, of independent noise."""
    many = replace(batch.at(torch.arange(len(batch.tokens)).repeat(repeats)), global_rows=None)
    return bounds(model, family, many, SharedNoise.draw(many, draws, rng(seed))).view(repeats, -1)


@pytest.mark.parametrize("draws", [1, 3])
def test_the_mean_of_the_estimates_is_the_bound_over_all_masks(draws: int) -> None:
    model, batch = network(MASKED), pairs()
    expected = torch.tensor([exact_bound(model, text) for text in texts(batch)], dtype=torch.float64)
    found = estimates(model, MASKED, batch, draws, 1500)
    error = found.std(0) / math.sqrt(len(found))
    assert float(error.max()) < 0.1 and bool(((found.mean(0) - expected).abs() < 4 * error + 1e-6).all())
    assert float(expected.std()) > 20 * float(error.max()), "the rows differ"


def test_enough_draws_at_evenly_spread_times_leave_only_the_masks_to_chance() -> None:
    """A row of one reply token has one mask, and so no error at all; more draws have less."""
    model, batch = network(MASKED), pairs()
    spread = [float(estimates(model, MASKED, batch, draws, 200).std(0).mean()) for draws in (1, 6, 24)]
    assert spread[0] > 2.4 * spread[1] > 4 * spread[2], "falls at least as 1/sqrt(draws)"
    one = replace(batch, scored=batch.scored & (torch.arange(LENGTH) == PROMPT))
    assert float(estimates(model, MASKED, one, 1, 20).std(0).max()) < 1e-6


def test_an_autoregressive_model_is_exact() -> None:
    model, batch = network(LEFT), pairs()
    expected = torch.tensor([exact_left(model, text) for text in texts(batch)], dtype=torch.float64)
    for draws in (1, 2):
        found = bounds(model, LEFT, batch, SharedNoise.draw(batch, draws, rng(0)))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert DPO(draws=8).copies(LEFT) == 1 and DPO(draws=8).copies(MASKED) == 8


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
@pytest.mark.parametrize(("kind", "expected"), [(DPO, math.log(2)), (IPO, 25.0)])
def test_at_the_start_the_margin_is_0(family: Family, kind: Any, expected: float) -> None:
    """Policy and reference are one network and read the same noise, so that nothing is left of either."""
    model, batch = network(family), pairs()
    minimised = objective(family, kind, seed=9)  # whose own weights are others
    found = minimised(model, batch, rng(5))
    assert found.tokens == 4 and float(found.total.detach()) / 4 == pytest.approx(expected, rel=1e-6)
    assert found.measured.pop("accuracy") == 0.5
    assert found.measured == pytest.approx({"margin": 0.0, "chosen": 0.0, "rejected": 0.0}, abs=1e-5)
    found.total.backward()
    assert all(float(w.grad.abs().max()) < math.inf for w in model.parameters() if w.grad is not None)
    assert any(float(w.grad.abs().max()) > 1e-3 for w in model.parameters() if w.grad is not None)
    assert all(weight.grad is None for weight in minimised.reference.parameters())


@pytest.mark.parametrize("kind", [DPO, IPO])
@pytest.mark.parametrize("family", [MASKED, LEFT], ids=repr)
def test_loss_and_gradient_are_those_of_the_formula(family: Family, kind: Any) -> None:
    """With the noise of the step, by another way: each draw of each row on its own, and no shared sums."""
    policy, reference, batch = network(family), network(family, seed=4), pairs(3)
    minimised = objective(family, kind, beta=0.3, draws=5)
    minimised.take_reference(reference)
    found = minimised(policy, batch, rng(7))
    noise = SharedNoise.draw(batch, minimised.objective.copies(family), rng(7))

    def bound(model: Transformer, row: int) -> Tensor:
        one, index = batch.at(torch.tensor([row])), torch.tensor([row])
        each = [
            SharedNoise(noise.seeds[index, j : j + 1], noise.levels[index, j : j + 1])
            for j in range(noise.seeds.shape[1])
        ]
        return torch.stack([bounds(model, family, one, each_noise)[0] for each_noise in each]).mean()

    margins = []
    for pair in range(3):
        of = {name: [bound(model, 2 * pair + i) for i in (0, 1)] for name, model in (("p", policy), ("r", reference))}
        margins.append((of["p"][0] - of["r"][0].detach()) - (of["p"][1] - of["r"][1].detach()))
    terms = [(1 + (-0.3 * m).exp()).log() if kind is DPO else (m - 1 / 0.6) ** 2 for m in margins]
    expected = torch.stack(terms).sum()
    torch.testing.assert_close(found.total.double(), expected, rtol=1e-5, atol=1e-5)
    assert found.measured["margin"] == pytest.approx(float(torch.stack(margins).mean().detach()), rel=1e-6)
    weights = list(policy.parameters())
    for a, b in zip(torch.autograd.grad(found.total, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_shared_noise_lowers_the_variance_of_the_margin() -> None:
    """VRPO's antithetic sampling: reference and policy, a step apart, disagree about little."""
    policy, batch = network(MASKED), pairs()
    reference = network(MASKED)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=rng(0), dtype=weight.dtype))

    def variance(seeds: tuple[int, int]) -> float:
        a, b = (estimates(model, MASKED, batch, 4, 200, seed) for model, seed in zip((policy, reference), seeds))
        return float((a - b).view(200, -1, 2).diff(dim=2).var(0).mean())

    assert variance((0, 0)) < 0.2 * variance((0, 1))


def test_parts_have_the_loss_and_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for tokens in (2**14, 2 * 8 * LENGTH * 2, 1):  # all pairs at once, two, and one
        monkeypatch.setattr(loss_module, "TOKENS", tokens)
        policy, minimised = network(MASKED, seed=4), objective(MASKED)
        minimised.take_reference(network(MASKED))
        one = minimised(policy, pairs(5), rng(7))
        one.total.backward()
        found.append((one.total.detach(), one.measured, [weight.grad for weight in policy.parameters()]))
    for total, measured, gradients in found[1:]:
        assert float(total) == pytest.approx(float(found[0][0]), rel=1e-6)
        assert measured == pytest.approx(found[0][1])
        torch.testing.assert_close(gradients, found[0][2], rtol=1e-4, atol=1e-5)


def test_noise_does_not_depend_on_how_the_batch_is_divided() -> None:
    whole = pairs(4)
    halves = [replace(whole.at(torch.arange(i, i + 4)), offset=i, global_rows=8) for i in (0, 4)]
    policy, reference = network(MASKED, seed=4), network(MASKED)
    minimised = objective(MASKED)
    minimised.take_reference(reference)
    total, *parts = (float(minimised(policy, part, rng(7)).total.detach()) for part in (whole, *halves))
    assert sum(parts) == pytest.approx(total, rel=1e-6) and parts[0] != pytest.approx(parts[1], rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_the_ascent_raises_the_loss_by_one_perturbation_of_a_prompt(family: Family) -> None:
    """All noisy copies of both replies read the same perturbed prompt, within the ball; the reference does not."""
    policy, batch = network(family), pairs()
    options = Adversarial(radius=0.3, steps=4, weight=1.0)
    minimised = objective(family, IPO, adversarial=options)
    minimised.take_reference(policy)
    noise = SharedNoise.draw(batch, minimised.objective.copies(family), rng(5))
    loss = minimised.loss_under(noise, batch)
    shifts = minimised.hardened(loss).ascend(policy, batch, rng(5))
    hard, plain = (
        float(one.detach())
        for one in (loss(Perturbed(policy, shifts), batch, rng(5)).total, loss(policy, batch, rng(5)).total)
    )
    assert plain == pytest.approx(4 * 25) and hard > 1.05 * plain
    assert float(minimised(policy, batch, rng(5)).total.detach()) == pytest.approx(hard, rel=1e-6)
    table = embeddings_of(policy).detach()
    radius = 0.3 * float(table.square().sum(1).mean().sqrt())
    assert all(0.5 * radius < float(x.norm(dim=-1).max()) < radius * (1 + 1e-5) for x in shifts)
    if family.order in ("left", "any"):
        (shift,) = shifts
        copies = shift.view(minimised.objective.copies(family), 4, 2, LENGTH, -1)
        torch.testing.assert_close(copies, copies[:1, :, :1].expand_as(copies), rtol=0, atol=0)
        moved = shift.norm(dim=-1) > 0
        assert not moved[:, PROMPT + (family.order == "left") :].any() and moved[:, PROMPT - 1].all()


def test_a_weight_below_1_keeps_a_share_of_the_plain_loss() -> None:
    policy, batch = network(MASKED, seed=4), pairs()

    def total(weight: float | None) -> tuple[float, dict[str, float]]:
        hard = None if weight is None else Adversarial(radius=0.3, steps=2, weight=weight)
        minimised = objective(MASKED, IPO, adversarial=hard)
        minimised.take_reference(network(MASKED))
        found = minimised(policy, batch, rng(5))
        return float(found.total.detach()), found.measured

    (plain, measured), (hard, _), (mixed, as_plain) = total(None), total(1.0), total(0.25)
    assert mixed == pytest.approx(0.75 * plain + 0.25 * hard, rel=1e-5) and hard > plain
    assert as_plain == measured, "what is measured is without the perturbation"


def test_what_is_measured() -> None:
    gains = torch.tensor([[1.0, -1.0], [0.0, 0.0], [-3.0, 1.0], [2.0, 1.0]], dtype=torch.float64)
    assert measure(gains) == {"accuracy": 0.625, "margin": -0.25, "chosen": 0.0, "rejected": 0.25}
