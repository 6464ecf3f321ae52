"""One network call for all rows: which rows and positions are read, which are asked, and what the network is told."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import UNHURRIED, Counting
from torch import Tensor
from writing import CAUSAL, MASK, MASKED, PROMPTED, V, begin, fill, how, network

from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.model.attention import FULL, Padded
from remask.sampling import Canvas, Query, start, stream
from remask.sampling.ancestral import Ancestral
from remask.sampling.confidence import Confidence
from remask.sampling.first_hitting import FirstHitting
from remask.sampling.left_to_right import LeftToRight
from remask.sampling.loop import make_cache
from remask.sampling.network_call import compose, noise_level, positions_of, predict, without_mask
from remask.vocabulary import Vocabulary


@UNHURRIED
@given(rows=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4))
def test_positions_of_are_those_chosen_and_then_holes(rows: list[list[bool]]) -> None:
    size = max(map(sum, rows))
    found = positions_of(torch.tensor(rows), size)
    for row, places in zip(rows, found.tolist(), strict=True):
        chosen = [i for i, c in enumerate(row) if c]
        assert places == chosen + [-1] * (size - len(chosen))


def test_only_rows_with_a_question_are_read_cut_to_the_longest_of_them() -> None:
    state = begin(Confidence(), PROMPTED)
    ask = torch.zeros_like(state.masked)
    assert compose(state, Query(ask), None) is None
    ask[3, 2], ask[4, 1] = True, True
    reading = compose(state, Query(ask), None)
    assert reading is not None and reading.rows is not None and reading.index is None
    assert reading.rows.tolist() == [3, 4] and reading.tokens.shape == reading.ask.shape == (2, 8)
    assert torch.equal(reading.tokens, state.tokens[3:, :8]) and isinstance(reading.attention, Padded)
    ask[3] = False
    alone = compose(state, Query(ask), None)
    assert alone is not None and alone.tokens.shape == (1, 8) and alone.attention is FULL
    every = compose(state, Query(state.masked), None)
    assert every is not None and every.rows is None and every.tokens.shape == (5, 13)


def test_of_a_partial_reading_each_row_has_its_own_positions() -> None:
    state = begin(Confidence(), [[1, None, 2, None], [None, 3]])
    ask = torch.tensor([[False, False, False, True], [True, False, False, False]])
    read = ask | torch.tensor([[True, False, True, False], [False] * 4])
    other = state.tokens + 100
    reading = compose(state, Query(ask, read=read, tokens=other), None)
    assert reading is not None and reading.index is not None
    assert reading.index.tolist() == [[0, 2, 3], [0, -1, -1]]
    assert reading.ask.tolist() == [[False, False, True], [True, False, False]]
    assert reading.tokens[0].tolist() == [101, 102, 100 + MASK] and reading.tokens[1, 0] == 100 + MASK


def test_answers_are_row_by_row_from_left_to_right() -> None:
    state, model = begin(Confidence(), PROMPTED), network()
    ask = state.masked & (torch.rand(state.masked.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    ask[1] = False
    with torch.no_grad():
        found = predict(model, MASKED, state, Query(ask))
        assert found is not None and found.shape == (int(ask.sum()), V)
        for row in (0, 2, 3, 4):
            own = ask[row : row + 1, : len(PROMPTED[row])]
            alone = model(state.tokens[row : row + 1, : len(PROMPTED[row])], ask=own)
            torch.testing.assert_close(found[ask.nonzero()[:, 0] == row], alone, rtol=1e-4, atol=1e-5)
    assert state.calls.tolist() == [1, 0, 1, 1, 1]


def test_what_is_final_counts_as_cached_in_rows_that_were_asked() -> None:
    state, model = begin(LeftToRight(), [[1, None, None], [2, 3, None], [4]]), network()
    cache, query = make_cache(model, state), LeftToRight().query(state, CAUSAL)
    with torch.no_grad():
        predict(model, CAUSAL, state, query, None)
        assert not bool(state.cached.any())
        predict(model, CAUSAL, state, query, cache)
    assert state.cached.tolist() == [[True, True, False], [True] * 3, [False] * 3]


class Times:
    """A network that notes the times it is told."""

    def __init__(self) -> None:
        self.times: list[list[float]] = []

    def __call__(self, tokens: Tensor, *, ask: Tensor | None = None, time: Tensor, **reading: Any) -> Tensor:
        assert ask is not None and time.dtype == torch.float32
        self.times.append(time.tolist())
        return torch.zeros(int(ask.sum()), V)


def test_the_network_is_told_the_share_that_is_masked() -> None:
    network_, rows = Times(), [[1, None, None, None, None], [None, None, 5]]
    fill(FirstHitting(), network_, rows)
    expected = [[1.0, 1.0], [0.75, 0.5], [0.5], [0.25]]
    assert [pytest.approx(times) for times in expected] == network_.times


def test_a_query_may_say_the_time_itself() -> None:
    network_, family = Times(), Uniform().over(Vocabulary(size=V))
    fill(Ancestral(), network_, [[None] * 3, [1, None]], family=family, steps=4)
    assert network_.times == [[t, t] for t in (1.0, 0.75, 0.5, 0.25)]
    state = begin(Confidence(), PROMPTED)
    times = torch.arange(5, dtype=torch.float64)
    assert noise_level(MASKED, state, Query(state.masked, time=times), torch.tensor([3, 1])).tolist() == [3.0, 1.0]


def test_the_mask_is_impossible_where_the_head_has_a_row_for_it() -> None:
    assert without_mask(torch.zeros(2, V), MASKED).tolist() == [[0.0] * V] * 2
    inside = Masked().over(Vocabulary(size=4, mask=1))
    assert without_mask(torch.zeros(1, 4), inside).tolist() == [[0.0, -torch.inf, 0.0, 0.0]]


def test_random_and_left_ask_only_what_they_write() -> None:
    model = network()
    for rule in ("left", "random"):
        counted = Counting(model)
        steps = fill(Confidence(rule=rule), counted, [[1, *[None] * 6]], steps=3)
        assert counted.asked == [int(step.changed.sum()) for step in steps]


def test_rows_that_are_done_are_not_read() -> None:
    counted = Counting(network())
    steps = fill(FirstHitting(), counted, [[1, None], [None] * 3, [None] * 6])
    assert counted.sizes == [3, 2, 2, 1, 1, 1]
    assert steps[-1].calls.tolist() == [1, 3, 6]


def test_a_guided_row_takes_two_passes_beside_one_that_takes_one() -> None:
    params = [how(Confidence(), guidance=w) for w in (0.0, 0.7)]
    counted = Counting(network())
    *_, last = stream(counted, MASKED, start(MASKED, Canvas.of([[1, None, None]] * 2), params))
    assert last.calls.tolist() == [2, 4] and counted.sizes == [3, 3]
