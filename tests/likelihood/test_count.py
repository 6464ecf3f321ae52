"""The estimator of the bound by exact counts, and SMDM's beside it: unbiased draws, errors that tell the truth."""

import itertools
import math

import pytest
import torch
from scipy.stats import chisquare
from tables import Table, any_order

from likelihood.cases import TABLE, TEXT, assert_mean, spread
from remask.families.base import exact_counts
from remask.families.masked import Masked
from remask.likelihood import Copy, Request
from remask.likelihood.count import Count, complementary


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


def test_exact_counts_lower_the_error() -> None:
    counts, _ = spread("count", 64, 400)
    independent, _ = spread("smdm", 64, 400)
    assert float(counts.std()) < float(independent.std())


@pytest.mark.parametrize(("length", "draws"), [(6, 8), (10, 4), (7, 16), (3, 5), (12, 50), (4, 1)])
def test_every_count_is_equally_likely(length: int, draws: int) -> None:
    """Rounding a grid of counts, as published code does, makes even ones likelier by up to three times."""
    counts, estimator = torch.zeros(length), Count(draws=draws)
    for seed in range(1500 // draws + 200):
        hidden, weights = estimator.masks(length, seed)
        k = hidden.sum(1)
        counts += torch.bincount(k, minlength=length + 1)[1:]
        weight = weights.sum(1) / k  # of each masked token
        size = torch.tensor(estimator.groups(length))
        share = (1 / (len(size) * size)).repeat_interleave(size)
        torch.testing.assert_close(weight.float(), share * length / k, rtol=1e-5, atol=0)
    assert chisquare(counts.numpy() / 2).pvalue > 1e-3, "the two copies of a pair have one level"


def every_pair(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (n, T) and weights (n,) of all pairs: every level with every order of the tokens, once each."""
    orders = torch.tensor(list(itertools.permutations(range(length))), dtype=torch.float64)
    uniform = ((orders + 0.5) / length).repeat(length, 1).repeat_interleave(2, 0)
    offsets = ((torch.arange(length) + 0.5) / length).repeat_interleave(len(orders))
    levels, mirrored = complementary([2] * len(offsets), offsets, uniform)
    return exact_counts(torch.ones_like(mirrored, dtype=torch.bool), levels, mirrored)


@pytest.mark.parametrize("length", [2, 3, 4])
def test_pairs_are_complementary(length: int) -> None:
    """A pair masks all tokens, one of them twice, and each copy alone has the distribution of a single draw."""
    hidden, _ = every_pair(length)
    first, second = hidden[::2], hidden[1::2]
    assert bool((first | second).all()) and bool(((first & second).sum(1) == 1).all())
    for part in (first, second):
        masks, counts = part.unique(dim=0, return_counts=True)
        share = torch.tensor([1 / (length * math.comb(length, int(k))) for k in masks.sum(1)])
        torch.testing.assert_close(counts / len(part), share)


def unequal_tokens(length: int) -> Table:
    """Tokens that depend on each other a little, and differ more in how improbable they are, as in text."""
    draw = torch.Generator().manual_seed(1)
    logits = 0.5 * torch.randn((2,) * length, generator=draw, dtype=torch.float64)
    for i in range(length):
        logits += (2.5 * torch.randn(2, generator=draw, dtype=torch.float64)).view([-1] + [1] * (length - 1 - i))
    return Table.of(logits.flatten().softmax(0).view_as(logits))


@pytest.mark.parametrize(("table", "text"), [(TABLE, TEXT), (unequal_tokens(6), (0, 1, 1, 0, 1, 0))])
def test_pairs_keep_the_mean(table: Table, text: tuple[int, ...]) -> None:
    """Enumerated, not drawn."""
    values, _ = values_of_pairs(table, text)
    assert float(values.mean()) == pytest.approx(any_order(table, text), rel=1e-6)


def test_pairs_have_less_variance_than_two_copies() -> None:
    """Enumerated, at equal cost."""
    values, pairs = values_of_pairs(unequal_tokens(6), (0, 1, 1, 0, 1, 0))
    assert float(pairs.var(correction=0)) < 0.8 * float(values.var(correction=0)) / 2


def values_of_pairs(table: Table, text: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """(2n,) values of the copies of every pair, and (n,) the means of the pairs."""
    hidden, weight = every_pair(len(text))
    masks, which = hidden.unique(dim=0, return_inverse=True)
    scale = torch.zeros(len(masks)).index_copy(0, which, weight)  # equal masks have equal weights
    family = Masked().over(table.vocabulary)
    copies = [Copy(Request(text), hidden=h, weight=w * h.double()) for h, w in zip(masks, scale.tolist(), strict=True)]
    values = Count().evaluate(table, family, copies, "cpu")[which]
    return values, values.view(-1, 2).mean(1)
