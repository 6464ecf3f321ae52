"""What samplers write, against the enumerated law over all texts, and against the likelihood of their own rule."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from scipy.stats import chisquare
from tables import (
    CausalTable,
    Choose,
    Law,
    Table,
    any_order,
    chain,
    joint_law,
    mixture,
    parts_law,
    random_joint,
    rule_law,
)
from torch import Tensor
from writing import fill, how

from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.likelihood import Request, score
from remask.sampling import Canvas, Sampler, SamplingParams, start, stream
from remask.sampling.ancestral import Ancestral
from remask.sampling.confidence import Confidence, Rule
from remask.sampling.first_hitting import FirstHitting
from remask.sampling.left_to_right import LeftToRight
from remask.sampling.llada import LLaDA
from remask.sampling.smdm import SMDM

ROWS = 4_000
LENGTH = 3
SYMBOLS = 3
JOINT = random_joint(SYMBOLS, LENGTH, seed=3, sharpness=1.5)
ORACLE = Table.of(JOINT)
IMPERFECT = Table.random(SYMBOLS, LENGTH, seed=2)
DETERMINISTIC: tuple[Rule, ...] = tuple(rule for rule in get_args(Rule) if rule != "random")


def masked(table: Table) -> Masked:
    """The family over a table's ids."""
    return Masked().over(table.vocabulary)


def written(params: SamplingParams, table: Table) -> Tensor:
    """(ROWS, L) texts from one call on an empty canvas."""
    return fill(params, table, [[None] * LENGTH] * ROWS, family=masked(table), seed=11)[-1].tokens


def assert_drawn_from(law: Law, tokens: Tensor) -> None:
    """Chi-square of the frequencies, rare texts pooled."""
    assert math.fsum(law.values()) == pytest.approx(1, abs=1e-9)
    seen = Counter(tuple(row) for row in tokens.tolist())
    assert set(seen) <= {text for text, p in law.items() if p > 0}
    often = [text for text, p in law.items() if p * ROWS >= 8]
    frequency = [seen[text] for text in often]
    expected = [law[text] * ROWS for text in often]
    rest = ROWS - math.fsum(expected)
    if rest > 1e-6:
        frequency.append(ROWS - sum(frequency))
        expected.append(rest)
    assert len(frequency) > 2
    assert chisquare(frequency, expected).pvalue > 1e-3


ONE_AT_A_TIME: dict[str, SamplingParams] = {
    "first hitting": how(FirstHitting()),
    **{f"confidence {rule}": how(Confidence(rule=rule)) for rule in get_args(Rule)},
    "confidence in as many steps": how(Confidence(), steps=LENGTH),
    "confidence in blocks": how(Confidence(), block=2),
    "first hitting in blocks": how(FirstHitting(), block=2),
    "blocks of one": how(Ancestral(), steps=3, block=1),
    "llada, random": how(LLaDA(remasking="random")),
}


@pytest.mark.parametrize("name", ONE_AT_A_TIME)
def test_with_an_oracle_any_order_gives_the_joint(name: str) -> None:
    assert_drawn_from(joint_law(JOINT), written(ONE_AT_A_TIME[name], ORACLE))


def test_left_to_right_gives_the_joint() -> None:
    table = CausalTable(JOINT, end=SYMBOLS)
    family = Autoregressive().over(table.vocabulary)
    steps = fill(LeftToRight(), table, [[None] * LENGTH] * ROWS, family=family, seed=11)
    assert_drawn_from(joint_law(JOINT), steps[-1].tokens)


# Random orders: mixtures of the laws of ordered partitions


def partitions(length: int) -> list[tuple[tuple[int, ...], ...]]:
    """Every way of revealing positions in a sequence of non-empty sets."""

    def go(left: frozenset[int]) -> list[tuple[tuple[int, ...], ...]]:
        if not left:
            return [()]
        sets = [s for k in range(1, len(left) + 1) for s in itertools.combinations(sorted(left), k)]
        return [(s, *rest) for s in sets for rest in go(left - set(s))]

    return go(frozenset(range(length)))


@pytest.mark.parametrize(
    ("table", "steps"), [(IMPERFECT, 1), (IMPERFECT, 2), (IMPERFECT, 5), (IMPERFECT, 30), (ORACLE, 5)]
)
def test_ancestral_sampling_on_any_grid(table: Table, steps: int) -> None:
    """Every position is revealed in a uniformly random step: m sets in a row have probability C(n, m)/n^L."""
    law = mixture((p, parts_law(table, parts)) for p, parts in on_grid(steps))
    assert_drawn_from(law, written(how(Ancestral(), steps=steps), table))


def test_smdm_by_its_first_algorithm_is_ancestral_sampling() -> None:
    """On a grid that ends at 1e-5, where the last step writes all that is left: no difference to be seen."""
    law = mixture((p, parts_law(IMPERFECT, parts)) for p, parts in on_grid(5))
    assert_drawn_from(law, written(how(SMDM(algorithm="origin"), steps=5), IMPERFECT))


def on_grid(steps: int) -> list[tuple[float, tuple[tuple[int, ...], ...]]]:
    """Ordered partitions with their probabilities on a time grid."""
    return [(math.comb(steps, len(parts)) / steps**LENGTH, parts) for parts in partitions(LENGTH)]


def test_ancestral_sampling_tends_to_the_joint() -> None:
    """With an oracle what is wrong is only what is written at once: an error of the order of 1/steps."""
    truth = joint_law(JOINT)
    errors = []
    for steps in (10, 100, 1000):
        law = mixture((p, parts_law(ORACLE, parts)) for p, parts in on_grid(steps))
        errors.append(sum(abs(law[text] - p) for text, p in truth.items()) * steps)
    assert errors[0] / steps > 0
    assert max(errors) < 1.2 * min(errors) < 10


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_first_hitting_reveals_in_uniformly_random_order(at_once: int) -> None:
    orders = list(itertools.permutations(range(LENGTH)))
    law = mixture(
        (1 / len(orders), parts_law(IMPERFECT, [order[i : i + at_once] for i in range(0, LENGTH, at_once)]))
        for order in orders
    )
    assert_drawn_from(law, written(how(FirstHitting(at_once=at_once)), IMPERFECT))
    if at_once < LENGTH:
        steps = -(-LENGTH // at_once)
        assert_drawn_from(law, written(how(Confidence(rule="random"), steps=steps), IMPERFECT))


# Deterministic rules: the sampled law is the enumerated one, and is what the likelihood says


def certainty(given: list[float], rule: Rule) -> float:
    """How sure a row of log-probabilities is."""
    p = sorted((math.exp(v) for v in given), reverse=True)
    if rule == "probability":
        return p[0]
    return p[0] - p[1] if rule == "margin" else sum(q * math.log(q) for q in p)


def choosing(rule: Rule, counts: Sequence[int], blocks: Sequence[Sequence[int]] = (range(LENGTH),)) -> Choose:
    """Writes `counts[step]` of the surest masked positions of the first block that has any."""

    def choose(step: int, given: list[list[float]], masked: list[int]) -> list[int]:
        among = next([i for i in block if i in masked] for block in blocks if any(i in masked for i in block))
        ranked = sorted(among, key=lambda i: i if rule == "left" else -certainty(given[i], rule))
        return ranked[: counts[step]]

    return choose


CASES: dict[str, tuple[SamplingParams, Choose]] = {
    **{f"{rule}, one at a time": (how(Confidence(rule=rule)), choosing(rule, [1, 1, 1])) for rule in DETERMINISTIC},
    **{f"{rule}, two steps": (how(Confidence(rule=rule), steps=2), choosing(rule, [2, 1])) for rule in DETERMINISTIC},
    "all at once": (how(Confidence(), steps=1), choosing("probability", [3])),
    "linear in three steps": (how(Confidence(schedule="linear"), steps=3), choosing("probability", [1, 2])),
    "linear in two steps": (how(Confidence(schedule="linear"), steps=2), choosing("probability", [1, 2])),
    "blocks of two": (how(Confidence(), block=2), choosing("probability", [1, 1, 1], [[0, 1], [2]])),
    "blocks of two at once": (
        how(Confidence(rule="entropy"), steps=1, block=2),
        choosing("entropy", [2, 1], [[0, 1], [2]]),
    ),
    "blocks of one": (how(Confidence(rule="margin"), block=1), choosing("left", [1, 1, 1])),
}


@pytest.mark.parametrize("name", CASES)
def test_a_rule_writes_its_enumerated_law_and_its_likelihood_is_exact(name: str) -> None:
    params, choose = CASES[name]
    law = rule_law(IMPERFECT, choose)
    assert_drawn_from(law, written(params, IMPERFECT))
    scored = likelihoods(params, IMPERFECT)
    assert math.fsum(scored.values()) == pytest.approx(1, abs=1e-6)
    for text, p in law.items():
        assert scored[text] == pytest.approx(p, rel=1e-5)


def test_rules_differ() -> None:
    """So that the tests above can tell them apart."""
    laws = [rule_law(IMPERFECT, choosing(rule, [1, 1, 1])) for rule in DETERMINISTIC]
    for one, two in itertools.combinations(laws, 2):
        assert sum(abs(one[text] - two[text]) for text in one) > 0.5


def likelihoods(params: SamplingParams, table: Table) -> Law:
    """The probability with which a rule writes each text: all of them are forced, in one batch."""
    family, texts = masked(table), table.texts
    state = start(family, Canvas.of([[None] * LENGTH] * len(texts)), params, forced=texts)
    steps = list(stream(table, family, state))
    assert torch.equal(steps[-1].tokens, texts)
    return {tuple(text): math.exp(p) for text, p in zip(texts.tolist(), steps[-1].log_prob.tolist(), strict=True)}


@pytest.mark.parametrize("name", ["margin, two steps", "blocks of two at once"])
def test_the_estimator_rule_gives_the_probability_of_a_forced_text(name: str) -> None:
    params, _ = CASES[name]
    for text, p in itertools.islice(likelihoods(params, IMPERFECT).items(), 0, None, 5):
        ((_, found),) = score(IMPERFECT, masked(IMPERFECT), [Request(text)], estimator="rule", params=params)
        assert (found.kind, found.stderr) == ("exact", 0)
        assert math.exp(-found.nats) == pytest.approx(p, rel=1e-6)


SHARPENED: list[tuple[str, dict[str, Any]]] = [
    ("probability, one at a time", {"temperature": 0.5}),
    ("margin, two steps", {"temperature": 2.0}),
    ("blocks of two", {"top_k": 2}),
    ("probability, one at a time", {"top_p": 0.7}),
    ("margin, two steps", {"temperature": 1.3, "top_p": 0.9, "top_k": 2}),
    *((name, {"temperature": 0}) for name in ("probability, one at a time", "margin, two steps", "blocks of two")),
]


@pytest.mark.parametrize(("name", "options"), SHARPENED, ids=str)
def test_likelihood_of_a_sharpened_rule_sums_to_one_and_is_what_is_written(name: str, options: dict[str, Any]) -> None:
    params = replace(CASES[name][0], **options)
    scored = likelihoods(params, IMPERFECT)
    assert math.fsum(scored.values()) == pytest.approx(1, abs=1e-6)
    tokens = written(params, IMPERFECT)
    if params.temperature == 0:
        (text,) = {tuple(row) for row in tokens.tolist()}
        assert scored[text] == 1
    else:
        law = {text: p / math.fsum(scored.values()) for text, p in scored.items()}
        assert_drawn_from(law, tokens)


RANDOM: list[tuple[Sampler, int | None]] = [(FirstHitting(), None), (Confidence(rule="random"), None), (Ancestral(), 4)]


@pytest.mark.parametrize(("sampler", "steps"), RANDOM, ids=str)
def test_a_random_order_is_scored_as_a_bound(sampler: Sampler, steps: int | None) -> None:
    """The mean over drawn orders of -log p of that order, with an honest error."""
    text, rule = (2, 0, 1), how(sampler, steps=steps)
    ((_, found),) = score(IMPERFECT, masked(IMPERFECT), [Request(text)], estimator="rule", params=rule, draws=2000)
    assert found.kind == "bound"
    assert 0 < found.stderr < 0.05
    truth = any_order(IMPERFECT, text)
    if steps is not None:
        truth = math.fsum(-p * math.log(parts_law(IMPERFECT, parts)[text]) for p, parts in on_grid(steps))
    assert abs(found.nats - truth) < 4 * found.stderr


STEPWISE = {**ONE_AT_A_TIME, "ancestral": how(Ancestral(), steps=4)}


def test_log_prob_of_a_step_is_that_of_what_was_written() -> None:
    """With an oracle and one token at a time it is log p of the text; with one step, the product of marginals."""
    for name, params in STEPWISE.items():
        total = torch.zeros(50, dtype=torch.float64)
        before = torch.full((50, LENGTH), SYMBOLS)
        steps = fill(params, ORACLE, [[None] * LENGTH] * 50, family=masked(ORACLE), seed=2)
        for step in steps:
            logits = ORACLE(before).double().log_softmax(-1)
            picked = logits.gather(-1, step.tokens.clamp(max=SYMBOLS - 1)[..., None])[..., 0]
            total += picked.where(step.changed, torch.zeros(())).sum(1)
            torch.testing.assert_close(step.log_prob, total, rtol=1e-5, atol=1e-5)
            probability = picked.exp().float().where(step.changed, step.confidence)
            torch.testing.assert_close(step.confidence, probability, rtol=1e-5, atol=1e-5)
            assert not bool(step.confidence[step.masked].any())
            before = step.tokens
        if name != "ancestral":
            truth = torch.tensor([math.log(float(JOINT[tuple(row)])) for row in steps[-1].tokens.tolist()])
            torch.testing.assert_close(steps[-1].log_prob.float(), truth, rtol=1e-5, atol=1e-5)


def test_left_to_right_rule_is_the_chain_rule() -> None:
    scored = likelihoods(how(Confidence(rule="left")), IMPERFECT)
    for text in [(0, 1, 2), (2, 2, 0)]:
        assert -math.log(scored[text]) == pytest.approx(chain(IMPERFECT, text, range(LENGTH)), rel=1e-6)


def test_forced_text_left_to_right_has_its_own_probability() -> None:
    table = CausalTable(JOINT, end=SYMBOLS)
    texts = torch.tensor(list(itertools.product(range(SYMBOLS), repeat=LENGTH)))
    family, canvas = Autoregressive().over(table.vocabulary), Canvas.of([[None] * LENGTH] * len(texts))
    *_, last = stream(table, family, start(family, canvas, how(LeftToRight()), forced=texts))
    torch.testing.assert_close(last.log_prob.exp().float(), JOINT.flatten().float(), rtol=1e-5, atol=1e-7)
