"""The part of each token in the nats of a text: worked out by hand, and summing to the estimate."""

import itertools
import math

import pytest
import torch
from tables import CausalTable, OrderedTable, random_joint

from likelihood.cases import FAMILY, MASKED, MODEL, TABLE, TEXT, TEXTS, one
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.likelihood import Request, TokenValues, choose, score, token_values
from remask.likelihood.rule import divided
from remask.sampling import SamplingParams
from remask.sampling.confidence import Confidence
from remask.sampling.first_hitting import FirstHitting

REQUEST = Request(TEXT[1:], TEXT[:1])


def values(estimator: str, request: Request = REQUEST, tokens: int | None = None, **options: object) -> TokenValues:
    return token_values(TABLE, FAMILY, request, choose(FAMILY, estimator, **options), tokens=tokens)


def in_order(order: tuple[int, ...]) -> list[float]:
    """Nats of the tokens 1 to 3 of the text, the first of which is given, when they are revealed in an order."""
    state, nats = [TEXT[0], None, None, None], [0.0] * 3
    for i in order:
        nats[i - 1] = -TABLE.given(tuple(state))[i][TEXT[i]]
        state[i] = TEXT[i]
    return nats


def test_an_autoregressive_token_is_given_those_before_it() -> None:
    joint = random_joint(3, 4, seed=5)
    table = CausalTable(joint, end=3)
    family = Autoregressive().over(table.vocabulary)
    found = token_values(table, family, REQUEST, choose(family))
    expected = [-float(table.conditional[i][TEXT[: i + 1]]) for i in (1, 2, 3)]
    assert found.nats == pytest.approx(expected, rel=1e-6)
    assert found.stderr == [0.0] * 3 and found.estimate.kind == "exact"


def test_an_interpolating_model_that_writes_left_to_right() -> None:
    family = Interpolating(alpha_0=0.0).over(TABLE.vocabulary)
    found = token_values(OrderedTable(TABLE), family, REQUEST, choose(family))
    assert found.nats == pytest.approx(in_order((1, 2, 3)), rel=1e-6)


@pytest.mark.parametrize("tokens", [None, 4])
def test_the_chain_rule_of_a_masked_model(tokens: int | None) -> None:
    found = values("chain", tokens=tokens)
    assert found.nats == pytest.approx(in_order((1, 2, 3)), rel=1e-6)
    assert found.stderr == [0.0] * 3


def test_the_bound_divides_into_means_over_all_orders() -> None:
    orders = [in_order(order) for order in itertools.permutations((1, 2, 3))]
    expected = [math.fsum(nats) / len(orders) for nats in zip(*orders, strict=True)]
    found = values("enumeration")
    assert found.nats == pytest.approx(expected, rel=1e-6) and found.stderr == [0.0] * 3
    drawn = values("count", draws=400)
    for nats, error, truth in zip(drawn.nats, drawn.stderr, expected, strict=True):
        assert 0 < error < 0.3 and abs(nats - truth) < 5 * error


def test_a_rule_divides_into_the_tokens_as_it_writes_them() -> None:
    by_left = SamplingParams(sampler=Confidence(rule="left"))
    assert values("rule", params=by_left).nats == pytest.approx(in_order((1, 2, 3)), rel=1e-6)
    at_once = values("rule", params=SamplingParams(sampler=Confidence(), steps=1))
    given = TABLE.given((TEXT[0], None, None, None))
    assert at_once.nats == pytest.approx([-given[i][TEXT[i]] for i in (1, 2, 3)], rel=1e-6)
    orders = values("rule", params=SamplingParams(sampler=FirstHitting()), draws=300)
    averaged = values("enumeration").nats
    for nats, error, truth in zip(orders.nats, orders.stderr, averaged, strict=True):
        assert error > 0 and abs(nats - truth) < 5 * error


def test_a_text_that_a_rule_cannot_write() -> None:
    greedy = SamplingParams(sampler=Confidence(), temperature=0.0)
    texts = [Request(tuple(text)) for text in TABLE.texts.tolist()]
    found = [values("rule", text, params=greedy) for text in texts]
    assert sum(one.estimate.nats == 0 for one in found) == 1
    assert all(math.inf in one.nats and not any(map(math.isnan, one.nats)) for one in found if one.estimate.nats)


def test_a_step_is_divided_exactly_where_a_probability_has_no_float32() -> None:
    p = torch.tensor([[0.5, 0.0, 0.25, 1.0], [0.1, 0.2, 0.3, 0.4]])  # e^-200 is 0 there
    changed = torch.tensor([[True, True, True, False], [False] * 4])
    found = divided(torch.tensor([200 + math.log(8), 0.0], dtype=torch.float64), p, changed)
    assert found[0].tolist() == pytest.approx([math.log(2), 200, math.log(4), 0])
    assert found[1].tolist() == [0.0] * 4


@pytest.mark.parametrize("estimator", ["count", "chain", "rule", "smdm", "llada", "enumeration"])
@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_the_values_sum_to_the_estimate_of_score(estimator: str, guidance: float) -> None:
    for request in TEXTS[:4]:
        how = choose(MASKED, estimator, draws=32, guidance=guidance, seed=3)
        ((_, expected),) = score(MODEL, MASKED, [request], estimator=how)
        found = token_values(MODEL, MASKED, request, how, tokens=40)
        assert len(found.nats) == len(found.stderr) == len(request.target)
        assert math.fsum(found.nats) == pytest.approx(expected.nats, rel=1e-5)
        assert found.estimate.nats == pytest.approx(expected.nats, rel=1e-5)
        assert found.estimate.stderr == pytest.approx(expected.stderr, rel=1e-3, abs=1e-9)
        assert (found.estimate.kind, found.estimate.of) == (expected.kind, expected.of)


@pytest.mark.parametrize("estimator", ["draws", "orders"])
def test_what_is_no_sum_over_tokens(estimator: str) -> None:
    family = Interpolating(alpha_0=0.5).over(TABLE.vocabulary)
    with pytest.raises(RemaskError, match=f"estimator '{estimator}' gives no values of single tokens"):
        token_values(OrderedTable(TABLE), family, REQUEST, choose(family, estimator))


def test_it_is_the_estimate_of_the_table() -> None:
    assert values("enumeration", Request(TEXT)).estimate == one("enumeration", Request(TEXT))
