"""Perplexity by rolling windows: every token once, the sums written out, and the harness's windows."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import UNHURRIED, tiny

import remask
from remask import cli
from remask.checkpoints.checkpoint import Checkpoint
from remask.data.tokenizer import Tokenizer
from remask.data.tokens import open_tokens
from remask.data.wikitext import articles, detokenize
from remask.errors import Interrupted, RemaskError
from remask.evaluation.passages import passages_of, words_in
from remask.evaluation.perplexity import total_of
from remask.evaluation.windows import rolling_windows
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.likelihood import Estimate

TEXT = "It was the best of times,\n it was  the worst of times."
BYTES = Tokenizer.bytes()


def model(family: Any, context: int = 64) -> Checkpoint:
    """A network with random weights over bytes."""
    family = family.over(BYTES.vocabulary)
    rows = tiny(family.vocabulary.size, family.vocabulary.predicted, context=context, sharpness=2.0)
    return Checkpoint(rows, family, BYTES, {})


LEFT, MASKED = model(Autoregressive()), model(Masked())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text(TEXT)
    return tmp_path / "a.txt"


def conditional(ids: list[int]) -> float:
    """-log p of the last id given those before it, from the logits."""
    logits = LEFT.logits(torch.tensor([ids]))[0, -1].double()
    return -float(logits.log_softmax(-1)[ids[-1]])


# the windows


@UNHURRIED
@given(length=st.integers(0, 60), room=st.integers(1, 20), data=st.data())
def test_every_token_is_scored_once(length: int, room: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, room))
    windows = list(rolling_windows(length, room, stride))
    scored = [i for w in windows for i in range(w.scored, w.end)]
    assert scored == list(range(length))
    for number, w in enumerate(windows):
        assert 0 <= w.first <= w.scored < w.end and w.end - w.first <= room
        assert w.end - w.scored == min(stride if number else room, length - w.scored)
        assert w.first == max(0, w.end - room), "as much of the text before as fits"


def harness_windows(tokens: list[int], most: int, context: int) -> list[tuple[list[int], list[int]]]:
    """What lm-evaluation-harness gives and scores, by the example in its documentation: an input of `most` tokens, the
    first with a prefix token in front, of which the last `most - context + 1` predict one token each."""
    found, done, new = [], 0, most
    row = [-1, *tokens]  # the prefix token; row[i] is read to predict tokens[i]
    while done < len(tokens):
        end = min(len(tokens), done + new)
        found.append((row[max(0, end - most) : done + 1], tokens[done:end]))
        done, new = end, most - context + 1
    return found


@UNHURRIED
@given(length=st.integers(1, 40), most=st.integers(1, 12), data=st.data())
def test_the_windows_are_the_harnesss(length: int, most: int, data: st.DataObject) -> None:
    """The same targets; of what is given, all but the first token, where our rows begin with the start of a text."""
    context = data.draw(st.integers(1, most))
    tokens = list(range(length))
    theirs = harness_windows(tokens, most, context)
    ours = list(rolling_windows(length, most, most - context + 1))
    assert [tokens[w.scored : w.end] for w in ours] == [target for _, target in theirs]
    assert [tokens[w.first : w.scored] for w in ours] == [given[1:] for given, _ in theirs]


def test_the_harnesss_own_example() -> None:
    """Tokens 0 to 8, at most 3 in a window, a context of 2: as its documentation draws them."""
    inputs = [given + target[:-1] for given, target in harness_windows(list(range(9)), 3, 2)]
    assert inputs == [[-1, 0, 1], [1, 2, 3], [3, 4, 5], [5, 6, 7]]


# the values


@pytest.mark.parametrize("stride", [64, 7, 1])
def test_within_the_context_it_is_the_chain_rule(file: Path, stride: int) -> None:
    ids = list(TEXT.encode())
    nats = math.fsum(conditional(ids[: i + 1]) for i in range(len(ids)))
    found = remask.perplexity(LEFT, str(file), stride=stride)
    assert found.estimate.nats == pytest.approx(nats, rel=1e-5)
    assert (found.estimate.kind, found.estimate.stderr, found.estimate.tokens) == ("exact", 0.0, len(ids))


def test_beyond_the_context_each_token_sees_its_window(file: Path) -> None:
    ids, context, stride = list(TEXT.encode()), 16, 5
    nats = 0.0
    for i in range(len(ids)):
        end = context if i < context else min(len(ids), context + stride * (1 + (i - context) // stride))
        nats += conditional(ids[max(0, end - context) : i + 1])
    found = remask.perplexity(LEFT, str(file), context=context, stride=stride)
    assert found.estimate.nats == pytest.approx(nats, rel=1e-5)
    assert found.windows == 1 + math.ceil((len(ids) - context) / stride)


def test_a_masked_window_is_the_bound_of_its_new_tokens_given_the_old(file: Path) -> None:
    """Exactly left to right, one at a time: the same sum by `score` of each window."""
    ids = list(TEXT.encode())[:20]
    file.write_bytes(bytes(ids))
    parts = [remask.score(MASKED, text=ids[:8], estimator="chain").nats]
    parts += [remask.score(MASKED, text=ids[i : i + 3], prompt=ids[i - 5 : i], estimator="chain").nats for i in (8, 11)]
    parts += [
        remask.score(MASKED, text=ids[i : i + 3], prompt=ids[i - 5 : i], estimator="chain").nats for i in (14, 17)
    ]
    found = remask.perplexity(MASKED, str(file), context=8, stride=3, estimator="chain")
    assert found.estimate.nats == pytest.approx(math.fsum(parts), rel=1e-5)
    assert (found.estimate.kind, found.estimate.of, found.windows) == ("exact", "left to right", 5)


def test_a_bound_is_within_its_error_of_more_draws(file: Path) -> None:
    few = remask.perplexity(MASKED, str(file), context=16, draws=16)
    many = remask.perplexity(MASKED, str(file), context=16, draws=512, seed=1)
    assert few.estimate.kind == "bound" and few.estimate.stderr > 3 * many.estimate.stderr
    assert abs(few.estimate.nats - many.estimate.nats) < 4 * few.estimate.stderr
    assert "nats per token <= " in str(few) and " +- " in str(few)


def test_equal_windows_draw_anew(file: Path) -> None:
    """Else the error of the whole, which adds squares, would be too small."""
    file.write_text("abcdefgh" * 2)
    one = remask.perplexity(MASKED, str(file), context=8, draws=16)
    file.write_text("abcdefgh")
    first = remask.perplexity(MASKED, str(file), context=8, draws=16)
    assert one.estimate.nats != pytest.approx(2 * first.estimate.nats, rel=1e-6)


def test_units(file: Path) -> None:
    found = remask.perplexity(MASKED, str(file), draws=64)
    nats, words = found.estimate.nats, len(re.split(r"\s+", TEXT))
    assert (found.words, found.bytes) == (words, len(TEXT))
    assert found.token_perplexity == pytest.approx(math.exp(nats / len(TEXT))) == found.byte_perplexity
    assert math.log(found.word_perplexity) == pytest.approx(nats / words)
    assert found.bits_per_byte == pytest.approx(nats / len(TEXT) / math.log(2))
    more = nats + found.estimate.stderr
    assert found.stderr_of("bits_per_byte") == pytest.approx(found.estimate.stderr / len(TEXT) / math.log(2))
    shifted = math.exp(more / len(TEXT)) - found.token_perplexity
    assert found.stderr_of("token_perplexity") == pytest.approx(shifted, rel=0.1)
    assert set(found.as_dict()) >= {"nats", "stderr", "kind", "word_perplexity", "word_perplexity_stderr", "windows"}


# what is read


def test_documents_do_not_see_each_other(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"page": text}) + "\n" for text in (TEXT, "Another.", "")))
    found = remask.perplexity(LEFT, str(rows), field="page")
    parts = [remask.score(LEFT, text=text).nats for text in (TEXT, "Another.")]
    assert found.estimate.nats == pytest.approx(math.fsum(parts), rel=1e-5)
    assert (found.documents, found.words) == (2, words_in(TEXT) + 1)


def test_a_long_file_is_one_document_and_is_cut_by_max_bytes(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(f"{TEXT}\n\n" * 900)  # longer than the pieces in which it is read
    (passage,) = passages_of(str(tmp_path / "long.txt"), BYTES)
    assert bytes(passage.ids.tolist()).decode() == f"{TEXT}\n\n" * 900
    found = remask.perplexity(LEFT, str(tmp_path / "long.txt"), max_bytes=len(TEXT))
    assert found.estimate.nats == pytest.approx(remask.score(LEFT, text=TEXT).nats, rel=1e-6)


def test_a_prepared_corpus_is_scored_as_in_validation(autoregressive_run: Path, corpus: Path) -> None:
    m = remask.load(autoregressive_run)
    found = remask.perplexity(m, str(corpus))
    ids = open_tokens(corpus).valid.ids.tolist()
    pieces = [ids[i : i + 64] for i in range(0, len(ids), 64)]
    rows = [remask.score(m, text=piece).nats for piece in pieces[:-1]]
    last = remask.score(m, text=pieces[-1], prompt=ids[-64 : -len(pieces[-1])] if len(pieces[-1]) < 64 else []).nats
    assert found.estimate.nats == pytest.approx(math.fsum([*rows, last]), rel=1e-5)
    assert found.bytes == open_tokens(corpus).manifest["valid"]["bytes"]
    assert found.words == open_tokens(corpus).manifest["valid"]["documents"], "each is one word of 64 letters"


WIKI = """\x20
 = One @-@ two =\x20
\x20
 A " word " ( of 3 @,@ 000 ) , one 's .
 = = Part = =\x20
 It is .
 = Two =\x20
 More ; text .
"""


def test_wikitext_is_split_and_detokenized_as_the_harness_does(tmp_path: Path) -> None:
    one, two = articles(WIKI.removeprefix(" \n"))
    assert one + two == WIKI.removeprefix(" \n")
    assert detokenize(one) == ' = One-two =\n\nA "word" (of 3,000), one\'s .\n== Part ==\nIt is .\n'
    assert detokenize(" 5 \u00b0 N of it : x ; y") == " 5\u00b0N of it: x; y"
    (tmp_path / "wiki.txt").write_text(WIKI)
    passages = list(passages_of(str(tmp_path / "wiki.txt"), BYTES, detokenizer="wikitext"))
    assert [p.words for p in passages] == [words_in(one), words_in(two)]
    assert [p.bytes for p in passages] == [len(one), len(two)], "of the file, not of what is read"


# by the command line, and what goes wrong


def test_the_command(masked_run: Path, file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file.write_text("abcabcab" * 12)
    command = ["perplexity", str(masked_run), str(file), "--stride", "32", "--draws", "8"]
    cli.main([*command, "--json"])
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert found["kind"] == "bound" and found["tokens"] == 96 and found["windows"] == 2 and found["stride"] == 32
    assert found["token_perplexity"] == pytest.approx(math.exp(found["nats"] / 96)) and "scoring" in err
    cli.main(command)
    out, _ = capfd.readouterr()
    assert f"<= {found['bits_per_byte']:.6g} +- " in out and "word perplexity" in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"context": 65}, "context is 65; it must be from 1 to 64"),
        ({"stride": 0}, "stride is 0; it must be from 1 to 64"),
        ({"context": 8, "stride": 9}, "stride is 9; it must be from 1 to 8"),
        ({"max_bytes": 0}, "max_bytes is 0; it must be at least 1"),
        ({"steps": 4}, 'are for estimator "rule"'),
        ({"estimator": "chain"}, "does not fit Autoregressive"),
    ],
    ids=str,
)
def test_what_cannot_be_asked(file: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(RemaskError, match=re.escape(says)):
        remask.perplexity(LEFT, str(file), **options)


def test_what_cannot_be_read(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(RemaskError, match="no corpus at"):
        remask.perplexity(LEFT, str(tmp_path / "nowhere.txt"))
    (tmp_path / "rows.jsonl").write_text('{"page": "a"}\n')
    with pytest.raises(RemaskError, match="text"):
        remask.perplexity(LEFT, str(tmp_path / "rows.jsonl"))
    with pytest.raises(RemaskError, match="holds tokens, and --detokenize is for text"):
        remask.perplexity(LEFT, str(corpus), detokenize="wikitext")
    other = Tokenizer.train(["a b a b c"] * 3, 270)
    with pytest.raises(RemaskError, match="another tokenizer than the model's"):
        list(passages_of(str(corpus), other))


def test_an_interruption_says_what_was_found() -> None:
    def windows() -> Any:
        yield 0, Estimate(30.0, 0.3, "bound", 10, 10)
        yield 1, Estimate(10.0, 0.4, "bound", 10, 10)
        raise KeyboardInterrupt

    with pytest.raises(
        Interrupted, match=r"after 20 of 50 tokens, with <= 2\.0000 \+- 0\.0250 nats per token; nothing"
    ):
        total_of(windows(), 50)


def test_wikitext_2_by_articles() -> None:
    path = Path(__file__).parents[2] / "../shared/data/wikitext2/test.txt"
    if not path.exists():
        pytest.skip("the WikiText-2 file is not there")
    whole = path.read_text()
    found = list(articles(whole))
    assert "".join(found) == whole.removeprefix(" \n") and len(found) == 62
