"""The estimator of the bound by exact counts, and SMDM's beside it: unbiased draws, errors that tell the truth."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from tables import Table, any_order

from likelihood.cases import TABLE, TEXT, assert_mean, spread
from remask.families.masked import Masked
from remask.likelihood import Copy, Request
from remask.likelihood.count import Count, windows


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


def every_group(length: int, size: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (n, T) and weights (n,) of all groups of so many copies: every level with every order, once each."""
    orders = torch.tensor(list(itertools.permutations(range(length))), dtype=torch.float64)
    shifts = length * ((size + 1) // 2)  # so many that each number of masked tokens comes equally often
    uniform = ((orders + 0.5) / length).repeat(shifts, 1).repeat_interleave(size, 0)
    offsets = ((torch.arange(shifts) + 0.5) / shifts).repeat_interleave(len(orders))
    hidden, k = windows([size] * len(offsets), offsets, uniform)
    return hidden, length / k


@pytest.mark.parametrize("length", [2, 3, 4])
def test_pairs_are_complementary(length: int) -> None:
    """A pair masks all tokens, one of them twice, and each copy alone has the distribution of a single draw."""
    hidden, _ = every_group(length)
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


@pytest.mark.parametrize(("length", "size"), [(3, 4), (4, 7), (5, 8)])
def test_each_copy_of_a_group_is_a_single_draw(length: int, size: int) -> None:
    hidden, _ = every_group(length, size)
    for copy in range(size):
        masks, counts = hidden[copy::size].unique(dim=0, return_counts=True)
        share = torch.tensor([1 / (length * math.comb(length, int(k))) for k in masks.sum(1)])
        torch.testing.assert_close(counts / len(hidden[copy::size]), share)


@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 2**31 - 1))
def test_every_pair_of_a_group_masks_all_tokens(length: int, pairs: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    uniform = torch.rand(2 * pairs, length, generator=draw, dtype=torch.float64)
    hidden, k = windows([2 * pairs], torch.rand(1, generator=draw, dtype=torch.float64), uniform)
    assert hidden.sum(1).tolist() == k.tolist()
    assert bool((hidden[::2] | hidden[1::2]).all()) and bool((k[::2] + k[1::2] == length + 1).all())


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize(("table", "text"), [(TABLE, TEXT), (unequal_tokens(6), (0, 1, 1, 0, 1, 0))])
def test_groups_keep_the_mean(table: Table, text: tuple[int, ...], size: int) -> None:
    """Enumerated, not drawn."""
    values, _ = values_of_groups(table, text, size)
    assert float(values.mean()) == pytest.approx(any_order(table, text), rel=1e-6)


def test_pairs_have_less_variance_than_two_copies() -> None:
    """Enumerated, at equal cost."""
    values, pairs = values_of_groups(unequal_tokens(6), (0, 1, 1, 0, 1, 0), 2)
    assert float(pairs.var(correction=0)) < 0.8 * float(values.var(correction=0)) / 2


def test_large_groups_have_less_variance_than_pairs() -> None:
    """At equal cost, of texts that depend on their neighbours, however large the groups are."""
    table, text = unequal_tokens(6), (0, 1, 1, 0, 1, 0)
    pairs, _ = spread_of_group(table, text, 2)
    for size in (8, 16, 128):
        variance, _ = spread_of_group(table, text, size)
        assert variance * size < 1.1 * pairs * 2, size


def spread_of_group(table: Table, text: tuple[int, ...], size: int) -> tuple[float, float]:
    """Variance and mean of the means of 1,500 groups of so many copies."""
    hidden = torch.tensor(list(itertools.product([False, True], repeat=len(text)))[1:])
    family = Masked().over(table.vocabulary)
    weight = len(text) / hidden.sum(1, keepdim=True) * hidden.double()
    copies = [Copy(Request(text), hidden=h, weight=w) for h, w in zip(hidden, weight, strict=True)]
    values = Count().evaluate(table, family, copies, "cpu")
    draw = torch.Generator().manual_seed(size)
    uniform = torch.rand(1500 * size, len(text), generator=draw, dtype=torch.float64)
    masks, _ = windows([size] * 1500, torch.rand(1500, generator=draw, dtype=torch.float64), uniform)
    place = (masks * 2 ** torch.arange(len(text)).flip(0)).sum(1) - 1
    means = values[place].view(1500, size).mean(1)
    return float(means.var()), float(means.mean())


def values_of_groups(table: Table, text: tuple[int, ...], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n,) values of the copies of every group, and the means of the groups."""
    hidden, weight = every_group(len(text), size)
    masks, which = hidden.unique(dim=0, return_inverse=True)
    scale = torch.zeros(len(masks)).index_copy(0, which, weight)  # equal masks have equal weights
    family = Masked().over(table.vocabulary)
    copies = [Copy(Request(text), hidden=h, weight=w * h.double()) for h, w in zip(masks, scale.tolist(), strict=True)]
    values = Count().evaluate(table, family, copies, "cpu")[which]
    return values, values.view(-1, size).mean(1)
