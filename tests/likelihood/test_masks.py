"""What the estimators that mask have in common: guidance, one token, one draw, a layout of the family's own."""

import math
from collections.abc import Iterator

import pytest
import torch
from tables import CausalTable, Counting, OrderedTable, Table, any_order, chain, random_joint, subsets

from likelihood.cases import FAMILY, TABLE, TEXT, one, scores
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.likelihood import Copy, Request
from remask.likelihood.chain import Chain
from remask.likelihood.enumeration import Enumeration
from remask.likelihood.loop import score


@pytest.mark.parametrize("estimator", ["auto", "count", "chain", "rule"])
def test_one_token_is_exact(estimator: str) -> None:
    counted = Counting(TABLE)
    (found,) = scores(counted, FAMILY, [Request((1,), (2, 0, 1))], estimator=estimator, draws=16)
    assert found.nats == pytest.approx(-TABLE.given((2, 0, 1, None))[3][1], rel=1e-6)
    assert (found.stderr, found.kind) == (0.0, "exact")
    if estimator != "count":
        assert counted.sizes == [1]


@pytest.mark.parametrize(
    ("estimator", "kind"),
    [("auto", "exact"), ("count", "exact"), ("llada", "exact"), ("chain", "exact"), ("smdm", "bound")],
)
def test_one_token_is_exact_but_for_independent_masks(estimator: str, kind: str) -> None:
    """Of a single token every count is 1, so nothing is random but whether SMDM masks it at all."""
    (found,) = scores(TABLE, FAMILY, [Request(TEXT[-1:], TEXT[:-1])], estimator=estimator, draws=32)
    assert found.kind == kind
    truth = -float(TABLE(torch.tensor([[*TEXT[:-1], FAMILY.mask]]))[0, -1].log_softmax(-1)[TEXT[-1]])
    if kind == "exact":
        assert found.nats == pytest.approx(truth, rel=1e-5)


def test_an_oracle_is_scored_exactly_by_every_estimator() -> None:
    joint = random_joint(3, 4, seed=2)
    oracle = Table.of(joint)
    truth = -math.log(float(joint[TEXT]))
    for estimator in ("auto", "chain", "rule"):
        (found,) = scores(oracle, FAMILY, [Request(TEXT)], estimator=estimator)
        assert found.nats == pytest.approx(truth, rel=1e-6)
        assert found.kind == ("bound" if estimator == "auto" else "exact")


def test_one_draw_shows_no_error() -> None:
    assert math.isnan(one("count", draws=1).stderr)
    assert math.isnan(one("smdm", draws=1).stderr)


@pytest.mark.parametrize("variant", ["A", "B"])
def test_a_family_that_reads_in_another_order_is_asked_for_the_right_tokens(variant: str) -> None:
    """Interpolating models read known tokens first and masks behind them; weights go with their tokens.

    In variant B a mask sees the masks before it, which the table reads as masks, so both agree with the table.
    """
    family = Interpolating(variant=variant).over(TABLE.vocabulary)  # type: ignore[arg-type]
    model = OrderedTable(TABLE)
    for estimator, truth in ((Chain(), chain(TABLE, TEXT, range(4))), (Enumeration(draws=15), any_order(TABLE, TEXT))):
        ((_, found),) = score(model, family, [Request(TEXT)], estimator=estimator)
        if variant == "A":
            assert found.nats == pytest.approx(truth, rel=1e-5)
        else:
            assert math.isfinite(found.nats)


@pytest.mark.parametrize("weight", [0.6, 2.0])
def test_guidance_is_scored_as_it_is_sampled(weight: float) -> None:
    """Enumerated by hand from the two predictions: prompt read, and prompt masked."""
    target, prompt = TEXT[2:], TEXT[:2]

    def guided_nats(hidden: tuple[int, ...]) -> float:
        told = [*prompt, *target]
        know = TABLE.given(tuple(None if i in hidden else t for i, t in enumerate(told)))
        blank = TABLE.given(tuple(None if i in hidden or i < 2 else t for i, t in enumerate(told)))
        total = 0.0
        for i in hidden:
            logits = [(1 + weight) * a - weight * b for a, b in zip(know[i], blank[i], strict=True)]
            total -= logits[told[i]] - math.log(math.fsum(math.exp(v) for v in logits))
        return total

    truth = math.fsum(guided_nats(tuple(2 + i for i in s)) / math.comb(2, len(s)) / len(s) for s in subsets(2))
    assert one(request=Request(target, prompt), guidance=weight).nats == pytest.approx(truth, rel=1e-5)
    assert one(request=Request(target, prompt)).nats != pytest.approx(truth, rel=1e-3)
    assert one(guidance=weight).nats == pytest.approx(any_order(TABLE, TEXT), rel=1e-5)  # no prompt, no guidance


def test_guidance_is_for_networks_that_read_masks() -> None:
    table = CausalTable(random_joint(3, 4, seed=5), end=3)
    family = Autoregressive().over(table.vocabulary)
    with pytest.raises(
        RemaskError, match=r"guidance is for the estimators chain, count.*not for 'exact'.*Autoregressive"
    ):
        score(table, family, [Request(TEXT)], guidance=0.5)


def test_copies_without_a_mask_are_not_read() -> None:
    copies: Iterator[Copy] = Enumeration(draws=3).copies(Request(TEXT), FAMILY)
    assert all(copy.value is None for copy in copies)
    counted = Counting(TABLE)
    (found,) = scores(counted, FAMILY, [Request((1,), (2, 0, 1))], estimator="smdm", draws=64)
    assert sum(counted.sizes) < 64 and math.isfinite(found.nats)
