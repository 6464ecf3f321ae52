"""The chain rule from left to right."""

import pytest
from tables import CausalTable, Table, chain, random_joint

from likelihood.cases import FAMILY, MASKED, MODEL, TABLE, TEXT, TEXTS, TIMED, one, scores
from remask.families.autoregressive import Autoregressive
from remask.likelihood import Request
from remask.model.transformer import Transformer
from remask.sampling import SamplingParams
from remask.sampling.confidence import Confidence

LEFT = SamplingParams(sampler=Confidence(rule="left"))


def test_chain_rule_is_left_to_right() -> None:
    found = one("chain")
    assert found.nats == pytest.approx(chain(TABLE, TEXT, range(4)), rel=1e-6)
    assert (found.kind, found.stderr, found.of) == ("exact", 0.0, "left to right")
    rule = one("rule", params=LEFT)
    assert rule.nats == pytest.approx(found.nats, rel=1e-6)
    assert "left" in rule.of
    blocks = one("rule", params=SamplingParams(sampler=Confidence(), block=1))
    assert blocks.nats == pytest.approx(found.nats, rel=1e-6)


@pytest.mark.parametrize("request_", TEXTS, ids=lambda t: f"{len(t.prompt)}+{len(t.target)}")
@pytest.mark.parametrize("guidance", [0.0, 0.8])
@pytest.mark.parametrize("model", [MODEL, TIMED], ids=["no time", "time"])
def test_chain_rule_of_a_network_is_its_left_to_right_rule(
    model: Transformer, guidance: float, request_: Request
) -> None:
    (found,) = scores(model, MASKED, [request_], estimator="chain", guidance=guidance)
    (rule,) = scores(model, MASKED, [request_], estimator="rule", params=LEFT, guidance=guidance)
    assert found.nats == pytest.approx(rule.nats, rel=1e-5)


def test_conditional_is_joint_minus_marginal() -> None:
    joint = random_joint(3, 4, seed=5)
    table = CausalTable(joint, end=3)
    family = Autoregressive().over(table.vocabulary)
    (conditional,) = scores(table, family, [Request(TEXT[2:], TEXT[:2])])
    (found,) = scores(Table.of(joint), FAMILY, [Request(TEXT[2:], TEXT[:2])], estimator="chain")
    assert found.nats == pytest.approx(conditional.nats, rel=1e-6)
