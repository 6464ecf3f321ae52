"""The likelihood of a sampler's own rule."""

import math

import pytest
from tables import any_order, masked_nats

from likelihood.cases import FAMILY, TABLE, TEXT, one
from remask.errors import RemaskError
from remask.likelihood import Request, score
from remask.sampling import Sampler, SamplingParams
from remask.sampling.ancestral import Ancestral
from remask.sampling.confidence import Confidence
from remask.sampling.first_hitting import FirstHitting
from remask.sampling.llada import LLaDA
from remask.sampling.smdm import SMDM


def by(sampler: Sampler, **options: object) -> SamplingParams:
    return SamplingParams(sampler=sampler, **options)  # type: ignore[arg-type]


def test_a_rule_reveals_the_true_tokens() -> None:
    """All at once: the product of the predictions from nothing but masks."""
    found = one("rule", params=by(Confidence(), steps=1))
    assert found.nats == pytest.approx(masked_nats(TABLE, TEXT, range(4)), rel=1e-6)
    assert found.of.startswith("Confidence(") and "steps=1" in found.of


def test_a_text_the_rule_cannot_write_has_infinite_nats() -> None:
    greedy = by(Confidence(), temperature=0.0)
    nats = [one("rule", Request(tuple(t)), params=greedy).nats for t in TABLE.texts.tolist()]
    assert sorted(nats)[0] == 0
    assert sum(math.isinf(n) for n in nats) == len(nats) - 1


def test_a_random_rule_is_a_bound_below_none_of_its_orders() -> None:
    found = one("rule", params=by(FirstHitting()), draws=500)
    assert found.kind == "bound" and abs(found.nats - any_order(TABLE, TEXT)) < 4 * found.stderr
    found = one("rule", params=by(Ancestral(), steps=1), draws=3)
    assert (found.kind, found.stderr) == ("bound", 0.0)
    assert found.nats == pytest.approx(masked_nats(TABLE, TEXT, range(4)), rel=1e-6)
    assert math.isnan(one("rule", params=by(FirstHitting()), draws=1).stderr)


def test_the_rule_with_guidance_sums_to_one() -> None:
    total = math.fsum(
        math.exp(-one("rule", Request(tuple(t[1:]), (2,)), guidance=1.5).nats)
        for t in TABLE.texts.tolist()
        if t[0] == 2
    )
    assert total == pytest.approx(1, abs=1e-6)


def test_whose_likelihood_it_is_follows_all_options_and_is_named() -> None:
    request = Request(TEXT[1:], TEXT[:1])
    guided = one("rule", request, guidance=1.5)
    assert guided == one("rule", request, params=by(Confidence(), guidance=1.5))
    assert guided.nats != one("rule", request).nats and "guidance=1.5" in guided.of
    cut = one("rule", request, params=by(Confidence(), top_k=3, top_p=0.9))
    assert "top_k=3" in cut.of and "top_p=0.9" in cut.of
    with pytest.raises(RemaskError, match=r"guidance is 1.0, and that of params 0.5"):
        one("rule", request, guidance=1.0, params=by(Confidence(), guidance=0.5))


@pytest.mark.parametrize("sampler", [LLaDA(), SMDM()], ids=str)
def test_a_sampler_that_draws_first_has_no_rule(sampler: Sampler) -> None:
    with pytest.raises(RemaskError, match="chooses positions by what it has drawn"):
        score(TABLE, FAMILY, [Request(TEXT)], estimator="rule", params=by(sampler))
