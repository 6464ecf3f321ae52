"""Laws of mask rates in training: their quantiles, when they end, and that what is reported does not change."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from remask.batch import Batch
from remask.errors import RemaskError
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.rates import MaskRates, bell_quantile
from remask.model.sizes import size
from remask.vocabulary import Vocabulary

IDS = Vocabulary(size=10, end=8, mask=9)
EVEN = torch.arange(0.0, 1.0, 1 / 4096)


def rows(count: int = 8, length: int = 40, progress: float = 1.0) -> Batch:
    tokens = torch.randint(9, (count, length), generator=torch.Generator().manual_seed(1))
    return Batch(tokens, torch.ones_like(tokens, dtype=torch.bool), progress=progress)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_bell_is_beta() -> None:
    x = bell_quantile(EVEN.double())
    torch.testing.assert_close(3 * x**2 - 2 * x**3, EVEN.double(), atol=1e-9, rtol=0)
    assert x.min() >= 0 and x.max() < 1
    assert float(x.mean()) == pytest.approx(0.5, abs=1e-3) and float(x.var()) == pytest.approx(1 / 20, abs=1e-3)


@pytest.mark.parametrize(
    ("progress", "highest", "mean"),
    [(0.0, 0.4, 0.2), (0.3, 0.7, 0.35), (0.6, 1.0, 0.5), (1.0, 1.0, 0.5)],
)
def test_the_ceiling_rises(progress: float, highest: float, mean: float) -> None:
    levels = MaskRates(ceiling=0.4, bell=0.0).training_levels(EVEN, progress)
    assert float(levels.max()) == pytest.approx(highest, abs=1e-3) and float(levels.max()) <= highest
    assert float(levels.mean()) == pytest.approx(mean, abs=1e-3)


def test_both_laws_together_and_their_ends() -> None:
    law = MaskRates(ceiling=0.5, ceiling_until=0.5, bell=0.8)
    torch.testing.assert_close(law.training_levels(EVEN, 0.0), 0.5 * bell_quantile(EVEN))
    torch.testing.assert_close(law.training_levels(EVEN, 0.5), bell_quantile(EVEN))
    assert torch.equal(law.training_levels(EVEN, 0.8), EVEN)


def test_the_bell_comes_with_the_ceiling() -> None:
    """By default: who asks for uniform rates by a ceiling of 1 gets them."""
    assert MaskRates(ceiling=0.3).bell_until == 0.8 and MaskRates(ceiling=0.3, bell=0.0).bell_until == 0.0
    assert MaskRates(ceiling=1.0).bell_until == 0.0 and MaskRates(ceiling=1.0, bell=0.5).bell_until == 0.5
    assert Masked().bell_until == 0.8 and Masked(objective="bound").bell_until == 0.0


@pytest.mark.parametrize("kind", [Masked, Interpolating])
def test_training_masks_less_under_a_ceiling(kind: type) -> None:
    family = kind(objective="low_variance", ceiling=0.2).over(IDS)
    seen: list[Tensor] = []

    def denoiser(tokens: Tensor, *, ask: Tensor, target: Tensor, **_: object) -> Tensor:
        seen.append(ask.float().mean(1))
        return torch.zeros(int(ask.sum()))

    for progress in (0.0, 1.0):
        family.loss(denoiser, rows(200, progress=progress), rng())
    assert float(seen[0].max()) < 0.45 and float(seen[0].mean()) == pytest.approx(0.1, abs=0.02)
    assert float(seen[1].mean()) == pytest.approx(0.5, abs=0.02)


def test_the_bound_is_that_of_uniform_rates() -> None:
    plain, changed = (
        Masked(objective="low_variance", **more).over(IDS)
        for more in ({}, {"bell": 0.9, "pairs": True, "fixed_counts": True})
    )

    def denoiser(tokens: Tensor, *, ask: Tensor, target: Tensor, **_: object) -> Tensor:
        return (tokens[ask] * 0 + target + 1).float()

    for progress in (0.0, 1.0):
        batch = rows(progress=progress)
        assert torch.equal(plain.bound(denoiser, batch, rng()), changed.bound(denoiser, batch, rng()))


def test_in_a_pair_each_token_is_predicted_once() -> None:
    family, batch = Masked(objective="low_variance", pairs=True).over(IDS), rows()
    batch = replace(batch, scored=batch.scored & (torch.arange(40) > 3))
    noisy = family.corrupt(batch, rng())
    first, second = noisy.ask.chunk(2)
    assert torch.equal(first ^ second, batch.scored) and not bool((first & second).any())
    assert torch.equal(noisy.tokens.masked_fill(noisy.ask, 0), batch.tokens.repeat(2, 1).masked_fill(noisy.ask, 0))
    assert torch.equal(noisy.target, batch.tokens.repeat(2, 1)[noisy.ask]) and bool(
        (noisy.tokens[noisy.ask] == 9).all()
    )
    assert family.reads == 2 and family.flops(size("tiny"), 64) == 2 * Masked(ceiling=1.0).flops(size("tiny"), 64)


def test_fixed_counts_are_the_nearest_share() -> None:
    family, batch = Masked(objective="low_variance", fixed_counts=True, eps=0.0).over(IDS), rows()
    levels = torch.tensor([0.0, 0.01, 0.1, 0.26, 0.5, 0.77, 0.99, 1.0])
    assert family.corrupt(batch, rng(), levels).ask.sum(1).tolist() == [1, 1, 4, 10, 20, 31, 40, 40]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ceiling": 0.0}, "ceiling is 0.0; it must be above 0 and at most 1"),
        ({"ceiling": 1.5}, "ceiling is 1.5"),
        ({"ceiling_until": 2.0}, "ceiling_until is 2.0; it must lie between 0 and 1"),
        ({"bell": -0.1}, "bell is -0.1"),
        (
            {"ceiling": 0.4, "objective": "bound"},
            "objective is bound and ceiling 0.4: .*Use the objective low_variance",
        ),
        ({"bell": 0.4, "objective": "count"}, "objective is count and bell 0.4: .* some rates have no density"),
        ({"pairs": True, "ceiling": 0.5}, "ceiling is 0.5 with pairs: of two complementary masks one always has"),
        ({"pairs": True, "objective": "bound"}, "pairs is for the objective low_variance, and objective is bound"),
        ({"fixed_counts": True, "objective": "count"}, "fixed_counts is for the objective low_variance"),
    ],
)
def test_what_cannot_be(options: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        Masked(**{"objective": "low_variance", **options})


def test_runs_of_other_length_share_no_steps_under_a_law() -> None:
    assert Masked(objective="low_variance", ceiling=0.4).has_curriculum
    assert Masked(objective="low_variance", bell=0.4).has_curriculum
    assert Masked().has_curriculum and not Masked(ceiling=1.0).has_curriculum
    assert not Masked(objective="bound").has_curriculum and not Interpolating(alpha_0=0.5).has_curriculum
    assert Interpolating().has_curriculum
