"""The estimator of the bound by exact counts, and SMDM's beside it: unbiased draws, errors that tell the truth."""

import math

import pytest
import torch
from scipy.stats import chisquare
from tables import any_order

from likelihood.cases import TABLE, TEXT, assert_mean, spread
from remask.likelihood.count import Count


@pytest.mark.parametrize("draws", [2, 5, 8, 11, 64])
@pytest.mark.parametrize("estimator", ["count", "smdm"])
def test_draws_have_the_bound_as_mean(estimator: str, draws: int) -> None:
    values, _ = spread(estimator, draws, 1000)
    assert_mean(values, any_order(TABLE, TEXT))


@pytest.mark.parametrize("draws", [8, 16, 50, 64])
@pytest.mark.parametrize("estimator", ["count", "smdm"])
def test_reported_errors_are_the_spread(estimator: str, draws: int) -> None:
    """The weight 1/t of independent masks has no finite variance, so their error is right within a factor only."""
    values, errors = spread(estimator, draws, 600)
    ratio = float(values.std() / errors.square().mean().sqrt())
    within = 0.15 if estimator == "count" else 0.4
    assert 1 - within < ratio < 1 + within


def test_stratification_lowers_the_error() -> None:
    few, _ = spread("count", 8, 400)
    many, _ = spread("count", 64, 400)
    assert float(many.std()) < float(few.std()) / math.sqrt(8)  # better than independent draws
    independent, _ = spread("smdm", 64, 400)
    assert float(many.std()) < float(independent.std())


@pytest.mark.parametrize(("length", "draws"), [(6, 8), (10, 4), (7, 16), (3, 5), (12, 50), (4, 1)])
def test_every_count_is_equally_likely(length: int, draws: int) -> None:
    """Rounding a grid of counts, as published code does, makes even ones likelier by up to three times."""
    counts, estimator = torch.zeros(length), Count(draws=draws)
    for seed in range(1500 // draws + 200):
        hidden, weights = estimator.masks(length, seed)
        k = hidden.sum(1)
        counts += torch.bincount(k, minlength=length + 1)[1:]
        weight = weights.sum(1) / k  # of each masked token
        size = torch.tensor([len(g) for g in torch.arange(draws).tensor_split(min(8, draws))])
        share = (1 / (len(size) * size)).repeat_interleave(size)
        torch.testing.assert_close(weight.float(), share * length / k, rtol=1e-5, atol=0)
    assert chisquare(counts.numpy()).pvalue > 1e-3
