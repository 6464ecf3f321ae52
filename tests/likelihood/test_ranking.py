"""Ranking with no more draws than it takes: right at its confidence, whatever the batch, lazily."""

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import CausalTable, Counting, Table, random_joint, tiny

from likelihood.cases import MASKED, MODEL, V, scores
from remask.errors import RemaskError
from remask.families import Family
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.likelihood import Ranking, Request, rank
from remask.likelihood.count import Count
from remask.likelihood.ranking import above

TABLE = Table.of(random_joint(2, 6, seed=5, sharpness=1.5))
FAMILY = Masked().over(TABLE.vocabulary)


def ranked(denoiser: Any, family: Family, questions: list[list[Request]], **options: Any) -> list[Ranking]:
    """The rankings of some questions."""
    return list(rank(denoiser, family, questions, **options))


def questions(number: int, answers: int = 3, size: int = 5) -> list[list[Request]]:
    """Questions with different answers of `size` tokens, behind prompts that fill the table's rows."""
    draw, found = random.Random(7), []
    for place in range(number):
        prompt = tuple(draw.choices((0, 1), k=6 - size))
        targets = [tuple(number >> i & 1 for i in range(size)) for number in draw.sample(range(2**size), answers)]
        found.append([Request(target, prompt, noise_key=place) for target in targets])
    return found


def test_it_ranks_as_enumeration_does_at_its_confidence() -> None:
    """Of 100 questions no more are closed on a wrong answer than its confidence says, and draws are saved."""
    asked, confidence = questions(100), 0.8
    exact = scores(TABLE, FAMILY, [answer for question in asked for answer in question], draws=31, tokens=2**14)
    assert {estimate.stderr for estimate in exact} == {0.0}
    best = torch.tensor([estimate.nats for estimate in exact]).view(-1, 3).argmin(1).tolist()
    options: dict[str, Any] = {"estimator": "count", "draws": 32, "tokens": 2**14}
    found = ranked(TABLE, FAMILY, asked, confidence=confidence, **options)
    full = ranked(TABLE, FAMILY, asked, confidence=1, **options)
    settled = [ranking.best[0] == truth for ranking, truth in zip(found, best, strict=True) if ranking.settled]
    assert len(settled) > 30
    assert settled.count(False) <= (1 - confidence) * len(asked)
    right, right_of_full = (
        sum(ranking.best[0] == truth for ranking, truth in zip(rankings, best, strict=True))
        for rankings in (found, full)
    )
    assert right >= right_of_full - (1 - confidence) * len(asked)
    assert sum(ranking.draws for ranking in found) < 0.8 * sum(ranking.draws for ranking in full)


def test_what_ends_early_ranks_as_all_draws_do() -> None:
    """Of 120 questions no more end on another answer than that of all draws, of the same noise, than the confidence
    allows; and the others have the answer of all draws."""
    asked, confidence = questions(120), 0.8
    options: dict[str, Any] = {"estimator": "count", "draws": 24, "tokens": 2**14}
    found = ranked(TABLE, FAMILY, asked, confidence=confidence, target="draws", **options)
    full = ranked(TABLE, FAMILY, asked, confidence=1, **options)
    pairs = list(zip(found, full, strict=True))
    settled = [(a, b) for a, b in pairs if a.settled]
    assert 40 < len(settled) < len(asked) and all(a.draws < b.draws for a, b in settled)
    assert sum(a.best != b.best for a, b in pairs) <= (1 - confidence) * len(asked)


@given(st.integers(5, 40), st.integers(0, 2**31 - 1))
def test_where_all_groups_are_read_the_truth_is_tested(size: int, seed: int) -> None:
    """The fewer groups remain, the less it takes to know what all of them say; when none remain, the test is that of
    the truth, which asks for more than the last look but one did."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(size, generator=draw, dtype=torch.float64) + 0.8
    zero = torch.zeros(1, dtype=torch.float64)
    answers = [above(values, zero, 0.01, groups) for groups in (size + 1, 2 * size, 100 * size, math.inf)]
    assert answers == sorted(answers, reverse=True)
    assert above(values, zero, 0.01, size) == answers[-1]


@pytest.mark.parametrize("groups", [16, 24, 48])
def test_the_mean_of_all_groups_is_foretold_at_its_level(groups: int) -> None:
    """The share `level` of means of 12 groups is further above that of all groups than the test allows for."""
    draw, level, number = torch.Generator().manual_seed(3), 0.1, 4000
    values = torch.randn(number, groups, generator=draw, dtype=torch.float64)
    beyond = 0
    for row in values:
        others = row.mean().expand(1)  # so that what is foretold is 0, and it lies in the middle of what is probable
        beyond += above(row[:12], others, level, groups)
    assert beyond / number == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / number))


def test_all_rounds_together_are_the_full_estimate() -> None:
    asked = questions(4)
    for ranking, question in zip(
        ranked(TABLE, FAMILY, asked, confidence=1, estimator="count", draws=50, seed=3), asked, strict=True
    ):
        full = scores(TABLE, FAMILY, question, estimator=Count(draws=50, seed=3, group=2))
        assert [e.nats for e in ranking.estimates] == pytest.approx([e.nats for e in full], rel=1e-6)
        assert [e.stderr for e in ranking.estimates] == pytest.approx([e.stderr for e in full], rel=1e-4)
        assert ranking.draws == 150


@pytest.mark.parametrize("tokens", [20, 5000])
def test_neither_place_nor_neighbours_change_a_ranking(tokens: int) -> None:
    draw = random.Random(2)
    asked = [
        [Request(draw.choices(range(V), k=draw.choice((1, 5, 9))), (3, 1), id=place) for _ in range(3)]
        for place in range(8)
    ]
    options: dict[str, Any] = {"draws": 16, "by": ("sum", "tokens"), "confidence": 0.6}
    alone = {ranking.id: ranking for question in asked for ranking in ranked(MODEL, MASKED, [question], **options)}
    assert list(alone) == list(range(8))
    for ranking in ranked(MODEL, MASKED, asked[::-1], tokens=tokens, **options):
        same = alone[ranking.id]
        assert (ranking.settled, ranking.draws, ranking.best) == (same.settled, same.draws, same.best)
        assert [e.nats for e in ranking.estimates] == pytest.approx([e.nats for e in same.estimates], rel=1e-5)


def test_questions_are_read_as_they_are_needed() -> None:
    read: list[int] = []

    def endless() -> Iterator[list[Request]]:
        for number in range(10**9):
            read.append(number)
            yield [replace(answer, noise_key=number) for answer in questions(1)[0]]

    found = rank(TABLE, FAMILY, endless(), estimator="count", draws=16, tokens=16)
    assert read == [], "nothing is read before the first ranking is asked for"
    for number in range(30):
        assert next(found).id == number
        # a question is read in 2 rounds; the first takes 3 * 8 rows of 6 tokens, and a window has 64 * 16 tokens
        assert len(read) <= number + 3 * (64 * 16 // (24 * 6) + 1)


def test_what_is_exact_is_read_once() -> None:
    table = CausalTable(random_joint(3, 4, seed=5), end=3)
    counted = Counting(table)
    family = Autoregressive().over(table.vocabulary)
    (found,) = ranked(counted, family, [[Request((2, 0, 1, 1)), Request((0, 0, 1, 2))]])
    assert (found.settled, found.draws, sum(counted.sizes)) == (True, 2, 2)
    assert found.best == (min((0, 1), key=lambda i: found.estimates[i].nats),)
    counted = Counting(MODEL)
    (one,) = ranked(counted, MASKED, [[Request((t,), (1, 2, 3)) for t in range(4)]], estimator="count")
    assert (one.settled, one.draws, sum(counted.sizes)) == (True, 4, 4)
    assert {estimate.kind for estimate in one.estimates} == {"exact"}
    (tied,) = ranked(MODEL, MASKED, [[Request((4,), (1,)), Request((4,), (1,))]])
    assert (tied.settled, tied.best) == (True, (0,)), "the first of two equal answers"


def test_every_normalisation_is_settled() -> None:
    asked = [[Request((1, 2, 3), (5,), bytes=3), Request((4,), (5,), bytes=40)]]
    (found,) = ranked(MODEL, MASKED, asked, by=("sum", "tokens", "bytes", lambda request: 1 / len(request.target)))
    nats = torch.tensor([estimate.nats for estimate in found.estimates])
    sizes = torch.tensor([[1, 1], [3, 1], [3, 40], [1 / 3, 1]])
    assert found.settled, "answers of so few tokens are enumerated"
    assert list(found.best) == (nats / sizes).argmin(1).tolist()


def test_what_would_be_enumerated_is_drawn_first() -> None:
    """With 5 tokens 8 or 12 draws come before the 31 masks, whose value an unsettled question has in the end."""
    asked = questions(20)
    exact = scores(TABLE, FAMILY, [answer for question in asked for answer in question], tokens=2**14)
    found = ranked(TABLE, FAMILY, asked, confidence=0.8, tokens=2**14)
    costs = {sum(cost) for cost in product((8, 12, 12 + 31), repeat=3)}
    for place, ranking in enumerate(found):
        values = exact[3 * place : 3 * place + 3]
        drawn = {estimate.draws for estimate in ranking.estimates}
        assert drawn <= {8, 12, 31} and ranking.draws in costs
        for estimate, value in zip(ranking.estimates, values, strict=True):
            assert estimate.draws in (8, 12) or estimate.nats == pytest.approx(value.nats)
        if drawn == {31}:
            assert ranking.best == (min(range(3), key=lambda i: values[i].nats),)
        assert ranking.settled, "without noise in the end"
    assert len({ranking.draws for ranking in found}) > 1, "some are settled by the first draws"


def test_one_draw_settles_nothing() -> None:
    (found,) = ranked(TABLE, FAMILY, questions(1), estimator="count", draws=1, confidence=0.5)
    assert (found.settled, found.draws) == (False, 3)


def test_other_families_are_ranked() -> None:
    """By the draws of the family, and by random orders, whose parts are no estimate of their own."""
    family = Interpolating(alpha_0=0.5).over(MASKED.vocabulary)
    asked = [[Request((1, 2, 3), (4,)), Request((3, 3), (4,))]]
    model = tiny(V + 1, V, seed=3, sharpness=2.0)
    (drawn,) = ranked(model, family, asked, draws=16, confidence=1)
    full = scores(model, family, asked[0], estimator="draws", draws=16)
    assert drawn.draws == 32 and drawn.estimates[0].tokens == full[0].tokens
    (orders,) = ranked(model, family, asked, estimator="orders", draws=4)
    assert (orders.draws, orders.settled) == (8, False)


@pytest.mark.parametrize(
    ("question", "options", "says"),
    [
        ([Request((1,))], {}, "question 0 has 1 answers to rank; there must be two or more"),
        ([Request((1,)), Request(())], {}, "question 0 has an answer without tokens"),
        ([Request((1,)), Request((2,))], {"by": ("bytes",)}, "its size, which is not known"),
        ([Request((1,)), Request((2,))], {"by": ("byte",)}, "unknown normalisation 'byte'. Did you mean 'bytes'"),
        ([Request((1,)), Request((2,))], {"by": ()}, "by names no normalisation"),
        ([Request((1,)), Request((2,))], {"confidence": 0.2}, "confidence is 0.2; it must be at least 0.5"),
        ([Request((1,)), Request((2,))], {"group": 200}, "group is 200; it must be at least 1, and at most the 128"),
        ([Request((1,)), Request((2,))], {"strata": 2}, "strata is for the estimators llada, smdm"),
    ],
)
def test_what_cannot_be_ranked_is_named(question: list[Request], options: dict[str, Any], says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        ranked(MODEL, MASKED, [question], **options)
