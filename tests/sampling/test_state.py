"""The state of rows between two steps: rows taken out and joined, draws, writing, and the end of a text."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import UNHURRIED, Counting, rng
from torch import Tensor
from writing import END, MASK, MASKED, PROMPTED, Row, Script, V, begin, fill, how, network

from remask.sampling import Canvas, Sampler, SamplingParams, State, drawing, start, step
from remask.sampling.confidence import Confidence
from remask.sampling.first_hitting import FirstHitting
from remask.sampling.left_to_right import LeftToRight
from remask.uniforms import uniforms


def test_a_canvas_from_rows() -> None:
    canvas = Canvas.of([[1, None, 2], [None], []])
    assert canvas.tokens.tolist() == [[1, 0, 2], [0, 0, 0], [0, 0, 0]]
    assert canvas.open.tolist() == [[False, True, False], [True, False, False], [False] * 3]
    assert canvas.valid.tolist() == [[True] * 3, [True, False, False], [False] * 3]


def test_a_blank_state() -> None:
    state = begin(Confidence(), PROMPTED, block=3)
    canvas = Canvas.of(PROMPTED)
    assert torch.equal(state.masked, canvas.open) and bool((state.tokens[canvas.open] == MASK).all())
    assert torch.equal(state.confidence == 1, canvas.valid & ~canvas.open)
    assert state.blocks[4].tolist() == [-1, 0, 0, -1, 0, -1, -1, 1, -1, -1, -1, -1, -1]
    assert state.block_size.tolist() == [3, 3, 3, 3, 3]
    assert not bool(state.finished.any() or state.log_prob.any() or state.calls.any() or state.cached.any())
    assert begin(Confidence(), [[1, 2], [1, None]]).finished.tolist() == [True, False]


def same(one: State, two: State) -> None:
    """Both hold the same."""
    assert one.params == two.params and one.extras.keys() == two.extras.keys()
    for field in fields(State):
        mine, theirs = getattr(one, field.name), getattr(two, field.name)
        if isinstance(mine, Tensor):
            assert mine.dtype == theirs.dtype
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    for name, mine in one.extras.items():
        assert torch.equal(mine, two.extras[name])


def under_way() -> State:
    """Rows after two steps, with something of a sampler's own."""
    rows = [how(Confidence(), temperature=1 + i / 4) for i in range(4)] + [how(FirstHitting(), steps=3)]
    state, model = start(MASKED, Canvas.of(PROMPTED), rows), network()
    for _ in range(2):
        step(model, MASKED, state)
    state.extras = {"order": torch.rand(state.tokens.shape, generator=rng(0)), "number": torch.arange(5)}
    return state


@pytest.fixture(scope="module")
def state() -> State:
    """For tests that do not change it."""
    return under_way()


@settings(UNHURRIED, max_examples=40)
@given(order=st.permutations(range(5)), cut=st.integers(1, 4))
def test_rows_taken_out_and_joined_are_those_that_were(state: State, order: list[int], cut: int) -> None:
    one, two = torch.tensor(order[:cut]), torch.tensor(order[cut:])
    joined = state.rows(one).join(state.rows(two))
    same(joined, state.rows(torch.tensor(order)))
    back = torch.tensor(order).argsort()
    same(joined.rows(back), state)


def test_rows_are_a_copy_and_put_writes_them_back() -> None:
    state, untouched, index = under_way(), under_way(), torch.tensor([3, 1])
    part = state.rows(index)
    step(network(), MASKED, part)
    part.extras["number"] = part.extras["number"] + 10
    same(state, untouched)
    state.put(index, part)
    assert torch.equal(state.tokens[index], part.tokens) and torch.equal(state.draws[index], part.draws)
    assert state.extras["number"].tolist() == [0, 11, 2, 13, 4]
    rest = torch.tensor([0, 2, 4])
    same(state.rows(rest), untouched.rows(rest))


def test_rows_are_put_back_into_a_state_that_has_made_steps() -> None:
    """Outside the loop too, where torch forbids to change the tensors of a step."""
    state, model = begin(Confidence(), PROMPTED), network()
    step(model, MASKED, state)
    part = state.rows(torch.tensor([4]))
    step(model, MASKED, part)
    state.put(torch.tensor([4]), part)
    same(state.rows(torch.tensor([4])), part)


def test_the_longer_canvas_counts_and_the_rest_is_padding() -> None:
    short, long = begin(Confidence(), [[None, 1]]), begin(Confidence(), [[None] * 4])
    short.extras = {"mine": torch.ones(1, 2), "number": torch.tensor([7])}
    long.extras = {"theirs": torch.ones(1, 4, dtype=torch.int64)}
    for one, two, row in ((short, long, 0), (long, short, 1)):
        joined = one.join(two)
        assert joined.tokens.shape == (2, 4)
        assert joined.valid[row].tolist() == [True, True, False, False]
        assert joined.blocks[row].tolist() == [0, -1, -1, -1]
        assert not bool(joined.masked[row, 1:].any() or joined.open[row, 2:].any())
        assert joined.extras["mine"][row].tolist() == [1, 1, 0, 0]
        assert joined.extras["mine"][1 - row].tolist() == [0] * 4
        assert joined.extras["theirs"][1 - row].tolist() == [1] * 4
        assert joined.extras["number"][row] == 7


def test_forced_rows_join_forced_rows_only() -> None:
    canvas = Canvas.of([[None] * 3])
    forced = start(MASKED, canvas, how(Confidence()), forced=torch.tensor([[1, 2, 3]]))
    joined = forced.join(forced)
    assert joined.forced is not None and joined.forced.tolist() == [[1, 2, 3]] * 2
    with pytest.raises(ValueError, match="forced"):
        forced.join(begin(Confidence(), [[None] * 3]))


# Drawing


def test_an_option_is_a_number_where_all_rows_have_it_and_a_tensor_where_not() -> None:
    state = begin(Confidence(), [[None]] * 2, temperature=0.7)
    assert state.option("temperature") == 0.7
    other = state.join(begin(Confidence(), [[None]], temperature=1, top_k=3))
    heat, cut = other.option("temperature"), other.option("top_k")
    assert isinstance(heat, Tensor) and isinstance(cut, Tensor)
    assert heat.tolist() == [0.7, 0.7, 1.0] and cut.tolist() == [0, 0, 3]  # 0.7 to the bit


def test_only_rows_that_need_uniforms_use_them_up() -> None:
    state = begin(Confidence(), [[None] * 3] * 3)
    where = torch.tensor([[True, False, False], [False] * 3, [True] * 3])
    first = state.uniforms(where)
    assert state.draws.tolist() == [1, 0, 1]
    second = state.uniforms(torch.ones(3, 3, dtype=torch.bool))
    assert state.draws.tolist() == [2, 1, 2]
    for draw, (found, rows) in enumerate([(first, [0, 2]), (second, [0, 2])]):
        assert torch.equal(found[rows], uniforms(state.seed[rows], torch.full((2,), draw), 3))
    assert torch.equal(second[1], first[1])  # the first draw of that row, nobody looked at it before


OPTIONS: list[dict[str, Any]] = [
    {},
    {"temperature": 0},
    {"temperature": 0.5, "top_k": 3},
    {"top_p": 0.6},
    {"temperature": 2.0, "top_p": 0.9, "top_k": 5},
]


def test_a_draw_is_that_of_each_rows_own_options() -> None:
    rows: list[Row] = [[None] * 4] * len(OPTIONS)
    canvas, params = Canvas.of(rows), [how(Confidence(), seed=i, **own) for i, own in enumerate(OPTIONS)]
    asked = torch.rand(canvas.open.shape, generator=rng(1)) < 0.6
    logits = 3 * torch.randn(int(asked.sum()), V, generator=rng(2))
    tokens, log_prob = start(MASKED, canvas, params).draw(asked, logits)
    assert tokens.dtype == torch.int64 and log_prob.dtype == torch.float64
    row = asked.nonzero()[:, 0]
    for i, own in enumerate(OPTIONS):
        state, mine = begin(params[i], [rows[i]], seeds=[i]), logits[row == i]
        alone, its = state.draw(asked[i : i + 1], mine)
        assert torch.equal(alone, tokens[row == i])
        torch.testing.assert_close(its, log_prob[row == i])
        every = drawing.log_probs(mine, **own)
        uniform = uniforms(torch.tensor([i]), torch.tensor([0]), 4)[asked[i : i + 1]]
        assert torch.equal(alone, drawing.invert(every, uniform))
        torch.testing.assert_close(its, every.gather(1, alone[:, None])[:, 0])
        torch.testing.assert_close(
            begin(params[i], [rows[i]]).log_prob_of(torch.zeros(len(mine), dtype=torch.int64), mine, alone),
            its,
            rtol=1e-5,
            atol=1e-5,
        )


def test_greedy_rows_take_the_most_probable_token() -> None:
    state = begin(Confidence(), [[None] * 40] * 2, temperature=5.0)
    logits = torch.randn(80, V, generator=rng(0))
    tokens, log_prob = state.draw(torch.ones(2, 40, dtype=torch.bool), logits, torch.tensor([False, True]))
    assert torch.equal(tokens[40:], logits[40:].argmax(-1)) and not bool(log_prob[40:].any())
    assert not torch.equal(tokens[:40], logits[:40].argmax(-1)) and bool((log_prob[:40] < 0).all())


def test_a_damaged_prediction_is_seen_in_the_log_probability() -> None:
    for temperature in (0, 1.0):
        state = begin(Confidence(), [[None] * 2], temperature=temperature)
        _, log_prob = state.draw(torch.ones(1, 2, dtype=torch.bool), torch.full((2, V), torch.nan))
        assert bool(log_prob.isnan().all())


# Writing


def test_what_is_written_can_be_hidden_again() -> None:
    state = begin(Confidence(), [[1, None, None], [None] * 3])
    chosen = torch.tensor([[False, True, False], [True, False, True]])
    state.write(chosen, torch.tensor([5, 6, 7]), torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64).log())
    assert state.tokens.tolist() == [[1, 5, MASK], [6, MASK, 7]]
    assert state.masked.tolist() == [[False, False, True], [False, True, False]]
    torch.testing.assert_close(state.confidence, torch.tensor([[1, 0.5, 0], [0.25, 0, 0.125]]))
    torch.testing.assert_close(state.log_prob.exp(), torch.tensor([0.5, 0.03125], dtype=torch.float64))
    state.hide(torch.tensor([[False] * 3, [True, False, False]]), MASK)
    assert state.tokens[1].tolist() == [MASK, MASK, 7] and state.masked[1].tolist() == [True, True, False]
    assert float(state.confidence[1, 0]) == 0 and float(state.log_prob[1].exp()) == pytest.approx(0.03125)


# The end of a text

STOPPING: list[SamplingParams] = [
    how(Confidence(rule="left"), stop=True),
    how(LeftToRight(), stop=True),
    how(Confidence(), block=1, stop=True),
]


@pytest.mark.parametrize("params", STOPPING, ids=["left", "left to right", "blocks of one"])
def test_the_end_of_a_text_closes_its_row(params: SamplingParams) -> None:
    """Nothing is asked behind the end, the rest of the row is the end, and the other rows go on."""
    script = [1, 2, 3, END, 5, 6, 7]
    counted = Counting(Script(script))
    last = fill(params, counted, [[None] * 7, [1, 2, 3, 4, *[None] * 3]])[-1]
    assert last.tokens.tolist() == [[1, 2, 3, END, END, END, END], [1, 2, 3, 4, 5, 6, 7]]
    assert not bool(last.masked.any())
    assert last.calls.tolist() == [4, 3] and sum(counted.sizes) == 7
    assert float(last.log_prob[0]) == pytest.approx(0, abs=1e-6)  # what is behind the end is no draw
    without = fill(params, Script(script), [[None] * 7], stop=False)[-1]
    assert without.tokens[0].tolist() == script


def test_rows_stop_each_for_itself() -> None:
    params = [how(Confidence(rule="left"), stop=stop) for stop in (True, False)]
    state, script = start(MASKED, Canvas.of([[None] * 4] * 2), params), Script([1, END, 3, 4])
    for _ in range(4):
        step(script, MASKED, state)
    assert state.tokens.tolist() == [[1, END, END, END], [1, END, 3, 4]] and state.calls.tolist() == [2, 4]


def test_an_end_counts_once_everything_before_it_is_written() -> None:
    """An end that is written early does not cut off what is still masked in front of it."""

    class Backwards(Script):
        def __call__(self, tokens: Tensor, *, ask: Tensor | None = None, **reading: Any) -> Tensor:
            logits = super().__call__(tokens) * (0.001 + 0.001 * torch.arange(5)[None, :, None])
            return logits if ask is None else logits[ask]

    steps = fill(Confidence(), Backwards([1, 2, END, 4, 5]), [[None] * 5], temperature=0, stop=True)
    assert [int(step.changed[0].nonzero()) for step in steps] == [4, 3, 2, 1, 0]
    assert steps[-1].tokens[0].tolist() == [1, 2, END, 4, 5]


def test_an_end_before_given_text_does_not_close_the_row() -> None:
    """Infilling: given text follows, so all of it is written."""
    left: Sampler = Confidence(rule="left")
    last = fill(left, Script([1, END, 3, None, 5]), [[None, None, None, 7, None]], stop=True)[-1]
    assert last.tokens[0].tolist() == [1, END, 3, 7, 5]
    last = fill(left, Script([None, None, 3, 4]), [[1, END, None, None]], stop=True)[-1]
    assert last.tokens[0].tolist() == [1, END, 3, 4], "a given end is no end of what is written"


@pytest.mark.parametrize("row", [[None] * 6, [1, *[None] * 5]], ids=["empty", "prompted"])
def test_a_canvas_changes_only_where_masks_go(row: Row) -> None:
    """`changed` is what was drawn; an end also closes what is behind it, and that is seen from `masked`."""
    canvas = Canvas.of([row])
    masked, tokens = canvas.open, canvas.tokens.masked_fill(canvas.open, MASK)
    for step_ in fill(Confidence(rule="left"), Script([1, 2, END, 4, 5, 6]), [row], stop=True):
        assert torch.equal(step_.tokens != tokens, masked & ~step_.masked)
        assert not bool((step_.changed & ~masked).any())
        masked, tokens = step_.masked, step_.tokens
    assert tokens[0].tolist() == [1, 2, END, END, END, END]
