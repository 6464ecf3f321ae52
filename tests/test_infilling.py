"""Holes whose length is open: every length is tried, and the text is taken that the model finds most probable."""

import itertools
import math
from typing import Any

import pytest
import torch
from tables import tiny

import remask
from remask.checkpoints.checkpoint import Checkpoint
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families import Family
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.infilling import first_with_space, row_with_holes, with_lengths
from remask.sampling.constraints import OneOf


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    tokenizer = Tokenizer.bytes()
    family = Masked().over(tokenizer.vocabulary)
    network = tiny(family.vocabulary.size, family.vocabulary.predicted, seed=3, sharpness=2.0)
    return Checkpoint(network, family, tokenizer, {})


def mean_log_prob(m: Checkpoint, ids: list[int], holes: list[int], first: Any = None) -> float:
    """Written one at a time, the most certain first, at temperature 1: recomputed from the logits. Of the first hole
    only some tokens are allowed, where `first` says which."""
    mask, total, left = m.family.mask, 0.0, set(holes)
    while left:
        tokens = torch.tensor([[mask if i in left else token for i, token in enumerate(ids)]])
        with torch.inference_mode():
            logits = m.model(tokens)[0].double()
        logits = logits.clone()
        if mask < logits.shape[-1]:
            logits[:, mask] = -math.inf
        if first is not None:
            allowed = torch.zeros(logits.shape[-1], dtype=torch.bool)
            allowed[: len(first)] = torch.from_numpy(first)[: len(allowed)]
            logits[holes[0], ~allowed] = -math.inf
        log_p = logits.log_softmax(-1)
        place = max(left, key=lambda i: float(log_p[i].max()))
        total += float(log_p[place, ids[place]])
        left.remove(place)
    return total / len(holes)


def test_the_most_probable_length_is_taken(model: Checkpoint) -> None:
    way: dict[str, Any] = {"sampler": "Confidence", "temperature": 0.0}
    found = remask.sample(model, infill="ab[MASK:1-3]c[MASK:1-2].", **way)
    tried = []
    for one, two in itertools.product(range(1, 4), range(1, 3)):
        each = remask.sample(model, infill=f"ab[MASK:{one}]c[MASK:{two}].", **way)
        ids = [*b"ab", *each.tokens[:one], *b"c", *each.tokens[one:], *b"."]
        holes = [*range(2, 2 + one), *range(3 + one, 3 + one + two)]
        tried.append((mean_log_prob(model, ids, holes), each.tokens))
    assert found.tokens == max(tried)[1]
    assert found.evaluations == 2 * sum(one + two for one in range(1, 4) for two in range(1, 3))


def test_lengths_that_an_expression_does_not_have_are_left_out(model: Checkpoint) -> None:
    found = remask.sample(model, infill="a[MASK:1-6|(xy)+]b", sampler="Confidence")
    assert found.tokens in (list(b"xy"), list(b"xyxy"), list(b"xyxyxy"))
    with pytest.raises(RemaskError, match="no text of 3 tokens matches"):
        remask.sample(model, infill="a[MASK:3-3|(xy)+]b")


def test_combinations() -> None:
    assert with_lengths("a [MASK:2-3] b [MASK:4] [MASK:1-1|[0-9]]", 64) == [
        "a [MASK:2] b [MASK:4] [MASK:1|[0-9]]",
        "a [MASK:3] b [MASK:4] [MASK:1|[0-9]]",
    ]


@pytest.mark.parametrize(
    ("infill", "says"),
    [
        ("a [MASK:3-2]", "is a hole of no length"),
        ("a [MASK:0-2]", "a hole of no tokens"),
        ("a [MASK:1-99]", "beyond the context"),
        ("a [MASK:1-9] [MASK:1-9]", "81 combinations of lengths; at most 64"),
    ],
)
def test_refused(model: Checkpoint, infill: str, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        remask.sample(model, infill=infill)


def test_it_is_not_streamed_and_needs_masks(model: Checkpoint) -> None:
    with pytest.raises(RemaskError, match="cannot be watched"):
        list(remask.stream(model, infill="a [MASK:1-2]"))
    causal = Autoregressive().over(model.tokenizer.vocabulary)
    with pytest.raises(RemaskError, match="in any order, and this one is Autoregressive"):
        remask.sample(Checkpoint(model.model, causal, model.text, {}), infill="a [MASK:1-2]")


WORDS = Tokenizer.train(["the cat sat on 12 mats, and 12 rats sat on the cat"] * 8, vocab_size=300)
NO_NUMBERS = Tokenizer.train(["the cat sat on the mat, and the rat sat on the cat"] * 8, vocab_size=290)
"""As of those that join a space to words and not to digits."""


def over(tokenizer: Tokenizer, family: Family) -> Checkpoint:
    family = family.over(tokenizer.vocabulary)
    network = tiny(family.vocabulary.size, family.vocabulary.predicted, seed=3, time=isinstance(family, Uniform))
    return Checkpoint(network, family, tokenizer, {})


@pytest.mark.parametrize("sampler", ["Confidence", "FirstHitting", "LLaDA"])
@pytest.mark.parametrize("before", ["the ", "the cat  ", "[MASK:1] "])
def test_a_space_before_a_hole_begins_the_word_in_it(before: str, sampler: str) -> None:
    """Tokenizers of words with their space hardly know a space alone; the text around the hole stays as it is."""
    m, infill = over(WORDS, Masked()), f"{before}[MASK:2] sat"
    row, _ = row_with_holes(m, infill, 64)
    given = row[: -2 - len(WORDS.encode(" sat"))]
    assert given == ([None] if before.startswith("[") else WORDS.encode(before[:-1]))
    for seed in range(20):
        text = remask.sample(m, infill=infill, sampler=sampler, seed=seed).text
        assert text.endswith(" sat") and (before.startswith("[") or text.startswith(before))
    *_, last = remask.stream(m, infill=infill, sampler=sampler)
    assert WORDS.texts[int(last.tokens[0, len(given)])].startswith(b" ")


@pytest.mark.parametrize("infill", [" [MASK:2]", "the[MASK:2] ", "the [MASK:1| cat]", "the, [MASK:1| cat]"])
def test_other_spaces_stay_where_they_are(infill: str) -> None:
    before = infill[: infill.index("[")]
    row, constraints = row_with_holes(over(WORDS, Masked()), infill, 64)
    assert row[: row.index(None)] == WORDS.encode(before)
    assert not any(isinstance(one, OneOf) for one in constraints)


@pytest.mark.parametrize(
    ("tokenizer", "family"), [(Tokenizer.bytes(), Masked()), (NO_NUMBERS, Masked()), (WORDS, Uniform())]
)
def test_without_such_words_or_where_all_is_revised_the_space_is_given(tokenizer: Tokenizer, family: Family) -> None:
    m = over(tokenizer, family)
    row, constraints = row_with_holes(m, "the [MASK:2]", 64)
    assert row[:-2] == tokenizer.encode("the ") and not constraints
    assert remask.sample(m, infill="the [MASK:2]", steps=2).text.startswith("the")


def test_lengths_behind_a_space_are_judged_as_they_were_written() -> None:
    """All lengths must begin with a space, which is no choice and counts for none of them."""
    m, way = over(WORDS, Masked()), {"sampler": "Confidence", "temperature": 0.0}
    found = remask.sample(m, infill="the [MASK:1-2] sat", **way)
    tried = []
    for size in (1, 2):
        each = remask.sample(m, infill=f"the [MASK:{size}] sat", **way)
        given = WORDS.encode("the")
        ids = [*given, *each.tokens, *WORDS.encode(" sat")]
        holes = list(range(len(given), len(given) + size))
        tried.append((mean_log_prob(m, ids, holes, first_with_space(m)), each.tokens))
    assert found.tokens == max(tried)[1]
