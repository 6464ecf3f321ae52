"""Training under perturbed embeddings: the ball, the ascent, the loss that comes of it, and a run of it."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tables import rng, tiny
from torch.nn.functional import cross_entropy

import remask
from remask.batch import Batch
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.model.soft import Soft
from remask.training.adversarial import Adversarial, Perturbed, embeddings_of, unlikelihood, within
from remask.training.optim import Budget
from remask.training.recipe import Recipe
from remask.vocabulary import Vocabulary

V = 9
FAMILIES: dict[str, Any] = {
    "masked": Masked().over(Vocabulary(size=V + 1, mask=V)),
    "pairs": Masked(pairs=True, ceiling=1.0).over(Vocabulary(size=V + 1, mask=V)),
    "left": Autoregressive().over(Vocabulary(size=V + 1, end=V)),
    "interpolating": Interpolating().over(Vocabulary(size=V + 1, mask=V)),
}


def batch(prompt: int = 3) -> Batch:
    tokens = torch.randint(0, V, (6, 8), generator=rng(1))
    scored = torch.ones_like(tokens, dtype=torch.bool)
    scored[:4, :prompt] = False
    return Batch(tokens, scored)


def model(name: str) -> Any:
    return tiny(V + 1, V + (name == "left"), seed=2, sharpness=2.0)


def radius_of(network: Any, share: float) -> float:
    table = embeddings_of(network)
    return share * math.sqrt(sum(float(row.norm()) ** 2 for row in table.detach()) / len(table))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("radius", [0.05, 0.5])
def test_the_perturbation_stays_in_the_ball_and_raises_the_loss(name: str, radius: float) -> None:
    network, family, rows = model(name), FAMILIES[name], batch()
    objective = Adversarial(radius=radius, steps=4).objective(network, family, False)
    shifts = objective.ascend(network, rows, rng(5))
    assert shifts and all(float(x.norm(dim=-1).max()) <= radius_of(network, radius) * (1 + 1e-5) for x in shifts)
    assert any(float(x.norm(dim=-1).max()) > 0.5 * radius_of(network, radius) for x in shifts)
    with torch.no_grad():
        before = family.loss(network, rows, rng(5)).total
        after = family.loss(Perturbed(network, shifts), rows, rng(5)).total
    assert float(after) > float(before) * (1 + 0.2 * radius)


def test_more_steps_find_no_less(seeds: int = 5) -> None:
    network, family, rows = model("masked"), FAMILIES["masked"], batch()
    found = {}
    for steps in (1, 8):
        objective = Adversarial(radius=0.3, steps=steps).objective(network, family, False)
        totals = []
        for seed in range(seeds):
            shifts = objective.ascend(network, rows, rng(seed))
            totals.append(float(family.loss(Perturbed(network, shifts), rows, rng(seed)).total.detach()))
        found[steps] = sum(totals)
    assert found[8] > found[1]


@pytest.mark.parametrize(("name", "first"), [("masked", 0), ("left", 1)])
def test_prompts_are_perturbed_and_answers_are_not(name: str, first: int) -> None:
    """A row without a prompt is perturbed everywhere. An autoregressive network reads a token one position later."""
    objective = Adversarial(radius=0.1).objective(None, FAMILIES[name], False)
    (shift,) = objective.ascend(model(name), batch(), rng(5))
    moved = shift.norm(dim=-1) > 0
    assert not moved[:4, first + 3 :].any() and moved[:4, max(first, 1) : first + 3].all()
    assert moved[4:, 1:5].any(), "which ones have a gradient depends on the masks"


def test_the_loss_is_the_formula() -> None:
    network, family, rows = model("masked"), FAMILIES["masked"], batch()
    options = Adversarial(radius=0.2, steps=2, weight=0.3, away=0.7)
    objective = options.objective(network, family, False)
    found = objective(network, rows, rng(5))
    shifts = objective.ascend(network, rows, rng(5))
    noisy = family.corrupt(rows, rng(5))
    table = embeddings_of(network)
    one_hot = torch.nn.functional.one_hot(noisy.tokens, len(table)).float()
    plain = network(noisy.tokens, ask=noisy.ask)
    hard = network(Soft(one_hot, shift=shifts[0]), ask=noisy.ask)
    wrong = hard.softmax(-1).scatter(-1, noisy.target[:, None], 0.0).max(-1).values
    hard_nats = cross_entropy(hard, noisy.target, reduction="none") - 0.7 * (1 - wrong).log()
    plain_nats = cross_entropy(plain, noisy.target, reduction="none")
    expected = (noisy.weight * (0.7 * plain_nats + 0.3 * hard_nats)).sum()
    torch.testing.assert_close(found.total, expected, rtol=1e-4, atol=1e-4)
    assert found.tokens == int(rows.scored.sum())


def test_no_gradient_reaches_the_weights_through_the_ascent() -> None:
    network, family = model("masked"), FAMILIES["masked"]
    objective = Adversarial(radius=0.1, steps=3).objective(network, family, False)
    for weight in network.parameters():
        weight.requires_grad_()
    objective.ascend(network, batch(), rng(5))
    assert all(weight.grad is None for weight in network.parameters())
    objective(network, batch(), rng(5)).total.backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())


def test_unlikelihood_and_projection() -> None:
    logits = torch.randn(20, V, generator=rng(0)) * 3
    target = torch.arange(20) % V
    p = logits.softmax(-1)
    wrong = torch.tensor([max(float(p[i, v]) for v in range(V) if v != target[i]) for i in range(20)])
    torch.testing.assert_close(unlikelihood(logits, target), -(1 - wrong).log(), rtol=1e-4, atol=1e-5)
    shift = torch.randn(2, 3, 5, generator=rng(1))
    kept = within(shift, 1.5)
    inside = shift.norm(dim=-1) <= 1.5
    assert float(kept.norm(dim=-1).max()) <= 1.5 + 1e-6 and torch.equal(kept[inside], shift[inside])
    assert torch.equal(within(shift * 0, 1.0), shift * 0)


def test_a_run_learns_repeats_and_is_published(fit: Any, tmp_path: Path) -> None:
    options = {"adversarial": Adversarial(radius=0.1, steps=2, away=0.2), "steps": 12}
    first, second = (remask.load(fit(tmp_path / name, **options)) for name in ("one", "two"))
    plain = remask.load(fit(tmp_path / "plain", steps=12))
    for (name, one), two in zip(first.model.named_parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, two), name
    assert any(
        not torch.equal(one, two) for one, two in zip(first.model.parameters(), plain.model.parameters(), strict=True)
    )
    with pytest.raises(RemaskError, match=r"--adversarial.radius 0.1 there, 0.2 now"):
        fit(tmp_path / "one", **options | {"adversarial": Adversarial(radius=0.2, steps=2, away=0.2)})


@pytest.mark.parametrize("family", [Uniform(), Masked(forcing=1.0)], ids=str)
def test_a_loss_that_cannot_turn_away_says_so(family: Any) -> None:
    family = family.over(Vocabulary(size=V + 1, mask=V))
    network = tiny(V + 1, V, time=family.time == "required")
    for away in (0.0, 0.5):
        objective = Adversarial(radius=0.1, steps=1, away=away).objective(network, family, False)
        if away:
            with pytest.raises(RemaskError, match=r"adversarial.away is 0.5; it must be 0 where the loss"):
                objective(network, batch(), rng(5))
        else:
            assert float(objective(network, batch(), rng(5)).total.detach()) > 0


def test_bad_numbers(tmp_path: Path) -> None:
    for wrong in ({"radius": -1}, {"steps": 0}, {"weight": 0}, {"weight": 1.5}, {"away": -0.1}):
        with pytest.raises(RemaskError, match=f"adversarial.{next(iter(wrong))} is "):
            Adversarial(**wrong)
    with pytest.raises(RemaskError, match=r"adversarial\.radius is for networks that each process holds whole"):
        Recipe(
            data=tmp_path, out=tmp_path, budget=Budget(steps=1), adversarial=Adversarial(radius=0.1), strategy="fsdp"
        )
    with pytest.raises(RemaskError, match=r"budget\.minutes times plain steps"):
        Recipe(data=tmp_path, out=tmp_path, budget=Budget(minutes=1), adversarial=Adversarial(radius=0.1))
