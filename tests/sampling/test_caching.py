"""Approximate caches: what they read, when they are exact after all, and what they refuse.

Recorded texts of Fast-dLLM are compared in test_vectors.py, and rows that come and go in test_batches.py.
"""

from typing import Any

import pytest
import torch
from tables import tiny
from torch import Tensor
from writing import BIDIRECTIONAL, CAUSAL, MASK, MASKED, V, begin, fill

from remask.errors import RemaskError
from remask.families.interpolating import Interpolating
from remask.families.uniform import Uniform
from remask.sampling import step, stream
from remask.sampling.adaptive import Threshold
from remask.sampling.ancestral import Ancestral
from remask.sampling.caching import Delayed, policy_of
from remask.sampling.confidence import Confidence
from remask.sampling.esolm import EsoLM
from remask.sampling.left_to_right import LeftToRight
from remask.sampling.loop import make_cache
from remask.sampling.psi import Psi
from remask.sampling.selective import close_gaps
from remask.vocabulary import Vocabulary

ROW = [3, 1, *[None] * 9]


class Reads:
    """A network that notes which canvas positions each call reads."""

    def __init__(self, model: Any) -> None:
        self.model, self.architecture, self.read = model, model.architecture, list[list[int]]()

    def __call__(self, tokens: Tensor, **arguments: Any) -> Tensor:
        index = arguments["index"]
        self.read.append(list(range(tokens.shape[1])) if index is None else [i for i in index[0].tolist() if i >= 0])
        return self.model(tokens, **arguments)


def read_with(cache: str, **options: Any) -> list[list[int]]:
    """What each call reads when a row of 2 + 9 positions is written in blocks of 3, one token a step."""
    counted = Reads(tiny(V + 1, V, seed=2))
    list(stream(counted, MASKED, begin(Confidence(rule="left"), [ROW], block=3, cache=cache, **options)))
    return counted.read


WHOLE = list(range(11))


def test_what_each_reads() -> None:
    assert read_with("Prefix")[:4] == [WHOLE, WHOLE[2:], WHOLE[2:], WHOLE]
    assert read_with("Prefix")[3:6] == [WHOLE, WHOLE[5:], WHOLE[5:]]
    assert read_with("Dual")[:6] == [WHOLE, [2, 3, 4], [2, 3, 4], WHOLE, [5, 6, 7], [5, 6, 7]]
    assert read_with("Dual:refresh=2")[:3] == [WHOLE, [2, 3, 4], WHOLE]
    # what was masked one step ago: the token just written is read once more
    assert read_with("Delayed:refresh=0")[:3] == [WHOLE, WHOLE[2:], WHOLE[3:]]


@pytest.mark.parametrize("convolution", [0, 3])
def test_read_again_at_every_step_a_cache_is_exact(convolution: int) -> None:
    model = tiny(V + 1, V, seed=5, sharpness=2.5, convolution=convolution)
    rows = [ROW, [None] * 6, [2, None, None, 4, None, None]]
    plain = fill(Confidence(), model, rows, block=3)[-1]
    for cache in ("Prefix:refresh=1", "Dual:refresh=1", "Delayed:refresh=1"):
        assert torch.equal(fill(Confidence(), model, rows, block=3, cache=cache)[-1].tokens, plain.tokens)


class Kept(Reads):
    """A network that notes the token with which each position of row 0 was last read."""

    last = torch.full((11,), -1)

    def __call__(self, tokens: Tensor, **arguments: Any) -> Tensor:
        index = arguments["index"][0]
        self.last = self.last.clone()
        self.last[index[index >= 0]] = tokens[0][index >= 0]
        return self.model(tokens, **arguments)


@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_delayed_reads_every_token_once_it_is_written(name: str) -> None:
    """Whatever the sampler, steps that ask nothing and tokens that are hidden again among them: what a call sees of the
    rest is what the canvas holds."""
    kept = Kept(tiny(V + 1, V, seed=2))
    state = begin(BIDIRECTIONAL[name], [ROW], cache="Delayed:refresh=0", temperature=1.5)
    cache = make_cache(kept, state)
    for _ in range(80):
        before, calls = state.tokens[0].clone(), int(state.calls[0])
        step(kept, MASKED, state, cache)
        if int(state.calls[0]) > calls:
            assert torch.equal(kept.last, before)
        if bool(state.finished.all()):
            return
    raise AssertionError("the row is not complete after 80 steps")


def test_a_cache_says_whether_it_is_exact() -> None:
    model = tiny(V + 1, V, seed=5)
    approximate = make_cache(model, begin(Threshold(), [ROW], cache="Dual"))
    exact = make_cache(model, begin(LeftToRight(), [[1, None, None]]))
    assert approximate is not None and not approximate.exact and not approximate.join(approximate).exact
    assert exact is not None and exact.exact and exact.rows(torch.tensor([0])).exact
    assert make_cache(model, begin(Threshold(), [ROW])) is None


def test_a_step_without_the_cache_that_a_row_asks_for() -> None:
    with pytest.raises(RemaskError, match="a row asks for a cache; give step"):
        step(tiny(V + 1, V), MASKED, begin(Threshold(), [ROW], cache="Dual"))


def test_names() -> None:
    assert policy_of("none") is None and policy_of(None) is None
    assert policy_of("Delayed:refresh=4") == Delayed(refresh=4)


@pytest.mark.parametrize(
    ("sampler", "family", "options", "says"),
    [
        (Confidence(), MASKED, {"cache": "Duall"}, "unknown cache 'Duall'. Did you mean 'Dual'"),
        (Confidence(), MASKED, {"cache": 5}, "cache is 5; it is a name"),
        (Confidence(), MASKED, {"cache": "none:refresh=2"}, "unknown cache 'none'"),
        (Confidence(), MASKED, {"cache": "Dual:often=2"}, "unknown option of Dual 'often'"),
        (Confidence(), MASKED, {"cache": "Prefix:refresh=-1"}, "refresh"),
        (LeftToRight(), CAUSAL, {"cache": "Dual"}, "LeftToRight has an exact cache by itself; leave cache out"),
        (EsoLM(), Interpolating().over(MASKED.vocabulary), {"cache": "Dual"}, "EsoLM has an exact cache by itself"),
        (Ancestral(), Uniform().over(Vocabulary(size=V)), {"cache": "Dual"}, "this one is Uniform; leave cache out"),
    ],
)
def test_what_cannot_be(sampler: Any, family: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        begin(sampler, [[1, None, None]], family=family, **options)


def test_selective_reads_the_candidates_and_what_was_just_written() -> None:
    counted = Reads(tiny(V + 1, V, seed=2))
    list(stream(counted, MASKED, begin(Confidence(), [[None] * 12], steps=3, cache="Selective:candidates=4,gap=0")))
    assert [len(read) for read in counted.read] == [12, 8, 8]  # four candidates and four just written; the last, all
    counted = Reads(tiny(V + 1, V, seed=2))
    cache = "Selective:candidates=1,gap=0,deviation=1"
    list(stream(counted, MASKED, begin(Threshold(threshold=1.0), [[3, *[None] * 6, 1, *[None] * 5]], cache=cache)))
    assert {len(read) for read in counted.read[1:]} == {2}  # a candidate, and what was just written


def test_selective_reads_what_was_masked_again() -> None:
    """Else the other positions would go on seeing the token that was taken back."""
    model = Kept(tiny(V + 1, V, seed=2, sharpness=2.0))
    state = begin(Psi(kappa=0.2), [[None] * 11], steps=12, cache="Selective:gap=0", seed=4)
    cache = make_cache(model, state)
    hidden_again = 0
    while not bool(state.finished.all()):
        before = state.masked.clone()
        step(model, MASKED, state, cache)
        read, masked = model.last, state.masked[0] & before[0]
        assert bool((read[masked & (read >= 0)] == MASK).all())
        hidden_again += int((state.masked & ~before).sum())
    assert hidden_again > 0


@pytest.mark.parametrize("gap", [0, 1, 2, 5])
def test_close_gaps(gap: int) -> None:
    row = [i in (2, 4, 7, 11) for i in range(14)]
    wanted = [
        own or (any(row[:i]) and any(row[i:]) and row.index(True, i) - max(j for j in range(i) if row[j]) - 1 <= gap)
        for i, own in enumerate(row)
    ]
    assert close_gaps(torch.tensor([row]), gap)[0].tolist() == wanted


@pytest.mark.parametrize("cache", [None, "Dual", "Prefix", "Delayed:refresh=0"])
def test_a_window_hides_what_is_far_behind_the_block(cache: str | None) -> None:
    counted = Reads(tiny(V + 1, V, seed=2))
    list(stream(counted, MASKED, begin(Confidence(rule="left"), [ROW], block=3, window=2, cache=cache)))
    near = [*range(7), 10]  # prompt, block, two masks, the last position
    assert counted.read[0] == near
    assert counted.read[1] == {None: near, "Dual": [2, 3, 4], "Prefix": near[2:], "Delayed:refresh=0": near[2:]}[cache]
    assert counted.read[3] == [*range(10), 10]
    if cache is None:
        assert counted.read[6] == WHOLE


def test_a_window_over_all_changes_nothing_and_a_narrow_one_does() -> None:
    model = tiny(V + 1, V, seed=5, sharpness=2.5, convolution=3)
    rows = [ROW, [None] * 6, [2, None, None, 4, None, None]]
    plain, wide, narrow = (fill(Confidence(), model, rows, block=3, window=w)[-1].tokens for w in (None, 9, 0))
    assert torch.equal(plain, wide) and not torch.equal(plain, narrow)
    assert torch.equal(plain[2], narrow[2])  # three blocks' worth is not there: block and last position are all


def test_a_growing_row_is_written_as_one_to_which_blocks_are_appended() -> None:
    model = tiny(V + 1, V, seed=5, sharpness=2.5, convolution=3)
    row: list[int | None] = [3, 1]
    for _ in range(3):
        row = fill(Confidence(), model, [[*row, *[None] * 3]], temperature=0)[-1].tokens[0].tolist()
    options: dict[str, Any] = {"block": 3, "temperature": 0}
    grown = fill(Confidence(), model, [ROW, [None] * 4], grow=True, **options)[-1].tokens
    assert grown[0].tolist() == row
    assert not torch.equal(grown, fill(Confidence(), model, [ROW, [None] * 4], **options)[-1].tokens)


def test_what_a_window_refuses() -> None:
    with pytest.raises(RemaskError, match="grow is about what stands behind"):
        begin(Confidence(), [ROW], grow=True)
    for options in ({"window": 2}, {"grow": True}, {"cache": "Selective"}):
        with pytest.raises(RemaskError, match="finish looks at all that is masked"):
            begin(Threshold(finish=1.0), [ROW], block=3, **options)
    with pytest.raises(RemaskError, match="exact cache by itself; leave grow out"):
        begin(LeftToRight(), [[1, None]], family=CAUSAL, grow=True)
    with pytest.raises(RemaskError, match="give block too"):
        begin(Confidence(), [ROW], window=4)
    with pytest.raises(RemaskError, match="window is -1"):
        begin(Confidence(), [ROW], block=3, window=-1)
    with pytest.raises(RemaskError, match="window is for models that fill masks"):
        begin(Ancestral(), [ROW], family=Uniform().over(Vocabulary(size=V)), window=4, steps=3)
    for options, says in (
        ("candidates=0", "candidates is 0"),
        ("deviation=inf", "deviation is inf; it must be from 0 to 1000 positions"),
    ):
        with pytest.raises(RemaskError, match=says):
            policy_of(f"Selective:{options}")
