"""Left to right: each row writes at its own place, and reads no token twice."""

import pytest
import torch
from tables import Counting, rng
from writing import CAUSAL, END, PROMPTED, Reading, Row, Script, V, begin, fill, network

from remask.errors import RemaskError
from remask.model.attention import Causal
from remask.model.cache import KeyValueCache
from remask.sampling import step, stream
from remask.sampling.left_to_right import LeftToRight
from remask.sampling.loop import make_cache


def test_each_token_is_read_once_and_the_cache_changes_nothing() -> None:
    reading = Reading(network())
    cached = fill(LeftToRight(), reading, PROMPTED)
    plain = fill(LeftToRight(), Counting(network()), PROMPTED)  # a denoiser without an architecture has no cache
    assert torch.equal(cached[-1].tokens, plain[-1].tokens)
    torch.testing.assert_close(cached[-1].log_prob, plain[-1].log_prob, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(cached[-1].confidence, plain[-1].confidence, rtol=1e-5, atol=1e-5)
    last_open = [max(i for i, token in enumerate(row) if token is None) for row in PROMPTED]
    assert sum(reading.read) == sum(i + 1 for i in last_open), "what stands behind the last open position is not read"


def test_a_row_does_not_wait_for_another() -> None:
    """One call writes in every row that is not complete, wherever it is."""
    reading = Reading(network())
    steps = fill(LeftToRight(), reading, PROMPTED)
    opened = [sum(token is None for token in row) for row in PROMPTED]
    assert reading.calls == len(steps) == max(opened)
    assert reading.sizes == [sum(n > i for n in opened) for i in range(max(opened))]
    assert steps[-1].calls.tolist() == opened
    for row, n in enumerate(opened):
        places = [int(s.changed[row].nonzero()) for s in steps[:n]]
        assert places == [i for i, token in enumerate(PROMPTED[row]) if token is None]


def test_given_text_behind_is_kept_and_not_looked_at() -> None:
    rows: list[Row] = [[1, None, None, 3, 4], [1, None, None, 6, 6]]
    last = fill(LeftToRight(), network(), rows, seeds=[5, 5])[-1]
    assert torch.equal(last.tokens[0, :3], last.tokens[1, :3])
    assert last.tokens[:, 3:].tolist() == [[3, 4], [6, 6]]


def test_a_row_that_leaves_may_have_the_longest_canvas() -> None:
    """The cache keeps room for a canvas that no remaining row has."""
    rows: list[Row] = [[*[1] * 14, None], [1, *[None] * 6]]
    model = network()
    cached, plain = fill(LeftToRight(), model, rows)[-1], fill(LeftToRight(), Counting(model), rows)[-1]
    assert torch.equal(cached.tokens, plain.tokens)
    torch.testing.assert_close(cached.log_prob, plain.log_prob, rtol=1e-5, atol=1e-5)


def test_an_end_leaves_the_batch_while_others_go_on() -> None:
    script = Script([1, END, 2, 3, 4, 5])
    counted = Counting(script)
    last = fill(LeftToRight(), counted, [[None] * 6, [1, 7, *[None] * 4]], stop=True)[-1]
    assert last.tokens.tolist() == [[1, *[END] * 5], [1, 7, 2, 3, 4, 5]]
    assert last.calls.tolist() == [2, 4] and counted.sizes == [2, 2, 1, 1]


def test_it_takes_neither_steps_nor_blocks() -> None:
    with pytest.raises(RemaskError, match="steps"):
        begin(LeftToRight(), [[None] * 3], steps=2)
    with pytest.raises(RemaskError, match="leave block out"):
        begin(LeftToRight(), [[None] * 3], block=2)


def test_a_cache_is_made_where_all_can_use_one() -> None:
    model = network()
    state = begin(LeftToRight(), PROMPTED)
    cache = make_cache(model, state)
    assert isinstance(cache, KeyValueCache) and cache.count == 5 and cache.length == 13 and cache.branches == 1
    assert make_cache(Counting(model), state) is None
    before = state.cached.clone()
    step(model, CAUSAL, state, cache)
    assert not bool(before.any()) and int(state.cached.sum()) == sum(row.index(None) + 1 for row in PROMPTED)
    *_, last = stream(model, CAUSAL, state, cache)  # the rest, with the same cache
    assert torch.equal(last.tokens, fill(LeftToRight(), model, PROMPTED)[-1].tokens)


def test_greedy_text_is_that_of_reading_the_whole_row_again() -> None:
    model, row = network(), torch.randint(V, (4,), generator=rng(1)).tolist()
    text = fill(LeftToRight(), model, [[*row, *[None] * 8]], temperature=0)[-1].tokens[0].tolist()
    for i in range(4, 12):
        with torch.no_grad():
            logits = model(torch.tensor([[END, *text[:i]]]), attention=Causal())[0, -1]
        assert int(logits.argmax()) == text[i]
