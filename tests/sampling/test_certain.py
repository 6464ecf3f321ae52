"""What goes with every rule that looks at certainty: the prior, the debiasing and the early exit; KLASS and credit."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tables import tiny
from writing import Fixed, Script, V, begin, fill

from remask.data.tokens import open_tokens, prepare
from remask.errors import RemaskError
from remask.families.masked import Masked
from remask.model.transformer import Transformer
from remask.sampling.adaptive import EntropyBound, Factor, Threshold
from remask.sampling.certain import Certain, density
from remask.sampling.confidence import Confidence
from remask.sampling.credit import Credit
from remask.sampling.klass import KLASS

ROW = [3, 1, *[None] * 10]


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def predictions(model: Transformer, tokens: list[int]) -> NDArray[np.float64]:
    """(L, V) logits of one row."""
    with torch.inference_mode():
        return model(torch.tensor([tokens]))[0].double().numpy()


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.floats(0.5, 6))
def test_density(written: list[bool], deviation: float) -> None:
    found = density(
        torch.tensor([[*written, False, False]]), torch.tensor([[True] * len(written) + [False] * 2]), deviation
    )
    reach = range(-math.ceil(4 * deviation), math.ceil(4 * deviation) + 1)
    total = sum(math.exp(-0.5 * (o / deviation) ** 2) for o in reach)
    for i in range(len(written)):
        flags = [True if i + o < 0 else written[min(i + o, len(written) - 1)] for o in reach]
        wanted = (
            sum(math.exp(-0.5 * (o / deviation) ** 2) for o, flag in zip(reach, flags, strict=True) if flag) / total
        )
        assert math.isclose(found[0, i], wanted, abs_tol=1e-12)


def test_with_a_prior_equally_certain_positions_are_written_from_the_known_ones_on() -> None:
    flat = Fixed(torch.zeros(12, V))
    steps = fill(Confidence(prior=2.0), flat, [[None] * 12, [None] * 6 + [5] + [None] * 5])
    first = [step.changed[0].nonzero()[0].item() for step in steps]
    assert first == list(range(12))
    assert steps[1].changed[1].nonzero()[0].item() == 1  # the left side of a row counts as written


def test_a_prior_does_not_change_what_passes_a_threshold() -> None:
    model = tiny(V + 1, V, seed=0, sharpness=3.0)
    with_it, without = (fill(Threshold(threshold=0.97, prior=p), model, [ROW])[0].changed for p in (3.0, 0.0))
    assert 1 < with_it.sum() < 10 and torch.equal(with_it, without)
    one, other = (fill(Factor(factor=0.01, prior=p), model, [ROW])[0].changed for p in (0.5, 0.0))
    assert int(one.sum()) == int(other.sum()) == 1 and not torch.equal(one, other)


def test_frequent_tokens_come_later(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("aaaa aaaa aaaa b\n" * 40)
    prepare(str(tmp_path / "text.txt"), tmp_path / "data", tokenizer="bytes", validation=str(tmp_path / "text.txt"))
    tokenizer = open_tokens(tmp_path / "data").tokenizer
    family = Masked().over(tokenizer.vocabulary)
    often, seldom = tokenizer.encode("a")[0], tokenizer.encode("b")[0]
    logits = torch.zeros(3, family.vocabulary.predicted)
    logits[0, often], logits[1, seldom], logits[2, often] = 8.0, 7.0, 9.0
    rule = Confidence(debias=str(tmp_path / "data"))
    order = [s.changed[0].nonzero()[0].item() for s in fill(rule, Fixed(logits), [[None] * 3], family=family)]
    assert order == [1, 2, 0]  # by probability alone it is 2, 0, 1
    with pytest.raises(RemaskError, match="has more ids than the model"):
        begin(rule, [[None] * 3])
    padded = Masked().over(replace(tokenizer.vocabulary, size=tokenizer.size + 20))  # as LLaDA's
    logits = torch.zeros(3, padded.vocabulary.predicted)
    logits[0, often], logits[1, seldom], logits[2, -1] = 8.0, 7.0, 5.0
    order = [s.changed[0].nonzero()[0].item() for s in fill(rule, Fixed(logits), [[None] * 3], family=padded)]
    assert order == [2, 1, 0]  # what the corpus never has is the rarest


def test_a_row_whose_predictions_are_clear_is_finished_at_once() -> None:
    clear = Script([1, 2, 3, 4, 5, 6, 7, 1])
    whole = [[None] * 8]
    assert len(fill(Confidence(finish=5.0), clear, whole, block=2)) == 1
    logits = torch.zeros(8, V)
    logits[:, 3] = 2.0
    steps = fill(Confidence(finish=4.0), Fixed(logits), whole, block=2, temperature=0)
    # 2 is at least 4 times the share that is left when a half is written
    assert [int(s.changed.sum()) for s in steps] == [1, 1, 1, 1, 4] and steps[-1].tokens.tolist() == [[3] * 8]
    assert len(fill(EntropyBound(bound=0.0), Fixed(logits), whole, block=2)) == 8


def test_the_text_of_a_row_with_a_prior_does_not_depend_on_its_company() -> None:
    """Positions between two known ones are equally near to them, and a tie goes to the left one, in any batch."""
    flat = Fixed(torch.zeros(64, V))
    for size in (3, 4, 8, 13, 20, 31, 59):
        row = [1, *[None] * size, 1]
        alone = [int(s.changed[0].nonzero()[0]) for s in fill(Confidence(prior=10.0), flat, [row])]
        company = fill(Confidence(prior=10.0), flat, [row, [None] * 5, [2, *[None] * 61]])
        assert [int(s.changed[0].nonzero()[0]) for s in company if s.changed[0].any()] == alone


def test_a_position_that_allows_one_token_settles_no_other() -> None:
    logits = torch.zeros(6, V)
    logits[:3, 1:] = -torch.inf
    assert len(fill(Confidence(finish=5.0), Fixed(logits), [[None] * 6])) == 6
    assert len(fill(Threshold(threshold=1.0, finish=5.0), Fixed(logits[:3]), [[None] * 3])) == 1


def klass_by_definition(model: Transformer, row: list[int | None], rule: KLASS, block: int) -> list[int]:
    """KLASS in float64 with the divergences in a list, one token a step where nothing is stable."""
    tokens = [9 if i is None else i for i in row]
    open_ = [i for i, token in enumerate(row) if token is None]
    for start in range(0, len(open_), block):
        inside = open_[start : start + block]
        before = dict.fromkeys(inside, np.zeros(V))
        moved: dict[int, list[float]] = {i: [] for i in inside}
        while left := [i for i in inside if tokens[i] == 9]:
            p = softmax(predictions(model, tokens))
            for i in left:
                moved[i].append(float((p[i] * np.log((p[i] + 1e-12) / (before[i] + 1e-12))).sum()))
                before[i] = p[i]
            ready = [
                i
                for i in left
                if len(moved[i]) > rule.history  # the first is from nothing
                and all(x < rule.drift for x in moved[i][-rule.history :])
                and p[i].max() >= rule.threshold
            ]
            for i in ready or [max(left, key=lambda i: p[i].max())]:
                tokens[i] = int(p[i].argmax())
    return tokens


@pytest.mark.parametrize("seed", [0, 2, 3, 4, 5])
def test_klass(seed: int) -> None:
    model = tiny(V + 1, V, seed=seed, sharpness=3.0)
    rule = KLASS(threshold=0.6, drift=0.1, history=1 + seed % 2)
    steps = fill(rule, model, [ROW, [None] * 7], block=5, temperature=0)
    assert steps[-1].tokens[0].tolist() == klass_by_definition(model, ROW, rule, 5)
    several = [int(s.changed[0].sum()) > 1 for s in steps]
    assert not several[0] and any(several)


def credit_by_definition(model: Transformer, row: list[int | None], rule: Credit) -> list[int]:
    """Credit for every position and id, in one block."""
    tokens = [9 if i is None else i for i in row]
    credit = np.zeros((len(row), V))
    while left := [i for i, token in enumerate(tokens) if token == 9]:
        logits = predictions(model, tokens)
        credit *= rule.decay
        for i in left:
            credit[i, logits[i].argmax()] += softmax(logits[i]).max() ** rule.power
        p = softmax(logits + rule.weight * np.log1p(credit))
        for i in [i for i in left if p[i].max() >= rule.threshold] or [max(left, key=lambda i: p[i].max())]:
            tokens[i] = int(p[i].argmax())
    return tokens


@pytest.mark.parametrize("seed", [0, 1, 3, 4])
def test_credit(seed: int) -> None:
    model = tiny(V + 1, V, seed=seed, sharpness=3.0)
    rule = Credit(threshold=0.97, weight=1.0)
    found = fill(rule, model, [ROW], temperature=0)
    assert found[-1].tokens[0].tolist() == credit_by_definition(model, ROW, rule)
    plain = fill(Threshold(threshold=0.97), model, [ROW], temperature=0)
    assert 1 < len(found) < len(plain)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Confidence(prior=-1.0), "prior is -1.0"),
        (lambda: Confidence(prior=1e12), "it must be from 0 to 1000 positions"),
        (lambda: Threshold(finish=math.nan), "finish is nan"),
        (lambda: Confidence(rule="random", prior=1.0), "and not random"),
        (lambda: KLASS(rule="left"), "cannot be left"),
        (lambda: KLASS(drift=0.0), "drift is 0.0"),
        (lambda: KLASS(history=0), "history is 0"),
        (lambda: KLASS(threshold=1.5), "threshold is 1.5"),
        (lambda: Credit(decay=2.0), "decay is 2.0"),
        (lambda: Credit(weight=math.inf), "weight is inf"),
    ],
)
def test_refused(make: type[Certain], message: str) -> None:
    with pytest.raises(RemaskError, match=message):
        make()
