"""Rows that become longer while they are written: against a plain loop, alone and in company, and what is refused.

Rows that come and go are compared in test_batches.py too.
"""

import random
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from tables import tiny
from torch import Tensor
from writing import CAUSAL, END, MASK, MASKED, V, begin, fill

from remask.errors import RemaskError
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.sampling import Canvas, Sampler, State, Step, start, step, stream
from remask.sampling.adaptive import EntropyBound, Factor, LocalLeap, Runs, Threshold
from remask.sampling.ancestral import Ancestral
from remask.sampling.confidence import Confidence
from remask.sampling.constraints import LateEnd
from remask.sampling.credit import AMOUNTS, Credit
from remask.sampling.expanding import DAEDAL, expansion_of
from remask.sampling.freedave import FreeDave
from remask.sampling.klass import KLASS, SEEN
from remask.sampling.left_to_right import LeftToRight
from remask.sampling.llada import LLaDA
from remask.sampling.loop import make_cache
from remask.sampling.wino import WINO
from remask.vocabulary import Vocabulary

PROMPT = [3, 1]
EXPAND = DAEDAL(initial=5, add=3, ends=2, append_below=0.45, insert_below=0.9, low=0.6)
RULES: list[Sampler] = [
    Confidence(),
    Confidence(rule="margin", prior=2.0),
    Threshold(threshold=0.6),
    Threshold(threshold=0.6, finish=1.5),
    Factor(factor=0.8),
    EntropyBound(bound=0.4),
    LocalLeap(threshold=0.7, near=0.5, radius=1),
    Runs(threshold=0.8, low=0.3),
    KLASS(threshold=0.5, drift=0.2, history=1),
    Credit(threshold=0.6, weight=0.5),
]


class Ending:
    """A network to whose logit of end-of-text a number is added that grows along the row, so that texts end."""

    def __init__(self, seed: int, slope: float = 0.25, convolution: int = 0) -> None:
        self.model = tiny(V + 1, V, seed=seed, sharpness=2.5, convolution=convolution)
        self.slope, self.architecture = slope, self.model.architecture
        self.lengths = list[int]()

    def __call__(
        self, tokens: Tensor, *, index: Tensor | None = None, ask: Tensor | None = None, **others: Any
    ) -> Tensor:
        self.lengths.append(tokens.shape[1])
        every = torch.ones_like(tokens, dtype=torch.bool)
        logits = self.model(tokens, index=index, ask=every, **others).view(*tokens.shape, -1)
        place = torch.arange(tokens.shape[1]).expand(tokens.shape) if index is None else index
        logits[..., END] += self.slope * (place - 4)
        return logits if ask is None else logits[ask]


def expected(
    model: Ending, how: DAEDAL, longest: int, block: int, threshold: float | None
) -> tuple[list[int], int, int, int]:
    """One row, the most probable token everywhere, as a plain loop: tokens, calls, appended masks, inserted ones.

    With a threshold, all positions of the block that reach it are written, else the most probable one.
    """
    text: list[int | None] = [None] * min(how.initial, longest)
    begun, calls, appended, inserted = False, 0, 0, 0
    while None in text:
        ids = [*PROMPT, *(MASK if token is None else token for token in text)]
        with torch.inference_mode():
            chances = model(torch.tensor([ids]))[0, len(PROMPT) :].softmax(-1).tolist()
        calls += 1
        room = longest - len(text)
        ends = []
        for token, chance in reversed(list(zip(text, chances, strict=True))):
            if token == END:
                ends.append(1.0)
            elif token is None and max(chance) == chance[END]:
                ends.append(chance[END])
        sure = sum(ends[: how.ends]) / how.ends
        if not begun and room and sure < how.append_below:
            text += [None] * min(how.add, room)
            appended += min(how.add, room)
            continue
        begun = True
        first = text.index(None) // block * block
        hidden = [i for i in range(first, min(first + block, len(text))) if text[i] is None]
        best = max(hidden, key=lambda i: (max(chances[i]), -i))
        chosen = {best} | {i for i in hidden if threshold is not None and max(chances[i]) >= threshold}
        for i in chosen:
            text[i] = chances[i].index(max(chances[i]))
        if END in text and None not in text[: text.index(END)]:
            return [END if token is None else token for token in text], calls, appended, inserted
        doubtful = [i for i in hidden if i not in chosen and max(chances[i]) < how.low]
        if doubtful and room and sure < how.insert_below:
            least = min(doubtful, key=lambda i: (max(chances[i]), i))
            more = min(how.add - 1, room)
            text[least : least + 1] = [None] * (1 + more)
            inserted += more
    return [token for token in text if token is not None], calls, appended, inserted


def own(state: State | Step, row: int = 0) -> list[int]:
    """What stands in a row, as far as it goes."""
    return state.tokens[row][state.valid[row]].tolist()


@pytest.mark.parametrize("threshold", [None, 0.6])
def test_a_row_is_written_as_by_a_plain_loop(threshold: float | None) -> None:
    r, appended, inserted, lengths = random.Random(1), 0, 0, set[int]()
    for seed in range(16):
        model = Ending(seed, slope=r.choice([0.1, 0.25, 0.5]))
        how = DAEDAL(
            initial=r.choice([1, 4, 9]),
            add=r.choice([2, 3, 5]),
            ends=r.choice([1, 2, 4]),
            append_below=r.choice([0.0, 0.3, 0.6]),
            insert_below=r.choice([0.5, 0.9, 1.0]),
            low=r.choice([0.3, 0.6, 1.0]),
        )
        block = r.choice([3, 4, 40])
        wanted, calls, one, two = expected(model, how, 16, block, threshold)
        sampler = Confidence() if threshold is None else Threshold(threshold=threshold)
        state = begin(sampler, [[*PROMPT, *[None] * 16]], block=block, temperature=0, stop=True, expand=how)
        list(stream(model, MASKED, state))
        assert own(state) == [*PROMPT, *wanted] and state.calls.tolist() == [calls]
        assert not bool(state.open[~state.valid].any())
        appended, inserted, lengths = appended + (one > 0), inserted + (two > 0), lengths | {len(wanted)}
    assert appended >= 5 and inserted >= 5 and len(lengths) >= 4


@pytest.mark.parametrize("sampler", RULES, ids=repr)
def test_a_row_that_is_not_lengthened_is_written_as_without(sampler: Sampler) -> None:
    """Tokens, draws, probabilities and calls, whether it starts at its longest or is always sure of its end."""
    model, options = Ending(7), {"block": 4, "temperature": 1.0, "stop": True, "seed": 3}
    wanted = fill(sampler, model, [[*PROMPT, *[None] * 11]], **options)
    for expand, length in (("DAEDAL", 11), (replace(EXPAND, initial=11, append_below=0.0, insert_below=0.0), 30)):
        steps = fill(sampler, model, [[*PROMPT, *[None] * length]], expand=expand, **options)
        assert len(steps) == len(wanted)
        for one, two in zip(steps, wanted, strict=True):
            assert own(one) == own(two)
            assert torch.equal(one.log_prob, two.log_prob) and torch.equal(one.calls, two.calls)
            assert torch.equal(one.changed[:, :13], two.changed) and not bool(one.changed[:, 13:].any())


@pytest.mark.parametrize("sampler", RULES, ids=repr)
def test_what_is_written_stays_in_its_order_and_masks_come_between(sampler: Sampler) -> None:
    """Step by step: a row loses no token, becomes no longer than it may, and fills its blocks from left to right."""
    model = Ending(4, slope=0.1)
    state = begin(sampler, [[*PROMPT, *[None] * 25]], block=6, expand=EXPAND, seed=2)
    before, length, grew = list[int](), 7, 0
    while not bool(state.finished.all()):
        step(model, MASKED, state)
        now = [i for i, hidden in zip(own(state), state.masked[0].tolist()) if not hidden]
        left = iter(now)
        assert all(token in left for token in before), "what was written before is a subsequence of what is now"
        place = state.masked[0].nonzero()[:, 0] - len(PROMPT)
        assert bool((state.blocks[0][state.masked[0]] == place // 6).all())
        assert not len(place) or int(state.block[0]) == int(place[0]) // 6
        assert torch.equal(state.confidence[0] > 0, state.valid[0] & ~state.masked[0])
        grew += int(state.valid[0].sum()) > length
        before, length = now, int(state.valid[0].sum())
    assert grew > 2 and length <= 27 and max(model.lengths) <= 27


def test_no_row_depends_on_its_company() -> None:
    """With draws, rules, settings, prompts and guidance of their own; rows that do not grow are among them, and a cache
    that another row asks for."""
    r, model = random.Random(3), Ending(9, slope=0.2, convolution=3)
    rows, ways = list[list[int | None]](), list[Any]()
    for number in range(12):
        expand = replace(EXPAND, initial=r.choice([2, 6]), append_below=r.choice([0.2, 0.7]), low=r.choice([0.3, 1.0]))
        rows.append([*[r.randrange(V - 1) for _ in range(r.randrange(4))], *[None] * r.randint(6, 14)])
        sampler = RULES[number] if number < len(RULES) else Ancestral()
        options = {"block": r.choice([None, 3]), "temperature": r.choice([0.0, 1.0]), "guidance": r.choice([0.0, 0.5])}
        more: dict[str, Any] = {"expand": expand} if number < len(RULES) else {"steps": 5, "cache": "Dual"}
        ways.append(begin(sampler, [rows[-1]], stop=number % 2 == 0, **options, **more).params[0])
    alone = []
    for number, (row, way) in enumerate(zip(rows, ways, strict=True)):
        state = start(MASKED, Canvas.of([row]), way, [number])
        list(stream(model, MASKED, state))
        alone.append(state)
    assert sum(int(state.valid.sum()) > way.expand.initial + 4 for state, way in zip(alone[:10], ways)) > 5
    order = list(range(12))
    for _ in range(2):
        r.shuffle(order)
        state = start(MASKED, Canvas.of([rows[i] for i in order]), [ways[i] for i in order], order)
        list(stream(model, MASKED, state, make_cache(model, state, approximate=True)))
        for at, i in enumerate(order):
            assert own(state, at) == own(alone[i]) and state.calls[at] == alone[i].calls[0]
            torch.testing.assert_close(state.log_prob[at], alone[i].log_prob[0], rtol=1e-4, atol=1e-4)


def test_finding_the_length_takes_none_of_the_steps() -> None:
    how = DAEDAL(initial=4, add=4, append_below=1.0, insert_below=0.0)
    steps = fill(Confidence(), Ending(3), [[*PROMPT, *[None] * 12]], steps=4, expand=how)
    assert [int(one.valid.sum()) - len(PROMPT) for one in steps] == [8, 12, 12, 12, 12, 12]
    assert [int(one.changed.sum()) for one in steps] == [0, 0, 3, 3, 3, 3]


def test_a_text_has_its_least_length() -> None:
    state = begin(Threshold(threshold=0.3), [[*PROMPT, *[None] * 20]], stop=True, min_length=12, expand=EXPAND)
    assert int(state.masked.sum()) == 12
    list(stream(Ending(1, slope=1.0), MASKED, state))
    assert END not in own(state)[:14] and END in own(state)


@pytest.mark.parametrize("kind", ["klass", "credit"])
def test_what_a_sampler_remembers_of_positions(kind: Literal["klass", "credit"]) -> None:
    """Credit moves with its position; KLASS compares no prediction with one of a shorter text."""
    sampler = KLASS(threshold=0.99) if kind == "klass" else Credit(threshold=0.99)
    how = replace(EXPAND, initial=8, append_below=0.0, insert_below=1.0, low=1.0)
    state, model = begin(sampler, [[*PROMPT, *[None] * 14]], temperature=0, expand=how), Ending(2, slope=0.0)
    with torch.inference_mode():
        sure = model(torch.tensor([[*PROMPT, *[MASK] * 8]]))[0, 2:].softmax(-1).amax(-1)
        sure[sure.argmax()] = 1.0  # which is written
    least = 2 + int(sure.argmin())
    step(model, MASKED, state)
    length = int(state.valid.sum())
    assert length == 12 and least < 9, "two masks were inserted, and not at the end"
    if kind == "klass":
        assert not bool(state.extras[SEEN].any())
    else:
        known = state.extras[AMOUNTS].sum(-1)[0] > 0
        new = [i for i in range(2, length) if not bool(known[i])]
        assert new == [least + 1, least + 2] and int(known.sum()) == 8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"expand": "DAEDALUS"}, "unknown expansion 'DAEDALUS'. Did you mean 'DAEDAL'"),
        ({"expand": 5}, "expand is 5; it is a name, such as DAEDAL:initial=32"),
        ({"expand": "DAEDAL:start=3"}, "unknown option of DAEDAL 'start'"),
        ({"expand": "DAEDAL:initial=0"}, "initial is 0; it must be at least 1"),
        ({"expand": "DAEDAL:add=1"}, "add is 1; it must be at least 2"),
        ({"expand": "DAEDAL:low=1.5"}, "low is 1.5; it is a probability, from 0 to 1"),
        (
            {"sampler": Ancestral()},
            "expand goes by the prediction .* Ancestral.* these do: Confidence, Credit,",
        ),
        ({"sampler": Confidence(rule="left")}, "rule='left'.* does not choose by"),
        ({"sampler": FreeDave(), "temperature": 0}, "FreeDave.* does not choose by"),
        ({"sampler": WINO()}, "WINO.* does not choose by"),
        ({"sampler": LLaDA()}, "LLaDA.* does not choose by"),
        ({"cache": "Dual"}, "leave cache, window and grow out"),
        ({"block": 3, "window": 1}, "leave cache, window and grow out"),
        ({"block": 3, "grow": True}, "leave cache, window and grow out"),
        ({"matching": "a+"}, "leave expand or matching out"),
        ({"rows": [[1, None, None, 4]]}, "expand is for a text that goes on to its end"),
        ({"sampler": LeftToRight(), "family": CAUSAL}, "expand is for models that fill masks.*Autoregressive"),
        ({"sampler": Ancestral(), "family": Uniform().over(Vocabulary(size=V, end=8))}, "this one is Uniform"),
        ({"family": Masked().over(Vocabulary(size=V + 1, mask=MASK))}, "an end-of-text token, which this model has"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], says: str) -> None:
    rows = options.pop("rows", [[1, None, None]])
    with pytest.raises(RemaskError, match=says):
        begin(options.pop("sampler", Threshold()), rows, **{"expand": "DAEDAL", **options})


def test_a_given_text_and_constraints_are_refused() -> None:
    canvas, params = Canvas.of([[1, None, None]]), begin(Threshold(), [[1, None, None]], expand="DAEDAL").params[0]
    with pytest.raises(RemaskError, match="leave forced or expand out"):
        start(MASKED, canvas, params, forced=torch.tensor([[1, 2, 3]]))
    with pytest.raises(RemaskError, match="leave expand or the constraints out"):
        start(MASKED, canvas, params, constraints=[[LateEnd(columns=(1,), ends=(END,))]])


def test_names() -> None:
    assert expansion_of("none") is None and expansion_of(None) is None
    assert expansion_of("DAEDAL:initial=32,low=0.2") == DAEDAL(initial=32, low=0.2)
