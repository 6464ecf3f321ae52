"""What samplers promise beside their law: schedules, network calls, independence of the batch, given text, guidance."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import UNHURRIED, CausalTable, Counting, Table, random_joint, rng, tiny
from torch import Tensor

from remask.errors import RemaskError
from remask.families import Denoiser, Family
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.model.attention import FULL, Attention, Padded
from remask.model.transformer import Transformer
from remask.options import parse_options
from remask.sampling import Canvas, Dice, Pen, Sampler, Step, samplers
from remask.sampling.ancestral import Ancestral
from remask.sampling.autoregressive import LeftToRight
from remask.sampling.base import largest
from remask.sampling.blockwise import Blockwise
from remask.sampling.confidence import Confidence, Rule, Schedule
from remask.sampling.first_hitting import FirstHitting
from remask.sampling.guidance import Guided, guided
from remask.sampling.llada import LLaDA
from remask.sampling.smdm import SMDM, probability
from remask.seeds import mix_seeds
from remask.vocabulary import Vocabulary

Row = Sequence[int | None]

V = 9
END = 8
MASK = 9
MASKED = Masked().over(Vocabulary(size=V + 1, mask=MASK, end=END))
CAUSAL = Autoregressive().over(Vocabulary(size=V, end=END))

BIDIRECTIONAL: dict[str, Sampler] = {
    "ancestral": Ancestral(steps=7),
    "ancestral, fine": Ancestral(steps=64),
    "first hitting": FirstHitting(),
    "first hitting, three at once": FirstHitting(at_once=3),
    **{
        f"{rule}, {schedule}, {steps} steps": Confidence(rule=rule, schedule=schedule, steps=steps)
        for rule in get_args(Rule)
        for schedule in get_args(Schedule)
        for steps in (None, 4, 12)
    },
    "llada": LLaDA(),
    "llada, three blocks": LLaDA(steps=6, block=3),
    "llada, late end": LLaDA(steps=6, block=4, late_end=True),
    "llada, random": LLaDA(steps=5, remasking="random"),
    "smdm": SMDM(steps=6),
    "smdm, origin": SMDM(steps=6, algorithm="origin"),
    "blockwise": Blockwise(size=3),
    "blockwise, two steps": Blockwise(inner=Confidence(steps=2, rule="entropy"), size=3),
    "blockwise linear": Blockwise(inner=Confidence(steps=4, schedule="linear"), size=3),
    "blockwise ancestral": Blockwise(inner=Ancestral(steps=5), size=3),
    "blockwise first hitting": Blockwise(inner=FirstHitting(), size=2),
}
EVERY: dict[str, Sampler] = {**BIDIRECTIONAL, "left to right": LeftToRight()}


@pytest.fixture(scope="module")
def model() -> Transformer:
    """One network for both families: whether it is causal is said in the call."""
    return tiny(V + 1, V, seed=2, sharpness=2.0)


def family_of(sampler: Sampler) -> Family:
    """The family that a sampler fits."""
    return CAUSAL if isinstance(sampler, LeftToRight) else MASKED


def fill(
    sampler: Sampler,
    denoiser: Denoiser,
    rows: Sequence[Row],
    *,
    seed: int = 0,
    end: int | None = None,
    family: Family | None = None,
) -> list[Step]:
    """The steps of filling some rows."""
    canvas = Canvas.of(rows, end)
    return list(sampler.stream(denoiser, family or family_of(sampler), canvas, Dice(seed, len(rows))))


PROMPTED: list[Row] = [
    [1, 2, *[None] * 9],
    [5, *[None] * 5],
    [3, 1, 4, 1, 5, *[None] * 8],
    [None, 4, None, None, None, None, None],
    [2, None, None, 6, None, 7, 7, None],
]


def test_every_sampler_is_tested_here() -> None:
    """But for those that write a position more than once, in test_psi.py, and of other families, in tests/families."""
    ours = {kind for kind in samplers().values() if kind().fits(MASKED) or kind().fits(CAUSAL)}
    ours = {kind for kind in ours if not kind().rewrites}
    assert {type(sampler) for sampler in EVERY.values()} == ours


# Schedules


def written(sampler: Sampler, open_: int) -> list[int]:
    """How many tokens each step writes on an empty row."""
    denoiser = tiny(V + 1, V, layers=1, context=512)
    return [int(step.changed.sum()) for step in fill(sampler, denoiser, [[None] * open_])]


@pytest.mark.parametrize(
    ("masks", "steps", "counts"),
    [
        (10, 4, [3, 3, 2, 2]),
        (8, 8, [1] * 8),
        (8, 1, [8]),
        (7, 3, [3, 2, 2]),
        (3, 5, [1, 1, 1]),
        (32, 5, [7, 7, 6, 6, 6]),
    ],
)
@pytest.mark.parametrize("rule", get_args(Rule))
def test_even_schedule_is_that_of_llada(masks: int, steps: int, counts: list[int], rule: Rule) -> None:
    assert written(Confidence(steps=steps, rule=rule), masks) == counts


@pytest.mark.parametrize(
    ("masks", "steps", "counts"),
    [
        (32, 32, [0, *[1] * 30, 2]),
        (8, 8, [0, 1, 1, 1, 1, 1, 1, 2]),
        (10, 4, [2, 2, 2, 4]),
        (40, 32, [*[1] * 25, *[2] * 6, 3]),
        (64, 16, [3, *[4] * 14, 5]),
        (100, 128, None),
        (200, 256, None),
    ],
)
def test_linear_schedule_is_that_of_smdm(masks: int, steps: int, counts: list[int] | None) -> None:
    sampler = Confidence(steps=steps, schedule="linear")
    left, found = masks, []
    for i in range(steps):
        n = int(sampler.count(i, steps, torch.tensor([masks]), torch.tensor([left])))
        found.append(n)
        left -= n
    assert left == 0
    if counts is not None:
        assert found == counts
    elif masks == 100:
        assert found[:30] == [0] * 29 + [1]
    else:
        assert (found[:58], found[-1]) == ([0] * 57 + [1], 2)
    assert written(Confidence(steps=steps, schedule="linear", rule="left"), masks) == [n for n in found if n]


@UNHURRIED
@given(masks=st.integers(0, 60), steps=st.integers(1, 80), schedule=st.sampled_from(get_args(Schedule)))
def test_a_schedule_writes_everything_and_never_too_much(masks: int, steps: int, schedule: Schedule) -> None:
    sampler = Confidence(steps=steps, schedule=schedule)
    start = torch.tensor([masks, 60 - masks])
    left = start.clone()
    for i in range(steps):
        count = sampler.count(i, steps, start, left)
        assert bool((count >= 0).all() and (count <= left).all())
        left = left - count
    assert not bool(left.any())


def test_first_hitting_and_blocks_write_what_they_say() -> None:
    assert written(FirstHitting(), 5) == [1] * 5
    assert written(FirstHitting(at_once=3), 8) == [3, 3, 2]
    assert written(Blockwise(size=4), 6) == [1] * 6
    assert written(Blockwise(inner=Confidence(steps=2), size=5), 13) == [3, 2, 3, 2, 2, 1]


def test_blocks_are_filled_from_left_to_right(model: Transformer) -> None:
    """Blocks count open positions, so given text does not fill them up."""
    row: Row = [None, 1, None, 2, None, None, 3, None]
    steps = fill(Blockwise(size=2), model, [row])
    order = [int(step.changed[0].nonzero()) for step in steps]
    assert [set(order[:2]), set(order[2:4]), set(order[4:])] == [{0, 2}, {4, 5}, {7}]


def test_blocks_in_blocks_are_the_smaller_blocks_within_the_larger(model: Transformer) -> None:
    nested = fill(Blockwise(inner=Blockwise(size=2), size=4), model, [[None] * 8])
    order = [int(step.changed[0].nonzero()) for step in nested]
    assert [set(order[i : i + 2]) for i in (0, 2, 4, 6)] == [{0, 1}, {2, 3}, {4, 5}, {6, 7}]
    assert not bool(nested[-1].masked.any())


def test_one_token_at_a_time_is_the_most_certain_one() -> None:
    table = Table.random(4, 5, seed=3)
    family = Masked().over(table.vocabulary)
    canvas = Canvas.of([[None] * 5])
    for rule in ("probability", "margin", "entropy"):
        before = torch.full((1, 5), 4)
        for step in Confidence(rule=rule).stream(table, family, canvas, Dice(1, 1)):
            p = table(before)[0].softmax(-1).sort(-1, descending=True).values
            sure = {"probability": p[:, 0], "margin": p[:, 0] - p[:, 1], "entropy": (p * p.log()).sum(-1)}[rule]
            sure = sure.masked_fill(before[0] != 4, -torch.inf)
            assert int(step.changed[0].nonzero()) == int(sure.argmax())
            before = step.tokens


@UNHURRIED
@given(
    scores=st.lists(st.sampled_from([0.0, 0.5, 0.5, 1.0, -1.0]), min_size=1, max_size=8),
    count=st.integers(0, 9),
    data=st.data(),
)
def test_largest_takes_the_best_of_those_allowed_and_ties_go_left(
    scores: list[float], count: int, data: st.DataObject
) -> None:
    among = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    chosen = largest(torch.tensor([scores]), torch.tensor([among]), torch.tensor([count]))[0].tolist()
    order = sorted((i for i in range(len(scores)) if among[i]), key=lambda i: (-scores[i], i))
    assert [i for i, c in enumerate(chosen) if c] == sorted(order[:count])


# Network calls


@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_a_call_for_every_step_and_none_for_nothing(name: str, model: Transformer) -> None:
    counted = Counting(model)
    steps = fill(BIDIRECTIONAL[name], counted, PROMPTED)
    assert counted.calls == len(steps) <= 30
    assert all(bool(step.changed.any()) for step in steps)
    assert all(asked > 0 for asked in counted.asked)
    assert int(steps[-1].evaluations.sum()) == sum(counted.sizes)
    changed = torch.stack([step.changed for step in steps]).long().sum(0)
    assert torch.equal(changed == 1, Canvas.of(PROMPTED).open)  # everything open is written once
    assert int(changed.max()) == 1


@pytest.mark.parametrize("name", EVERY)
def test_no_call_when_nothing_is_open(name: str, model: Transformer) -> None:
    counted = Counting(model)
    assert fill(EVERY[name], counted, [[1, 2, 3], [4, 5]]) == []
    assert counted.calls == 0


@pytest.mark.parametrize("rule", get_args(Rule))
@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_more_steps_than_masks_cost_no_more_calls(rule: Rule, schedule: Schedule, model: Transformer) -> None:
    counted = Counting(model)
    fill(Confidence(steps=50, rule=rule, schedule=schedule), counted, [[1, *[None] * 6]])
    assert counted.calls <= 6


def test_ancestral_skips_steps_that_change_nothing(model: Transformer) -> None:
    counted = Counting(model)
    steps = fill(Ancestral(steps=1000), counted, [[None] * 5])
    assert counted.calls == len(steps) <= 5
    assert counted.asked == [int(step.changed.sum()) for step in steps]


def test_random_and_left_ask_only_what_they_write(model: Transformer) -> None:
    for sampler in (FirstHitting(at_once=2), Confidence(rule="left", steps=3), Confidence(rule="random", steps=3)):
        counted = Counting(model)
        steps = fill(sampler, counted, [[1, *[None] * 6]])
        assert counted.asked == [int(step.changed.sum()) for step in steps]


def test_rows_that_are_done_are_not_read(model: Transformer) -> None:
    counted = Counting(model)
    steps = fill(FirstHitting(), counted, [[1, None], [None] * 3, [None] * 6])
    assert counted.sizes == [3, 2, 2, 1, 1, 1]
    assert steps[-1].evaluations.tolist() == [1, 3, 6]


def test_left_to_right_reads_each_token_once(model: Transformer) -> None:
    counted = Counting(model)
    cached = fill(LeftToRight(), model, PROMPTED)
    plain = fill(LeftToRight(), counted, PROMPTED)  # a denoiser without an architecture has no cache
    assert torch.equal(cached[-1].tokens, plain[-1].tokens)
    torch.testing.assert_close(cached[-1].log_prob, plain[-1].log_prob, rtol=1e-5, atol=1e-5)


# A row does not depend on its neighbours


def alone(sampler: Sampler, denoiser: Denoiser, rows: Sequence[Row], at: int, end: int | None) -> list[Any]:
    """Tokens, confidence and log-probability of one row of a batch."""
    last = fill(sampler, denoiser, rows, seed=5, end=end)[-1]
    return [x[at, : len(rows[at])] if x.ndim > 1 else x[at] for x in (last.tokens, last.confidence, last.log_prob)]


@pytest.mark.parametrize("end", [None, END])
@pytest.mark.parametrize("name", EVERY)
def test_a_row_is_the_same_alone_and_in_any_batch(name: str, end: int | None, model: Transformer) -> None:
    """The first row of a batch, which has the dice of a row alone, beside prompts of other lengths."""
    for row in PROMPTED:
        others = [other for other in PROMPTED if other is not row]
        one = alone(EVERY[name], model, [row], 0, end)
        for batch in ([row, others[0]], [row, *others], [row, [None] * 15]):
            for mine, theirs in zip(one, alone(EVERY[name], model, batch, 0, end), strict=True):
                torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_a_row_further_down_does_not_depend_on_the_rows_above(name: str, model: Transformer) -> None:
    row = PROMPTED[1]
    one = alone(EVERY[name], model, [PROMPTED[0], row], 1, None)
    for above in PROMPTED[2:]:
        for mine, theirs in zip(one, alone(EVERY[name], model, [above, row], 1, None), strict=True):
            torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_the_same_seed_repeats_and_another_does_not(name: str, model: Transformer) -> None:
    sampler = EVERY[name]
    first, again, other = (fill(sampler, model, PROMPTED, seed=seed) for seed in (3, 3, 4))
    assert len(first) == len(again)
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one.tokens, two.tokens) and torch.equal(one.changed, two.changed)
        assert torch.equal(one.log_prob, two.log_prob)
    assert not torch.equal(first[-1].tokens, other[-1].tokens)


def test_dice_of_rows_and_seeds_are_unrelated() -> None:
    valid, every = torch.ones(50, 40, dtype=torch.bool), torch.ones(50, dtype=torch.bool)
    draws = torch.cat([Dice(seed, 50).uniforms(valid, every) for seed in range(20)])  # (1000, 40)
    assert draws.dtype == torch.float64
    assert len(draws.unique()) == draws.numel()
    correlation = torch.corrcoef(draws) - torch.eye(1000)
    assert float(correlation.abs().mean()) < 0.14  # sqrt(2/pi/40) = .126 where nothing is related
    assert abs(float(draws.mean()) - 0.5) < 5 * math.sqrt(1 / 12 / draws.numel())
    assert len({mix_seeds(seed, row) for seed in range(50) for row in range(50)}) == 2500


def test_a_row_draws_for_its_valid_positions_only_and_when_it_needs_to() -> None:
    short, long = torch.tensor([[True, True, False, False]] * 2), torch.tensor([[True, True]] * 2)
    one, two = Dice(1, 2), Dice(1, 2)
    both, second = torch.tensor([True, True]), torch.tensor([False, True])
    for _ in range(3):
        assert torch.equal(one.uniforms(short, both)[:, :2], two.uniforms(long, both))
    assert not bool(one.uniforms(short, second)[0].any())
    two.uniforms(long, second)
    assert torch.equal(one.uniforms(short, both)[:, :2], two.uniforms(long, both))


# Given text, the mask, the end


@pytest.mark.parametrize("name", EVERY)
def test_given_tokens_never_change(name: str, model: Transformer) -> None:
    canvas = Canvas.of(PROMPTED)
    for step in fill(EVERY[name], model, PROMPTED, end=END):
        fixed = ~canvas.open & canvas.valid
        assert torch.equal(step.tokens[fixed], canvas.tokens[fixed])
        assert not bool((step.changed & ~canvas.open).any())
        assert not bool((step.masked & ~canvas.open).any())
        assert bool((step.confidence[fixed] == 1).all())


@pytest.mark.parametrize("pen", [Pen(), Pen(temperature=0), Pen(temperature=3.0, top_p=0.9, top_k=4)], ids=repr)
@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_the_mask_is_never_written(name: str, pen: Pen) -> None:
    """A network whose head has a row for the mask, as LLaDA's, and that would rather write nothing else."""
    model = tiny(6, 6, seed=1)
    family = Masked().over(Vocabulary(size=6, mask=2, end=5))

    def eager(tokens: Tensor, *, ask: Tensor | None = None, **reading: Any) -> Tensor:
        logits = model(tokens, ask=ask, **reading)
        logits[..., 2] += 20.0
        return logits

    sampler = EVERY[name]
    if isinstance(sampler, Blockwise):
        sampler = Blockwise(inner=type(sampler.inner)(**{**vars(sampler.inner), "pen": pen}), size=sampler.size)
    else:
        sampler = type(sampler)(**{**vars(sampler), "pen": pen})
    canvas = Canvas.of([[None] * 8, [1, *[None] * 5]])
    *_, last = sampler.stream(eager, family, canvas, Dice(0, 2))
    assert not bool((last.tokens == 2).any())
    assert bool(last.log_prob.isfinite().all())


class Script:
    """A denoiser that always writes a given row, or anything where the script has None."""

    def __init__(self, script: Row) -> None:
        self.script = script

    def __call__(self, tokens: Tensor, *, ask: Tensor | None = None, **reading: Any) -> Tensor:
        logits = torch.zeros(*tokens.shape, V)
        for i, token in enumerate(self.script[: tokens.shape[1]]):
            if token is not None:
                logits[:, i, token] = 1000.0
        return logits if ask is None else logits[ask]


@pytest.mark.parametrize("sampler", [Confidence(rule="left"), LeftToRight(), Blockwise(size=1)], ids=repr)
def test_the_end_of_a_text_closes_its_row(sampler: Sampler) -> None:
    """Nothing is asked behind the end, the rest of the row is the end, and the other rows go on."""
    counted = Counting(Script([1, 2, 3, END, 5, 6, 7]))
    steps = fill(sampler, counted, [[None] * 7, [1, 2, 3, 4, *[None] * 3]], end=END)
    last = steps[-1]
    assert last.tokens[0].tolist() == [1, 2, 3, END, END, END, END]
    assert last.tokens[1].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert not bool(last.masked.any())
    assert last.evaluations[0] == 4
    if not isinstance(sampler, LeftToRight):  # there both rows are read up to the column
        assert last.evaluations[1] == 3
        assert sum(counted.sizes) == 7
    assert float(last.log_prob[0]) == pytest.approx(0, abs=1e-6)  # what is behind the end is no draw
    without = fill(sampler, Script([1, 2, 3, END, 5, 6, 7]), [[None] * 7])[-1]
    assert without.tokens[0].tolist() == [1, 2, 3, END, 5, 6, 7]


def test_an_end_counts_once_everything_before_it_is_written() -> None:
    """An end that is written early does not cut off what is still masked in front of it."""
    table = Script([1, 2, END, 4, 5])

    class Backwards(Script):
        def __call__(self, tokens: Tensor, *, ask: Tensor | None = None, **reading: Any) -> Tensor:
            logits = table(tokens) * (0.001 + 0.001 * torch.arange(5)[None, :, None])
            return logits if ask is None else logits[ask]

    steps = fill(Confidence(pen=Pen(temperature=0)), Backwards([]), [[None] * 5], end=END)
    assert [int(step.changed[0].nonzero()) for step in steps] == [4, 3, 2, 1, 0]
    assert steps[-1].tokens[0].tolist() == [1, 2, END, 4, 5]


def test_an_end_before_given_text_does_not_close_the_row() -> None:
    """Infilling: given text follows, so all of it is written."""
    row: Row = [None, None, None, 7, None]
    last = fill(Confidence(rule="left"), Script([1, END, 3, None, 5]), [row], end=END)[-1]
    assert last.tokens[0].tolist() == [1, END, 3, 7, 5]
    given: Row = [1, END, None, None]  # a given end is no end of what is written
    last = fill(Confidence(rule="left"), Script([None, None, 3, 4]), [given], end=END)[-1]
    assert last.tokens[0].tolist() == [1, END, 3, 4]


@pytest.mark.parametrize("row", [[None] * 6, [1, *[None] * 5]], ids=["empty", "prompted"])
def test_a_canvas_changes_only_where_masks_go(row: Row) -> None:
    """`changed` is what was drawn; an end also closes what is behind it, and that is seen from `masked`."""
    canvas = Canvas.of([row])
    masked, tokens = canvas.open, canvas.tokens.masked_fill(canvas.open, MASK)
    for step in fill(Confidence(rule="left"), Script([1, 2, END, 4, 5, 6]), [row], end=END):
        assert torch.equal(step.tokens != tokens, masked & ~step.masked)
        assert not bool((step.changed & ~masked).any())
        masked, tokens = step.masked, step.tokens
    assert tokens[0].tolist() == [1, 2, END, END, END, END]


@pytest.mark.parametrize("name", EVERY)
def test_steps_keep_their_own_state(name: str, model: Transformer) -> None:
    """A step that was yielded is not altered by the next."""
    steps, seen = [], []
    for step in EVERY[name].stream(model, family_of(EVERY[name]), Canvas.of(PROMPTED), Dice(0, 5)):
        steps.append(step)
        seen.append({k: v.clone() for k, v in vars(step).items()})
    for step, was in zip(steps, seen, strict=True):
        assert all(torch.equal(getattr(step, k), v) for k, v in was.items())
    assert not bool(steps[-1].masked.any())
    for one, two in itertools.pairwise(steps):
        assert not bool((two.masked & ~one.masked).any())
        assert bool((two.log_prob <= one.log_prob + 1e-12).all())


# The pen

LOGITS = st.lists(st.floats(-8, 8, width=32, allow_subnormal=False), min_size=2, max_size=9)


@UNHURRIED
@given(logits=LOGITS, temperature=st.floats(0.05, 5), top_p=st.floats(0.01, 1), top_k=st.integers(0, 12))
def test_a_pen_keeps_a_distribution_over_the_most_probable(
    logits: list[float], temperature: float, top_p: float, top_k: int
) -> None:
    pen = Pen(temperature=temperature, top_p=top_p, top_k=top_k)
    raw = torch.tensor([logits])
    log_probs = pen.log_probs(raw)[0]
    p = log_probs.exp()
    assert log_probs.dtype == torch.float64
    assert float(p.sum()) == pytest.approx(1)
    assert raw[0][p.argmax()] == raw[0].max()
    kept, left = raw[0][p > 0].double(), raw[0][p == 0].double()
    if len(left) and float((raw[0].double() / temperature).log_softmax(-1).min()) > -700:
        assert float(kept.min()) >= float(left.max())
    ratio = (log_probs[p > 0] - log_probs[p > 0][0]) - (kept - kept[0]) / temperature
    assert float(ratio.abs().max()) < 1e-6  # what is kept keeps its odds


@UNHURRIED
@given(logits=LOGITS, top_p=st.floats(0.01, 1, exclude_max=True))
def test_top_p_keeps_the_fewest_that_reach_it(logits: list[float], top_p: float) -> None:
    p = torch.tensor([logits], dtype=torch.float64).softmax(-1)[0]
    kept = Pen(top_p=top_p).log_probs(torch.tensor([logits], dtype=torch.float64))[0] > -torch.inf
    assert float(p[kept].sum()) >= top_p - 1e-9
    assert float(p[kept].sum() - p[kept].min()) < top_p + 1e-9


@UNHURRIED
@given(logits=st.lists(st.integers(-20, 20), min_size=2, max_size=9, unique=True), top_k=st.integers(0, 12))
def test_top_k_keeps_k(logits: list[int], top_k: int) -> None:
    kept = Pen(top_k=top_k).log_probs(torch.tensor([logits]).float()) > -torch.inf
    assert int(kept.sum()) == (min(top_k, len(logits)) if top_k else len(logits))


@UNHURRIED
@given(logits=LOGITS)
def test_temperature_zero_writes_the_most_probable(logits: list[float]) -> None:
    pen = Pen(temperature=0)
    log_probs = pen.log_probs(torch.tensor([logits]))
    best = torch.tensor(logits).argmax()
    assert log_probs.exp()[0].tolist() == torch.nn.functional.one_hot(best, len(logits)).tolist()
    nowhere = (torch.zeros(1, dtype=torch.long),) * 2
    assert int(pen.write(log_probs, nowhere, torch.tensor([0.999], dtype=torch.float64))) == best


@UNHURRIED
@given(
    logits=LOGITS,
    dead=st.sets(st.integers(0, 8), max_size=8),
    uniform=st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 1 - 2**-53])),
)
def test_a_pen_inverts_the_cumulative_distribution(logits: list[float], dead: set[int], uniform: float) -> None:
    """And never writes what has no probability, at either end of the unit interval."""
    row = torch.tensor([logits])
    dead = {i for i in dead if i < len(logits)}
    if len(dead) == len(logits):
        dead.pop()
    row[0, list(dead)] = -torch.inf
    pen = Pen()
    log_probs = pen.log_probs(row)
    nowhere = (torch.zeros(1, dtype=torch.long),) * 2
    token = int(pen.write(log_probs, nowhere, torch.tensor([uniform], dtype=torch.float64)))
    assert token not in dead
    edges = [0.0, *log_probs[0].exp().cumsum(0).tolist()]
    assert edges[token] - 1e-9 <= uniform <= edges[token + 1] + 1e-9


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -1}, "top_k"),
    ],
)
def test_a_pen_says_what_is_wrong(options: dict[str, Any], name: str) -> None:
    with pytest.raises(RemaskError, match=name):
        Pen(**options)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (FirstHitting, {"at_once": 0}),
        (Ancestral, {"steps": 0}),
        (Confidence, {"steps": 0}),
        (Confidence, {"steps": -3}),
        (Blockwise, {"size": 0}),
    ],
)
def test_a_sampler_that_could_not_finish_is_refused(kind: type[Sampler], options: dict[str, int]) -> None:
    with pytest.raises(RemaskError):
        kind(**options)


# Guidance


def test_guidance_without_weight_is_no_guidance(model: Transformer) -> None:
    assert guided(model, MASKED, 0, torch.ones(1, 4, dtype=torch.bool)) is model
    assert guided(model, CAUSAL, 0.0, torch.ones(1, 4, dtype=torch.bool)) is model
    with pytest.raises(RemaskError, match="Autoregressive"):
        guided(model, CAUSAL, 0.5, torch.ones(1, 4, dtype=torch.bool))


def test_guided_logits_are_those_of_smdm() -> None:
    """l_c = (2, 0, -1), l_u = (1, .5, -1), w = .6 -> (2.6, -.3, -1)."""

    def told(tokens: Tensor, *, ask: Tensor | None = None, **reading: Any) -> Tensor:
        know, not_know = torch.tensor([2.0, 0.0, -1.0]), torch.tensor([1.0, 0.5, -1.0])
        assert ask is not None
        return torch.where((tokens[:, :1] == 3)[:, None], not_know, know).expand(*tokens.shape, 3)[ask]

    family = Masked().over(Vocabulary(size=4, mask=3))
    denoiser = guided(told, family, 0.6, torch.tensor([[True, False]]))
    logits = denoiser(torch.tensor([[0, 3]]), ask=torch.tensor([[False, True]]))
    torch.testing.assert_close(logits, torch.tensor([[2.6, -0.3, -1.0]]))
    torch.testing.assert_close(logits.softmax(-1), torch.tensor([[0.923918, 0.050837, 0.025245]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "attention", [FULL, Padded(torch.arange(7) < torch.tensor([[7], [5], [7]]))], ids=["full", "padded"]
)
def test_guidance_masks_the_prompt_of_each_row(attention: Attention, model: Transformer) -> None:
    tokens = torch.randint(V, (3, 7), generator=rng(0))
    tokens[:, 4] = MASK
    prompt = torch.arange(7) < torch.tensor([[2], [1], [4]])
    ask = torch.zeros_like(prompt)
    ask[:, 4] = True
    denoiser = guided(model, MASKED, 1.5, prompt)
    with torch.no_grad():
        found = denoiser(tokens, ask=ask, attention=attention)
        know = model(tokens, ask=ask, attention=attention)
        not_know = model(tokens.masked_fill(prompt, MASK), ask=ask, attention=attention)
    torch.testing.assert_close(found, not_know + 2.5 * (know - not_know), rtol=1e-4, atol=1e-4)


def test_guided_rows_are_narrowed_with_the_batch(model: Transformer) -> None:
    prompt = torch.arange(7) < torch.tensor([[2], [1], [4]])
    denoiser = guided(model, MASKED, 0.7, prompt)
    assert isinstance(denoiser, Guided)
    assert torch.equal(denoiser.rows(torch.tensor([2, 0])).prompt, prompt[[2, 0]])
    tokens = torch.full((3, 7), MASK)
    with torch.no_grad():
        every = denoiser(tokens)
        some = denoiser.rows(torch.tensor([2, 0]))(tokens[:2])
    torch.testing.assert_close(some, every[[2, 0]], rtol=1e-5, atol=1e-5)


def sample_guided(sampler: Sampler, model: Transformer, rows: Sequence[Row]) -> Step:
    canvas = Canvas.of(rows)
    denoiser = guided(model, MASKED, 0.8, ~canvas.open & canvas.valid)
    *_, last = sampler.stream(denoiser, MASKED, canvas, Dice(0, len(rows)))
    return last


@pytest.mark.parametrize("sampler", [FirstHitting(), Confidence(steps=4), Blockwise(size=3)], ids=repr)
def test_guided_rows_are_the_same_alone_and_in_a_batch(sampler: Sampler, model: Transformer) -> None:
    for row in PROMPTED:
        others = [other for other in PROMPTED if other is not row]
        one, many = sample_guided(sampler, model, [row]), sample_guided(sampler, model, [row, *others])
        assert torch.equal(many.tokens[0, : len(row)], one.tokens[0])
        assert many.evaluations[0] == one.evaluations[0]
    assert int(one.evaluations[0]) % 2 == 0  # two passes a call


# Who may sample what


def test_samplers_refuse_families_that_they_do_not_fit(model: Transformer) -> None:
    canvas = Canvas.of([[None] * 3])
    with pytest.raises(RemaskError, match="Masked"):
        next(LeftToRight().stream(model, MASKED, canvas, Dice(0, 1)))
    table = CausalTable(random_joint(3, 3, seed=0), end=3)
    with pytest.raises(RemaskError, match="Autoregressive"):
        next(Ancestral().stream(table, Autoregressive().over(table.vocabulary), canvas, Dice(0, 1)))


# The published samplers


class Fixed:
    """A network whose logits are given by position, whatever it reads."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def __call__(self, tokens: Tensor, *, ask: Tensor | None = None, **reading: Any) -> Tensor:
        every = self.logits[: tokens.shape[1]].expand(len(tokens), -1, -1)
        return every if ask is None else every[ask]


ENDS = Masked().over(Vocabulary(size=7, mask=6, end=4, end_of_turn=5))
SURE = torch.tensor([[9.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 12, 2], [0, 0, 3.0, 0, 0, 0], [0, 0, 0, 0, 1, 10]])
"""Position 0 says 0, 1 the end, 2 says 2, 3 the end of a turn; 1 is the surest."""


def order_of(sampler: Sampler) -> tuple[list[int], list[int]]:
    """The positions in the order of writing, and the tokens at the end."""
    canvas = Canvas.of([[None] * 4])
    steps = list(sampler.stream(Fixed(SURE), ENDS, canvas, Dice(0, 1)))
    return [int(s.changed[0].nonzero()) for s in steps], steps[-1].tokens[0].tolist()


@pytest.mark.parametrize("temperature", [0.0, 0.01])
def test_the_end_of_text_flags(temperature: float) -> None:
    """Both work at every temperature; in the published code the second is lost for one of the tokens above 0."""
    pen = Pen(temperature=temperature)
    assert order_of(LLaDA(pen=pen)) == ([1, 3, 0, 2], [0, 4, 2, 5])
    late, tokens = order_of(LLaDA(pen=pen, late_end=True))
    assert late[:2] == [0, 2] and sorted(late[2:]) == [1, 3] and tokens == [0, 4, 2, 5]
    _, tokens = order_of(LLaDA(pen=pen, never_end=True))
    assert 4 not in tokens and tokens[1] == 5


def test_the_end_of_text_flags_need_an_end() -> None:
    with pytest.raises(RemaskError, match="never_end and late_end need a vocabulary with an end-of-text id"):
        fill(
            LLaDA(late_end=True),
            Fixed(torch.zeros(4, V)),
            [[None] * 4],
            family=Masked().over(Vocabulary(V + 1, mask=V)),
        )


def test_llada_counts_of_a_step() -> None:
    """Each block its share of the steps, the remainder of a block's masks in its first steps."""
    assert written(LLaDA(steps=4), 10) == [3, 3, 2, 2]
    assert written(LLaDA(steps=8, block=5), 10) == [2, 1, 1, 1, 2, 1, 1, 1]
    assert written(LLaDA(block=4), 10) == [1] * 10


def test_what_is_kept_is_what_was_drawn_with_confidence(model: Transformer) -> None:
    """Of a step's draws those with the highest probability stay: above temperature 0 not the same as `Confidence`."""
    rows = [[1, 2, *[None] * 12]]
    ours = fill(Confidence(steps=6, pen=Pen(temperature=2.0)), model, rows)[-1]
    theirs = fill(LLaDA(steps=6, pen=Pen(temperature=2.0)), model, rows)[-1]
    assert not torch.equal(ours.tokens, theirs.tokens)
    likelier = [
        float(fill(LLaDA(steps=6, pen=Pen(temperature=2.0)), model, rows, seed=seed)[-1].log_prob[0])
        - float(fill(Confidence(steps=6, pen=Pen(temperature=2.0)), model, rows, seed=seed)[-1].log_prob[0])
        for seed in range(40)
    ]
    assert sum(likelier) > 0, "keeping confident draws favours probable tokens"


def test_pooling_depends_on_the_batch_and_is_asked_for(model: Transformer) -> None:
    rows: list[Row] = [[1, 2, *[None] * 9], [5, 3, *[None] * 9]]
    alone = fill(SMDM(steps=5, pen=Pen(temperature=0)), model, rows[:1])[-1].tokens[0]
    assert torch.equal(fill(SMDM(steps=5, pen=Pen(temperature=0)), model, rows)[-1].tokens[0], alone)
    counts = [step.changed.sum(1).tolist() for step in fill(SMDM(steps=5, pooled=True), model, rows)]
    assert any(one != two for one, two in counts)
    assert [sum(c) for c in counts] == [3, 3, 3, 4, 5], "floor of a share of all 18 masks; the rest at the last step"


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: LLaDA(steps=0), "steps is 0"),
        (lambda: LLaDA(block=-1), "block is -1"),
        (lambda: LLaDA(remasking="best"), "unknown remasking 'best'. Known: low_confidence, random"),
        (lambda: SMDM(steps=0), "steps is 0"),
        (lambda: SMDM(algorithm="greddy"), "unknown algorithm 'greddy'. Did you mean 'greedy'"),
    ],
)
def test_options_of_the_published_samplers(made: Any, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        made()


def test_smdm_tells_apart_what_is_nearly_sure() -> None:
    """Confidence in float64, as published: 1 - 2e-9 comes after 1 - 1e-11."""
    logits = torch.tensor([[20.0, 0, 0, 0, 0, 0], [0, 25.0, 0, 0, 0, 0], [0, 0, 3.0, 0, 0, 0], [0, 0, 0, 22.0, 0, 0]])
    steps = list(SMDM(steps=8, pen=Pen(temperature=0)).stream(Fixed(logits), ENDS, Canvas.of([[None] * 4]), Dice(0, 1)))
    order = [column for step in steps for column in step.changed[0].nonzero()[:, 0].tolist()]
    assert order[:3] == [1, 3, 0]
    torch.testing.assert_close(
        probability(logits, torch.arange(4)), logits.double().softmax(-1).diagonal(), rtol=1e-7, atol=1e-15
    )


@pytest.mark.parametrize("sampler", [SMDM(steps=64), LLaDA()], ids=["SMDM", "LLaDA"])
def test_confidence_is_that_of_the_model_and_not_of_the_pen(sampler: Sampler) -> None:
    """A hot pen draws anything; what it drew is judged by the untempered prediction."""
    logits = torch.tensor([[6.0, 0, 0, 0, 0, 0]]).repeat(4, 1)
    hot = replace(sampler, pen=Pen(temperature=50.0))
    likely = unlikely = 0
    for seed in range(60):
        steps = list(hot.stream(Fixed(logits), ENDS, Canvas.of([[None] * 4]), Dice(seed, 1)))
        first = steps[0]
        token = int(first.tokens[0][first.changed[0]][0])
        likely, unlikely = likely + (token == 0), unlikely + (token != 0)
    assert likely > 0.35 * 60, "of four draws that are 0 one time in six, a 0 is kept whenever there is one"


# Samplers written with their options


def test_a_sampler_with_options_in_words() -> None:
    assert parse_options(LLaDA, "late_end=true, remasking=random,steps=7") == {
        "late_end": True,
        "remasking": "random",
        "steps": 7,
    }
    assert parse_options(Confidence, "") == {}
    for text, says in (
        ("late=true", "unknown option of LLaDA 'late'. Did you mean 'late_end'"),
        ("late_end", "unknown option of LLaDA 'late_end'"),
        ("late_end=yes", "late_end is 'yes'; it must be true or false"),
        ("steps=some", "steps is 'some'; it must be a whole number"),
        ("pen=3", "unknown option of LLaDA 'pen'"),
    ):
        with pytest.raises(RemaskError, match=says):
            parse_options(LLaDA, text)
