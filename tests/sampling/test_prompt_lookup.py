"""Prompt look-up writes the text of LeftToRight, in fewer calls where a text repeats itself."""

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import Counting, tiny
from writing import CAUSAL, END, PROMPTED, Reading, Row, Script, V, begin, fill, how

from remask.errors import RemaskError
from remask.families.base import Denoiser
from remask.model.attention import Causal
from remask.model.transformer import Transformer
from remask.sampling import Canvas, Sampler, State, start, stream
from remask.sampling.constraints import Constraint, LateEnd, Matching
from remask.sampling.expressions import automaton
from remask.sampling.left_to_right import LeftToRight
from remask.sampling.prompt_lookup import PromptLookup, occurrence

# the flat one draws nearly evenly; those with sharp predictions soon repeat themselves
MODELS = [tiny(V + 1, V, seed=seed, sharpness=s, convolution=3 * (seed % 2)) for seed, s in enumerate([0.5, 2, 4, 8])]
WORDS = (*(b"abcdefgh"[i : i + 1] for i in range(8)), b"")
"""The texts of the tokens; the last one ends a text."""

tokens = st.integers(0, V - 1)
prompts = st.one_of(st.lists(tokens, max_size=8), st.lists(tokens, min_size=1, max_size=3).map(lambda x: x * 4))
behind = st.lists(st.one_of(st.none(), st.none(), tokens), max_size=5)
rows = st.lists(
    st.tuples(prompts, st.integers(1, 20), behind).map(lambda x: [*x[0], *[None] * x[1], *x[2]]), min_size=1, max_size=5
)


def finish(denoiser: Denoiser, state: State) -> State:
    """A state after its last step."""
    list(stream(denoiser, CAUSAL, state))
    return state


def assert_same(found: State, plain: State) -> None:
    """The same text with the same draws and probabilities, in no more calls."""
    assert torch.equal(found.tokens, plain.tokens) and not found.masked.any()
    torch.testing.assert_close(found.log_prob, plain.log_prob, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.confidence, plain.confidence, rtol=1e-3, atol=1e-4)
    assert torch.equal(found.draws, plain.draws)
    assert bool((found.calls <= plain.calls).all())


@settings(max_examples=24, deadline=None)
@given(
    data=st.data(),
    rows=rows,
    model=st.sampled_from(MODELS),
    cached=st.booleans(),
    ngram=st.integers(1, 4),
    longest=st.integers(1, 12),
)
def test_the_text_is_that_of_left_to_right(
    data: Any, rows: list[Row], model: Transformer, cached: bool, ngram: int, longest: int
) -> None:
    """Whatever shares the batch, with a cache or without, at the end of the canvas and between given text."""
    options = st.fixed_dictionaries(
        {
            "temperature": st.sampled_from([0.0, 0.3, 1.0, 1.7]),
            "top_p": st.sampled_from([1.0, 0.7]),
            "top_k": st.sampled_from([0, 3]),
            "stop": st.booleans(),
            "seed": st.integers(0, 2**40),
        }
    )
    chosen = [data.draw(options) for _ in rows]
    canvas = Canvas.of(rows)

    def write(sampler: Sampler) -> State:
        return finish(model if cached else Counting(model), start(CAUSAL, canvas, [how(sampler, **o) for o in chosen]))

    assert_same(write(PromptLookup(ngram=ngram, longest=longest)), write(LeftToRight()))


def test_a_batch_of_both() -> None:
    """Rows with drafts and rows without share a cache, and each is as it would be with the other sampler."""
    model = MODELS[2]
    ways = [how(way, seed=4) for way in (PromptLookup(), LeftToRight(), PromptLookup(longest=2))]
    mixed = finish(model, start(CAUSAL, Canvas.of([[1, 2, 1, *[None] * 20]] * 3), ways))
    assert mixed.tokens.unique(dim=0).shape[0] == 1
    assert mixed.calls[0] <= mixed.calls[2] < mixed.calls[1] == 20


def calls(script: Row, prompt: int, **options: Any) -> int:
    """How many calls it takes to write a script behind its first tokens."""
    counted = Counting(Script(script))
    row = [*script[:prompt], *[None] * (len(script) - prompt)]
    (last,) = fill(PromptLookup(**options), counted, [row], temperature=0)[-1].tokens.tolist()
    assert last == script
    return counted.calls


def test_what_it_costs() -> None:
    """A call writes the part of a draft that is right, and the token behind it."""
    assert calls([1, 2, 3, 4, 5, 6, 7], 1) == 6, "nothing repeats, so that there is no draft"
    once = [1, 2, 3, 4, 5, 6, 7, 1]
    assert calls([*once, 2, 3, 4, 5, 6, 7], 8) == 1, "all that is left is in the prompt"
    assert calls([*once, 2, 3, 4, 5, 6, 7], 8, longest=2) == 2, "three tokens a call"
    assert calls([*once, 2, 3, 0, 5, 6, 7], 8) == 3, "2 3 and 0 in place of 4; then 5, since 0 is nowhere before; 6 7"
    assert calls([1, 2, *[1, 2] * 10], 3, longest=20) == 1, "the draft goes on as the repetition does"
    assert calls([1, 2, *[1, 2] * 10], 3, longest=4) == 4
    # of the last token alone the latest occurrence is followed by 5; of the last two by 3
    assert calls([1, 2, 3, 7, 2, 5, 1, 2, 3], 8, ngram=2) == 1
    assert calls([1, 2, 3, 4, 7, 2, 5, 1, 2, 3, 4], 9, ngram=1) == 2
    assert calls([1, 2, 3, 4, 7, 2, 5, 1, 2, 3, 4], 9, ngram=2) == 1


def test_what_is_looked_up() -> None:
    """The most tokens that occur before, and the latest of their occurrences; they may overlap with the end."""
    text = torch.tensor([[1, 2, 3, 1, 2, 4, 2, 5, 1, 2, 0, 0], [6, 6, 6, 6, 0, 0, 0, 0, 0, 0, 0, 0]])
    place = torch.tensor([[10], [4]])
    for ngram, behind_end in ((1, [7, 3]), (2, [5, 3]), (3, [5, 3])):
        source, known = occurrence(text, place, ngram)
        assert source[:, 0].tolist() == behind_end and bool(known.all())
    source, known = occurrence(text, torch.tensor([[3], [0]]), 3)
    assert not known.any() and source[:, 0].tolist() == [3, 0], "nothing occurs twice in 1 2 3, nor in no text"


def test_tokens_are_read_again_only_behind_a_wrong_draft() -> None:
    """With a cache a call reads what was written since, and the draft; only a rejected draft was read for nothing."""
    reading = Reading(MODELS[2])
    state = begin(PromptLookup(longest=3), [[1, 2, 3, 1, 2, 3, *[None] * 12]], temperature=0)
    steps = list(stream(reading, CAUSAL, state))
    written = [int(step.changed.sum()) for step in steps]
    assert sum(written) == 12 and len(written) < 12
    assert reading.read[0] == 6 + 1 + 3
    assert sum(reading.read) <= 18 + 3 * len(steps)
    for read, before in zip(reading.read[1:], written, strict=False):
        assert read <= 1 + 3 and before >= 1


def test_it_stops_at_an_end_inside_a_draft() -> None:
    """What stands behind the end of a text is not written, even where the draft goes on beyond it."""
    prompt = [3, 1, END, 2, 5, 3]
    script = [*prompt, 1, END, 2, 5, 3, 1]
    row = [*prompt, *[None] * 6]
    stopped = fill(PromptLookup(), Script(script), [row], stop=True)[-1]
    assert stopped.tokens.tolist() == [[*prompt, 1, *[END] * 5]] and stopped.calls.tolist() == [1]
    going_on = fill(PromptLookup(), Script(script), [row])[-1]
    assert going_on.tokens.tolist() == [script]


@pytest.mark.parametrize("expression", ["(ab|ba)*(c|dd)?", "[a-h]*abc", "(abcd)+[ef]{0,3}"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_expression_is_matched_as_from_left_to_right(expression: str, temperature: float) -> None:
    """The tokens behind a draft are those that are allowed behind it."""
    found_calls = plain_calls = 0
    for seed in range(6):
        row = [0, 1, 0, 1, 2, *[None] * 12]
        columns = tuple(range(5, 17))
        match = Matching(columns=columns, automaton=automaton(expression, WORDS), ends=(END,), min_length=4)
        written = []
        for sampler in (PromptLookup(ngram=2), LeftToRight()):
            params = how(sampler, temperature=temperature, stop=True, seed=seed)
            written.append(finish(MODELS[2], start(CAUSAL, Canvas.of([row]), params, constraints=[[match]])))
        assert_same(*written)
        found_calls, plain_calls = found_calls + int(written[0].calls), plain_calls + int(written[1].calls)
    assert found_calls < plain_calls


def test_rows_with_constraints_beside_rows_without() -> None:
    """Each kind of constraint, in one batch."""
    late: list[Constraint] = [LateEnd(columns=tuple(range(3, 9)), ends=(END,))]
    given: list[Row] = [[8, 8, 8, *[None] * 10], [8, 8, 8, *[None] * 10], [0, 1, *[None] * 9]]
    match: list[Constraint] = [
        Matching(columns=tuple(range(2, 11)), automaton=automaton("(ab|c)*", WORDS), ends=(END,))
    ]
    for seed in range(5):
        written = [
            finish(
                MODELS[1],
                start(CAUSAL, Canvas.of(given), how(way, stop=True, seed=seed), constraints=[late, [], match]),
            )
            for way in (PromptLookup(), LeftToRight())
        ]
        assert_same(*written)


def test_a_forced_text_has_the_probability_that_left_to_right_gives_it() -> None:
    """Drafts are compared with the forced text, so that it is written in fewer calls."""
    text = torch.tensor([[1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3], [4, 4, 4, 4, 7, 4, 4, 4, 4, 4, 4, 4]])
    canvas = Canvas.of([[1, *[None] * 11], [None] * 12])
    written = [
        finish(MODELS[1], start(CAUSAL, canvas, how(way, temperature=0.8), forced=text))
        for way in (PromptLookup(), LeftToRight())
    ]
    assert torch.equal(written[0].tokens, text)
    assert_same(*written)
    assert written[0].calls.tolist() == [4, 8] and written[1].calls.tolist() == [11, 12]


def test_drawn_texts_follow_the_law_of_the_model() -> None:
    """Over seeds, each pair of tokens is as frequent as the model says, whether a draft was right or not."""
    model, rows = MODELS[0], 4000
    prompt = [3, 5, 1, 3]
    state = begin(PromptLookup(), [[*prompt, None, None]] * rows, seed=random.Random(1).getrandbits(40))
    finish(model, state)
    assert 1 < float(state.calls.double().mean()) < 2, "some drafts were right and some were not"
    shifted = torch.tensor([[END, *prompt, token] for token in range(V)])
    with torch.inference_mode():
        law = model(shifted, attention=Causal())[:, -2:].double().log_softmax(-1)
    joint = (law[0, 0][:, None] + law[:, 1]).exp()
    counted = torch.zeros(V, V).index_put((state.tokens[:, 4], state.tokens[:, 5]), torch.ones(rows), accumulate=True)
    deviation = (counted - rows * joint) / (rows * joint * (1 - joint)).sqrt()
    assert float(deviation.abs().max()) < 4.5, "81 cells"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": 3}, "leave steps out"),
        ({"block": 3}, "leave block out"),
        ({"cache": "Dual"}, "has an exact cache by itself"),
    ],
)
def test_what_it_refuses(options: dict[str, Any], says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        begin(PromptLookup(), PROMPTED, **options)
    for name in ("ngram", "longest"):
        with pytest.raises(RemaskError, match=f"{name} is 0; it must be at least 1"):
            PromptLookup(**{name: 0})
    with pytest.raises(RemaskError, match="guidance needs a model that reads masks"):
        fill(PromptLookup(), MODELS[0], PROMPTED, guidance=0.5)
