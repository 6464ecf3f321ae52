"""What is written under a constraint: compared with all texts, written by every sampler, and what is refused."""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import UNHURRIED, tiny
from tokenizers import decoders
from writing import BIDIRECTIONAL, CAUSAL, END, MASK, MASKED, Fixed, Row, V, family_of, how, network

import remask
from remask.checkpoints.checkpoint import Checkpoint
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.infilling import Hole, parts_of
from remask.sampling import Canvas, Sampler, SamplingParams, State, start, step, stream
from remask.sampling.adaptive import Threshold
from remask.sampling.ancestral import Ancestral
from remask.sampling.confidence import Confidence
from remask.sampling.constraints import Constraint, Matching, together
from remask.sampling.esolm import EsoLM
from remask.sampling.expressions import automaton
from remask.sampling.first_hitting import FirstHitting
from remask.sampling.left_to_right import LeftToRight
from remask.sampling.llada import LLaDA
from remask.sampling.loop import make_cache
from remask.sampling.psi import Psi
from remask.sampling.smdm import SMDM
from remask.seeds import mix_seeds
from remask.vocabulary import Vocabulary

TEXTS = (b"a", b"b", b"1", b"2", b"ab", b"b1", b"\xc3", b"\xa9", b"", b"")
"""Eight tokens, among them both halves of a character; the end-of-text token; and the mask."""
EXPRESSIONS = [
    "a|ab",
    "a+?b",
    "ab|a|ab1",
    "[0-9]+",
    "(a|b)*?1",
    "[^a]b*",
    "(?i)A.?",
    "é+",
    ".*",
    "a||b",
    "x?",
    "a{2,3}?2",
]


def text_of(tokens: Sequence[int]) -> str | None:
    """The text of some tokens; None where they are no text."""
    try:
        return b"".join(TEXTS[i] for i in tokens).decode() if all(TEXTS[i] for i in tokens) else None
    except UnicodeDecodeError:
        return None


def matches(expression: str, tokens: Sequence[int], least: int | None = None) -> bool:
    """Whether tokens match; with `least` up to the end-of-text tokens, before which there are that many."""
    if least is not None and END in tokens:
        size = list(tokens).index(END)
        if size < least or set(tokens[size:]) != {END}:
            return False
        tokens = tokens[:size]
    text = text_of(tokens)
    return text is not None and re.fullmatch(expression, text) is not None


def under(expression: str, columns: Sequence[int], least: int | None = None) -> Matching:
    """The constraint of a hole, or with `least` that of a continuation."""
    end = {} if least is None else {"ends": (END,), "min_length": least}
    return Matching(columns=tuple(columns), automaton=automaton(expression, TEXTS), **end)


# exactly the tokens with which a text can be completed


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_automaton_accepts_what_matches(expression: str) -> None:
    found = automaton(expression, TEXTS) if expression != "x?" else automaton("x?|y?", TEXTS)
    lengths = set()
    for n in range(4):
        for tokens in itertools.product(range(10), repeat=n):
            states = found.start
            for token in tokens:
                states = found.after(states, token)
            assert bool((states & found.accepting).any()) == matches(expression, tokens), tokens
            if matches(expression, tokens):
                lengths.add(n)
    assert found.lengths(3) == sorted(lengths)


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> str:
    """A small expression that Python and Rust read alike."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(["a", "b", "1", "2", "é", ".", "[ab]", "[^b]", "[0-9]", "b1", "(?:)"]))
    one, two = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    return draw(
        st.sampled_from([f"{one}{two}", f"(?:{one}|{two})", f"(?:{one})*", f"(?:{one})+?", f"(?:{one}){{1,2}}"])
    )


@settings(UNHURRIED, max_examples=40)
@given(data=st.data(), expression=expressions(), n=st.integers(1, 4), least=st.sampled_from([None, None, 0, 1, 2]))
def test_a_token_is_allowed_where_a_completion_matches(
    data: st.DataObject, expression: str, n: int, least: int | None
) -> None:
    good = [x for x in itertools.product(range(V), repeat=n) if matches(expression, x, least)]
    constraint = under(expression, range(n), least)
    assert constraint.possible([None] * n) == bool(good)
    if not good:
        return
    text = data.draw(st.sampled_from(good))
    hidden = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    tokens = [None if h else token for h, token in zip(hidden, text)]
    found = constraint.allowed(tokens, range(n), V)
    for place in range(n):  # also where a token stands, which may be written anew
        others = [t if i != place else None for i, t in enumerate(tokens)]
        fitting = {x[place] for x in good if all(t in (None, x[i]) for i, t in enumerate(others))}
        assert set(found[place].nonzero()[0].tolist()) == fitting

    new = {i: data.draw(st.sampled_from(found[i].nonzero()[0].tolist())) for i in range(n) if tokens[i] is None}
    sure = {i: (data.draw(st.sampled_from([-1.0, 0.0])), data.draw(st.sampled_from([0.3, 0.6, 0.9]))) for i in new}
    kept: set[int] = set()  # what `together` has to find, by enumeration
    for place in sorted(new, key=lambda i: (-sure[i][0], -sure[i][1], i)):
        fixed = {i: new[i] for i in kept | {place}} | {i: t for i, t in enumerate(tokens) if t is not None}
        if any(all(x[i] == t for i, t in fixed.items()) for x in good):
            kept.add(place)
    assert together(constraint, tokens, new, sure) == kept and bool(kept) == bool(new)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("certain", [0, 1, 2])
def test_of_greedy_tokens_that_clash_the_most_certain_is_kept(certain: int, temperature: float) -> None:
    """Each place would be another letter, and all three are to be the same: the surest one decides, wherever it is."""
    logits = torch.full((3, V), -30.0)
    logits[range(3), [0, 1, 2]] = torch.tensor([8.0 if i == certain else 0.5 + i / 10 for i in range(3)])
    logits[:, 3] = torch.where(torch.arange(3) == certain, -30.0, 0.0)  # something else that the other places could be
    constraint = under("a{3}|b{3}|1{3}|2{3}", range(3))
    for cache in (None, "Dual"):
        params = how(Confidence(), steps=1, temperature=temperature, top_k=1, cache=cache)
        state = start(MASKED, Canvas.of([[None] * 3]), params, constraints=[[constraint]])
        model = Fixed(logits)
        step(model, MASKED, state, make_cache(network(), state) if cache else None)
        written = ~state.masked[0]
        assert written.tolist() == [i == certain for i in range(3)]
        assert int(state.tokens[0, certain]) == certain


# every sampler

WAYS = {
    **BIDIRECTIONAL,
    "psi": how(Psi(kappa=0.5), steps=5),
    "psi, in blocks": how(Psi(kappa=0.3, tail="greedy"), steps=6, block=4),
    "prefix": how(Confidence(), steps=3, block=4, cache="Prefix"),
    "dual": how(Confidence(), steps=4, cache="Dual:refresh=2"),
    "delayed": how(Ancestral(), steps=4, cache="Delayed"),
    "greedy": how(Confidence(), steps=2, temperature=0),
    "left to right": how(LeftToRight()),
}
ROWS: list[Row] = [
    [1, 2, *[None] * 7],
    [0, *[None] * 6],
    [3, None, None, 6, *[None] * 4],
    [4, *[None] * 4],
]
HOLES: list[list[Constraint]] = [
    [under("(ab|1)+", range(2, 9))],
    [],
    [under("é", [1, 2]), under("[ab]+[12]+", range(4, 8))],
    [],
]


def written(way: SamplingParams, chosen: Sequence[int]) -> State:
    """Those of the rows, written to their end."""
    rows, holes, seeds = ([x[i] for i in chosen] for x in (ROWS, HOLES, [mix_seeds(7, i) for i in range(4)]))
    family = family_of(way.sampler)
    state = start(family, Canvas.of(rows), way, seeds, constraints=holes)
    before, again = state.masked.clone(), isinstance(way.sampler, Psi)
    for done in itertools.islice(stream(network(), family, state), 200):
        assert again or torch.equal(done.changed, before & ~done.masked)
        before = done.masked
    return state


@pytest.mark.parametrize("name", WAYS)
def test_every_sampler_writes_what_matches_beside_rows_that_it_leaves_alone(name: str) -> None:
    state, apart = written(WAYS[name], range(4)), written(WAYS[name], [1, 3])
    assert bool(state.finished.all()) and not bool(state.masked.any()) and not bool((state.tokens == MASK).any())
    for row, own in enumerate(HOLES):
        for constraint in own:
            assert isinstance(constraint, Matching)
            tokens = state.tokens[row, list(constraint.columns)].tolist()
            assert matches(constraint.automaton.expression, tokens), tokens
    for row, alone in ((1, 0), (3, 1)):
        assert torch.equal(state.tokens[row, : len(ROWS[row])], apart.tokens[alone, : len(ROWS[row])])
    if not isinstance(WAYS[name].sampler, Psi):  # which sums over what it has hidden again, too
        of_each = torch.where(state.open, state.confidence, 1.0).double().log().sum(1)
        torch.testing.assert_close(state.log_prob, of_each, rtol=1e-5, atol=1e-5)


ENDING = {
    "ancestral": how(Ancestral(), steps=3),
    "first hitting": how(FirstHitting(at_once=2)),
    "confidence, in blocks": how(Confidence(), steps=4, block=3),
    "llada, late end": how(LLaDA(late_end=True), steps=3),
    "smdm": how(SMDM(), steps=3),
    "threshold": how(Threshold(threshold=0.3)),
    "psi": how(Psi(kappa=0.5), steps=3),
    "left to right": how(LeftToRight()),
}


@pytest.mark.parametrize("least", [0, 3])
@pytest.mark.parametrize("way", ENDING.values(), ids=ENDING)
def test_a_continuation_matches_up_to_its_end(way: SamplingParams, least: int) -> None:
    way = replace(way, stop=True, matching="(ab?1|2)+", length=6, min_length=least)
    family = family_of(way.sampler)
    rows: list[Row] = [[i % 4, *[None] * 6] for i in range(6)]
    bound = [[under("(ab?1|2)+", range(1, 7), least)]] * 6
    state = start(family, Canvas.of(rows), way, range(6), constraints=bound)
    for _ in itertools.islice(stream(network(), family, state), 200):
        pass
    assert bool(state.finished.all())
    for row in state.tokens[:, 1:].tolist():
        assert matches("(ab?1|2)+", row, least), row


def test_rows_take_their_constraints_along() -> None:
    way, whole = how(Confidence(), steps=3), written(how(Confidence(), steps=3), range(4))
    parts = [
        start(MASKED, Canvas.of([row]), way, [mix_seeds(7, i)], constraints=[HOLES[i]]) for i, row in enumerate(ROWS)
    ]
    state = parts[2].join(parts[0])
    step(network(), MASKED, state)
    state = parts[3].join(state).join(parts[1]).rows(torch.tensor([2, 3, 1, 0]))
    while not state.finished.all():
        step(network(), MASKED, state)
    assert (
        torch.equal(state.tokens[:, : whole.tokens.shape[1]], whole.tokens) and state.constraints == whole.constraints
    )


def test_left_to_right_draws_the_law_of_the_tokens_that_can_still_match() -> None:
    """Each token has the model's own law among those with which a text can still match."""
    logits = torch.randn(3, V, generator=torch.Generator().manual_seed(3))
    good = [x for x in itertools.product(range(V), repeat=3) if matches("(a|b)(b|1)*", x, 1)]
    rows, bound = [[1, *[None] * 3]] * 40, [[under("(a|b)(b|1)*", range(1, 4), 1)]] * 40
    state = start(CAUSAL, Canvas.of(rows), how(LeftToRight()), range(40), constraints=bound)
    for _ in stream(Fixed(torch.cat([logits[:1], logits])), CAUSAL, state):
        pass
    for row, log_prob in zip(state.tokens[:, 1:].tolist(), state.log_prob.tolist()):
        nats = 0.0
        for place, token in enumerate(row):
            fitting = sorted({x[place] for x in good if list(x[:place]) == row[:place]})
            nats -= float(logits[place, fitting].log_softmax(0)[fitting.index(token)])
        assert -log_prob == pytest.approx(nats, abs=1e-5)
    assert len({tuple(row) for row in state.tokens.tolist()}) > 3


@pytest.mark.parametrize("kind", ["masked", "causal", "interpolating"])
def test_a_text_has_at_least_so_many_tokens(kind: str) -> None:
    family = {"masked": MASKED, "causal": CAUSAL, "interpolating": Interpolating().over(MASKED.vocabulary)}[kind]
    sampler: Sampler = {"masked": Confidence(), "causal": LeftToRight(), "interpolating": EsoLM()}[kind]

    class Ending:
        """A network that wants nothing but to end."""

        def __call__(self, tokens: torch.Tensor, *, ask: torch.Tensor, **reading: object) -> torch.Tensor:
            return torch.zeros(int(ask.sum()), V).index_fill(1, torch.tensor([END]), 9.0)

    rows = [SamplingParams(sampler=sampler, length=5, min_length=least, temperature=0) for least in (0, 2, 5)]
    state = start(family, Canvas.of([[1, *[None] * 5]] * 3), rows)
    for _ in stream(Ending(), family, state):
        pass
    ends = state.tokens[:, 1:] == END
    assert ends.long().argmax(1).tolist()[:2] == [0, 2] and ends.sum(1).tolist() == [5, 3, 0]


# from text to text


@pytest.fixture(scope="module")
def models() -> dict[str, Checkpoint]:
    """Untrained models over a BPE and over bytes, which write anything."""
    lines = [f"the {w} is {i} years old, said the {w}." for i, w in enumerate(["cat", "dog", "café", "house"] * 9)]
    made = {}
    for name, text in (("bpe", Tokenizer.train(lines, 340)), ("bytes", Tokenizer.bytes())):
        v = text.vocabulary
        made[name] = Checkpoint(tiny(v.size, v.predicted, seed=1), Masked().over(v), text, {})
        made[f"causal, {name}"] = Checkpoint(
            tiny(v.predicted, v.predicted, seed=1),
            Autoregressive().over(Vocabulary(size=v.predicted, end=v.end)),
            text.over(Vocabulary(size=v.predicted, end=v.end)),
            {},
        )
    return made


@pytest.mark.parametrize("kind", ["bpe", "bytes"])
def test_holes_match_in_the_text(models: dict[str, Checkpoint], kind: str) -> None:
    found = remask.sample(models[kind], infill=r"I am [MASK:2|[0-9]+] and [MASK:2], [MASK:3|café|[d-h\]]+].", steps=3)
    assert re.fullmatch(r"I am [0-9]+ and .*, (café|[d-h\]]+)\.", found.text, re.DOTALL), found.text
    assert len(found.tokens) == 7


@pytest.mark.parametrize("kind", ["bpe", "bytes", "causal, bpe", "causal, bytes"])
def test_continuations_match(models: dict[str, Checkpoint], kind: str) -> None:
    way = {"matching": r" is ([0-9]{1,2}|[a-zé]+) years\.?", "length": 24, "min_length": 9}
    prompts = ["the cat", "the dog", "the cat"]
    found = remask.sample(models[kind], prompt=prompts, seed=2, **way)
    for text in found:
        assert re.fullmatch(way["matching"], text.text), text.text
        assert text.ended == (len(text.tokens) < 24) and len(text.tokens) >= 9
    alone = remask.sample(models[kind], prompt=prompts[1], seed=2, **way)
    assert alone.text == found[1].text


def test_where_a_hole_ends() -> None:
    parts = list(parts_of(r"a [MASK:3|[0-9]+]b[MASK:1|x|[[:alpha:]\]]] [MASK:2] [MASK:x] ]", 9))
    holes = [Hole(3, "[0-9]+"), Hole(1, r"x|[[:alpha:]\]]"), Hole(2)]
    assert parts == ["a ", holes[0], "b", holes[1], " ", holes[2], " [MASK:x] ]"]


def test_the_text_of_each_token(models: dict[str, Checkpoint]) -> None:
    text = models["bpe"].tokenizer
    ids = text.encode("the café is 12")
    assert b"".join(text.texts[i] for i in ids).decode() == "the café is 12"
    v = text.vocabulary
    assert v.end is not None and v.mask is not None and text.texts[v.end] == text.texts[v.mask] == b""


def test_a_space_that_is_part_of_a_token() -> None:
    pieces = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"▁a": 0, "b": 1, "<0xC3>": 2, "<unk>": 3}, merges=[]))
    pieces.add_special_tokens(["<unk>"])
    pieces.decoder = decoders.Metaspace()
    assert Tokenizer(pieces).texts == (b" a", b"b", b"\xc3", b"", b"")  # the last one is the mask
    pieces.decoder = decoders.WordPiece()
    with pytest.raises(RemaskError, match="an expression needs a tokenizer of bytes, or one that writes a space"):
        _ = Tokenizer(pieces).texts


# what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"infill": "a [MASK:2|(ab]"}, r"the expression '\(ab': missing \)"),
        ({"infill": "a [MASK:2|^b]"}, r"the expression '\^b': .*; it is matched as a whole, without \^"),
        ({"infill": "a [MASK:2|[^\\s\\S]]"}, "no text matches it"),
        ({"infill": "a [MASK:2|[ab]"}, r"the hole '\[MASK:2\|\[ab\]' is not closed; a bracket that stands"),
        ({"infill": "a [MASK:3|xy]"}, "no text of 3 tokens matches the expression 'xy'; texts of 2 tokens do"),
        ({"infill": "a [MASK:0|b]"}, "a hole of no tokens"),
        ({"infill": "a [MASK:2|b]", "matching": "b"}, "matching and min_length are for a continuation"),
        ({"infill": "a [MASK:2|b]", "min_length": 2}, "matching and min_length are for a continuation"),
        ({"matching": "xyzxyz", "length": 5}, "no text of from 0 to 5 tokens matches the expression .* of 6 tokens do"),
        ({"matching": "xy", "length": 5, "min_length": 3}, "no text of from 3 to 5 tokens .* of 2 tokens do"),
        ({"length": 4, "min_length": 5}, "min_length is 5; it must be from 0 to length, which is 4"),
        ({"matching": "a", "length": 4, "sampler": "LLaDA:never_end=true"}, "never_end lets no text end"),
    ],
)
def test_what_is_refused(models: dict[str, Checkpoint], options: dict[str, object], said: str) -> None:
    with pytest.raises(RemaskError, match=said):
        remask.sample(models["bytes"], **options)


def test_who_cannot_follow_a_constraint(models: dict[str, Checkpoint]) -> None:
    canvas, bound = Canvas.of([[None] * 4]), [[under("a+", range(4))]]
    with pytest.raises(RemaskError, match=r"Uniform models revise every position .* masked and autoregressive"):
        start(Uniform().over(Vocabulary(size=V, end=END)), canvas, how(Ancestral()), constraints=bound)
    with pytest.raises(RemaskError, match=r"EsoLM draws beforehand .* masked and autoregressive models can"):
        start(Interpolating().over(MASKED.vocabulary), canvas, how(EsoLM()), constraints=bound)
    with pytest.raises(RemaskError, match="matching needs a tokenizer"):
        start(MASKED, canvas, how(Confidence(), matching="a+"))
    with pytest.raises(RemaskError, match="a rule has no likelihood under an expression"):
        start(MASKED, canvas, how(Confidence()), forced=torch.zeros(1, 4, dtype=torch.int64), constraints=bound)
    with pytest.raises(RemaskError, match="what is given of 4 tokens cannot be completed to match"):
        start(MASKED, Canvas.of([[1, None, None, None]]), how(Confidence()), constraints=bound)
    bare = replace(models["bytes"], text=None)
    for options in ({"infill": "a [MASK:2|b]"}, {"matching": "b", "prompt": [1], "length": 4}):
        with pytest.raises(RemaskError, match="without a tokenizer"):
            remask.sample(bare, **options)


def test_approximate_caches_are_made_for_rows_with_constraints() -> None:
    state = start(MASKED, Canvas.of([ROWS[0]]), how(Confidence(), cache="Dual"), constraints=[HOLES[0]])
    cache = make_cache(network(), state)
    while not state.finished.all():
        step(network(), MASKED, state, cache)
    assert matches("(ab|1)+", state.tokens[0, 2:].tolist())


def test_a_row_ends_though_the_network_predicts_nan() -> None:
    """No drawn token fits then; the row ends all the same, so that the error can be told."""
    state = start(
        MASKED,
        Canvas.of([[None] * 3]),
        how(Confidence(), steps=2),
        constraints=[[Matching(columns=(0, 1, 2), automaton=automaton("[ab]{2}1", TEXTS))]],
    )
    steps = list(itertools.islice(stream(Fixed(torch.full((3, V), math.nan)), MASKED, state), 10))
    assert len(steps) < 10 and not state.masked.any() and math.isnan(float(state.log_prob))
