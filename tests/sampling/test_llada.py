"""LLaDA's own rules: its counts, its choice among what was drawn, and its end-of-text flags."""

import pytest
import torch
from writing import ENDS, MASK, MASKED, Fixed, V, counts, fill, network

from remask.errors import RemaskError
from remask.families.masked import Masked
from remask.sampling.confidence import Confidence
from remask.sampling.llada import LLaDA
from remask.vocabulary import Vocabulary

SURE = torch.tensor([[9.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 12, 2], [0, 0, 3.0, 0, 0, 0], [0, 0, 0, 0, 1, 10]])
"""Position 0 says 0, 1 the end, 2 says 2, 3 the end of a turn; 1 is the surest."""


def order_of(sampler: LLaDA, temperature: float) -> tuple[list[int], list[int]]:
    """The positions in the order of writing, and the tokens at the end."""
    steps = fill(sampler, Fixed(SURE), [[None] * 4], family=ENDS, temperature=temperature)
    return [int(s.changed[0].nonzero()) for s in steps], steps[-1].tokens[0].tolist()


@pytest.mark.parametrize("temperature", [0.0, 0.01])
def test_the_end_of_text_flags(temperature: float) -> None:
    """Both work at every temperature; in the published code the second is lost for one of the tokens above 0."""
    assert order_of(LLaDA(), temperature) == ([1, 3, 0, 2], [0, 4, 2, 5])
    late, tokens = order_of(LLaDA(late_end=True), temperature)
    assert late[:2] == [0, 2] and sorted(late[2:]) == [1, 3] and tokens == [0, 4, 2, 5]
    _, tokens = order_of(LLaDA(never_end=True), temperature)
    assert 4 not in tokens and tokens[1] == 5


@pytest.mark.parametrize("sampler", [LLaDA(late_end=True), LLaDA(never_end=True)], ids=["late", "never"])
def test_the_end_of_text_flags_need_an_end(sampler: LLaDA) -> None:
    family = Masked().over(Vocabulary(V + 1, mask=MASK))
    with pytest.raises(RemaskError, match="never_end and late_end need a vocabulary with an end-of-text id"):
        fill(sampler, Fixed(torch.zeros(4, V)), [[None] * 4], family=family)


def test_counts_of_a_step() -> None:
    """Each block its share of the steps, the remainder of a block's masks in its first steps."""
    assert counts(LLaDA(), 10, steps=4) == [3, 3, 2, 2]
    assert counts(LLaDA(), 10, steps=8, block=5) == [2, 1, 1, 1, 2, 1, 1, 1]
    assert counts(LLaDA(), 10, block=4) == [1] * 10
    assert counts(LLaDA(remasking="random"), 10, steps=4) == [3, 3, 2, 2]


def test_what_is_kept_is_what_was_drawn_with_confidence() -> None:
    """Of a step's draws those with the highest probability stay: above temperature 0 not the same as `Confidence`."""
    model, rows = network(), [[1, 2, *[None] * 12]]
    last = {
        sampler: [fill(sampler, model, rows * 40, steps=6, temperature=t)[-1] for t in (0.0, 2.0)]
        for sampler in (Confidence(), LLaDA())
    }
    ours, theirs = last[Confidence()], last[LLaDA()]
    assert torch.equal(ours[0].tokens, theirs[0].tokens)
    assert not torch.equal(ours[1].tokens, theirs[1].tokens)
    assert float((theirs[1].log_prob - ours[1].log_prob).sum()) > 0, "keeping confident draws favours probable tokens"


def test_options() -> None:
    with pytest.raises(RemaskError, match=r"unknown remasking 'best'. Known: low_confidence, random"):
        LLaDA(remasking="best")  # type: ignore[arg-type]


def test_only_what_chooses_first_says_so() -> None:
    assert not LLaDA().chooses_first and LLaDA(remasking="random").chooses_first
    assert not LLaDA().deterministic and LLaDA().fits(MASKED)
