"""LLaDA's estimator, with the bias it was published with."""

import pytest
import torch
from tables import masked_nats

from likelihood.cases import FAMILY, TABLE, TEXT, assert_mean, one, spread
from remask.likelihood.enumeration import Enumeration
from remask.likelihood.llada import llada_counts


@pytest.mark.parametrize(
    ("length", "strata", "least", "most"),
    [(2, 8, 0.75, 1.25), (4, 8, 0.5, 1.5), (10, 8, 0.75, 1.25), (12, 8, 0.5, 1.5), (8, 8, 1, 1), (24, 16, 0.5, 1.5),
     (10, 4, 0.5, 1.5), (7, 1, 1, 1)],
)  # fmt: skip
def test_llada_draws_some_counts_more_often(length: int, strata: int, least: float, most: float) -> None:
    """The exact marginal over counts, times the length, as the reference sheet derived it for the published code."""
    counts = torch.cat([llada_counts(k, length, strata) for k in range(1, length + 1)])
    share = torch.bincount(counts, minlength=length + 1)[1:] / strata
    assert (float(share.min()), float(share.max())) == (least, most)


@pytest.mark.parametrize("strata", [1, 2, 8])
def test_the_mean_of_llada_is_that_of_its_counts(strata: int) -> None:
    """The bound where counts are even; else the sum over masks with the shares that its rounding gives them."""
    length = len(TEXT)
    counts = torch.cat([llada_counts(k, length, strata) for k in range(1, length + 1)])
    share = torch.bincount(counts, minlength=length + 1) / len(counts)
    every, weight = Enumeration(draws=2**length).masks(length, 0)
    truth = 0.0
    for hidden, w in zip(every, weight, strict=True):
        k = int(hidden.sum())
        of_each = float(w.max()) * float(share[k]) * length
        truth += of_each * masked_nats(TABLE, TEXT, hidden.nonzero()[:, 0].tolist())
    exact = one(draws=2**length)
    assert (truth == pytest.approx(exact.nats, rel=1e-6)) == bool((share[1:] * length == 1).all())
    values, _ = spread("llada", 16, 1500, strata=strata)
    assert_mean(values, truth)
    found = one("llada", draws=16, strata=strata)
    assert found.kind == "bound" and "LLaDA" in found.of
    assert FAMILY.estimators[-1] == "llada"
