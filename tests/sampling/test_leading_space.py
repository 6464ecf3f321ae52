"""Expressions and holes with tokenizers that drop the space at the beginning of a text, as SentencePiece does.

Such a tokenizer puts a space before every text when it encodes, and leaves it out when it decodes. So the same token
adds " a" within a text, and "a" at its beginning.
"""

import itertools
import re
from pathlib import Path

import pytest
import tokenizers
from tables import tiny
from tokenizers import decoders, models, normalizers, pre_tokenizers

import remask
from remask.checkpoints.checkpoint import Checkpoint
from remask.data.tokenizer import Tokenizer
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.sampling.expressions import automaton

LLAMA = Path(__file__).parents[2] / "../shared/data/tokenizers/llama2_tokenizer.json"
WORDS = ["<unk>", "<s>", "</s>", "▁", "a", "b", "1", "▁a", "▁b", "ab", "▁ab", "▁1"]
MERGES = [("▁", "a"), ("▁", "b"), ("▁", "1"), ("a", "b"), ("▁a", "b")]


SPACE = len(WORDS) + 32
"""The byte of a space, which Metaspace does not leave out."""


def small(kind: str) -> Tokenizer:
    """A BPE of a few letters with a fallback to bytes, as Llama 2 has it: by a normaliser, or by Metaspace."""
    names = [*WORDS, *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = {name: i for i, name in enumerate(names)}
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=MERGES, byte_fallback=True, unk_token="<unk>"))
    fallback = [decoders.ByteFallback(), decoders.Fuse()]
    if kind == "normaliser":
        inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), *fallback, decoders.Strip(" ", 1, 0)])
    else:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        inner.decoder = decoders.Sequence([decoders.Metaspace(prepend_scheme="first"), *fallback])
    inner.add_special_tokens(["<unk>", "<s>", "</s>"])
    return Tokenizer(inner)


@pytest.fixture(scope="module", params=["normaliser", "metaspace"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return small(request.param)


@pytest.fixture(scope="module", params=["masked", "causal"])
def model(tokenizer: Tokenizer, request: pytest.FixtureRequest) -> Checkpoint:
    """A network that draws nearly evenly."""
    v = tokenizer.vocabulary
    family = (Masked() if request.param == "masked" else Autoregressive()).over(v)
    return Checkpoint(tiny(v.size, v.predicted, sharpness=1.0), family, tokenizer, {})


def test_the_text_of_a_token_is_what_it_adds_within_a_text(tokenizer: Tokenizer) -> None:
    a = tokenizer.encode("a")
    assert tokenizer.drops_space and [tokenizer.name(i) for i in a] == ["▁a"]
    for token in range(3, len(WORDS) + 128):
        assert tokenizer.decode([*a, token]) == "a" + tokenizer.texts[token].decode()
        assert tokenizer.decode_behind([token]) == tokenizer.texts[token].decode()


@pytest.mark.parametrize("expression", ["a", " a", "  ?a", "( |a|b)*", "a b?", "ab|1", "[^a].?", ".* "])
def test_at_the_beginning_what_is_decoded_matches(tokenizer: Tokenizer, expression: str) -> None:
    """Compared with all texts of up to three tokens."""
    found = automaton(expression, tokenizer.texts, tokenizer.first_texts)
    for n in (1, 2, 3):
        for ids in itertools.product([*range(3, len(WORDS)), SPACE], repeat=n):
            states = found.start
            for token in ids:
                states = found.after(states, token)
            accepted = bool((states & found.accepting).any())
            assert accepted == bool(re.fullmatch(expression, tokenizer.decode(ids))), ids


def test_a_text_behind_another_is_encoded_without_the_space_before_every_text(tokenizer: Tokenizer) -> None:
    for before, text in (("a", "b"), ("a", " b"), ("ab 1", "  ab"), ("a ", "1 a"), ("b", "é"), ("b", "")):
        ids = [*tokenizer.encode(before), *tokenizer.encode(text, behind=True)]
        assert tokenizer.decode(ids) == before + text
    assert Tokenizer.bytes().encode(" b", behind=True) == list(b" b"), "other tokenizers put no space before a text"


@pytest.mark.parametrize("prompt", ["", "ab"])
def test_continuations_match(model: Checkpoint, prompt: str) -> None:
    """What is written matches as it is read: behind a prompt with its spaces, at the beginning without the first."""
    texts = set()
    for expression in (" [ab]+1", "[ab]+( 1)*", " ?(ab )+a"):
        for text in remask.sample(model, prompt=[prompt] * 4, matching=expression, length=12, seed=3):
            assert re.fullmatch(expression, text.text), text
            ids = [*model.tokenizer.encode(prompt), *text.tokens] if prompt else text.tokens
            assert model.tokenizer.decode(ids) == prompt + text.text
            texts.add(text.text)
    assert any(text.startswith(" ") for text in texts) and any(not text.startswith(" ") for text in texts)


def test_holes_match_and_the_text_around_them_stays(model: Checkpoint) -> None:
    for seed in range(3):
        inside = remask.sample(model, infill="a[MASK:2| [ab]+] 1[MASK:1|b] ab", seed=seed)
        assert re.fullmatch(r"a [ab]+ 1b ab", inside.text), inside.text
        first = remask.sample(model, infill="[MASK:2|b[ab]+] 1", seed=seed)
        assert re.fullmatch(r"b[ab]+ 1", first.text), first.text


@pytest.mark.skipif(not LLAMA.exists(), reason="the tokenizer of Llama 2 is not here")
def test_the_published_tokenizer_of_llama_2() -> None:
    llama = Tokenizer.load(LLAMA)
    before = llama.encode("x")
    assert llama.drops_space
    for token in range(300, 32000, 61):
        assert llama.decode([*before, token]) == "x" + llama.texts[token].decode()
    text = "the cat sat on 12 mats.\n It's (really) 5 o'clock"
    for cut in range(1, len(text)):
        ids = [*llama.encode(text[:cut]), *llama.encode(text[cut:], behind=True)]
        assert llama.decode(ids) == text
