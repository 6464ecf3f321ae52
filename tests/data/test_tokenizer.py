"""Tokenizers keep every byte accounted for, whatever the text."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from remask.data.corpus import documents
from remask.data.tokenizer import END, MASK, WORD, Tokenizer
from remask.errors import RemaskError
from remask.vocabulary import Vocabulary

PUBLISHED = Path(__file__).parents[2] / "../shared/data/tokenizers"
SPELLED = "é <|endoftext|> 🎉 </s> <|mask|>  <s>\n\n<|mask_token|> end"


def make(name: str) -> Tokenizer:
    if name == "bytes":
        return Tokenizer.bytes()
    if name == "bpe":
        return Tokenizer.train(["the cat sat on the mat, the café 🎉 " * 20], 300)
    path = PUBLISHED / f"{name}_tokenizer.json"
    if not path.is_file():
        pytest.skip(f"the published tokenizer {path.name} is not on this machine")
    return Tokenizer.load(path)


@pytest.fixture(scope="module", params=["bytes", "bpe", "gpt2", "llama2"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return make(request.param)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4))
def test_byte_lengths_sum_to_the_bytes_of_the_text(tokenizer: Tokenizer, texts: list[str]) -> None:
    texts = [*texts, SPELLED, ""]
    for text, (ids, lengths) in zip(texts, tokenizer.encode_with_bytes(texts), strict=True):
        assert ids.dtype == np.uint32
        assert lengths.dtype == np.uint16
        assert len(ids) == len(lengths)
        assert lengths.sum() == len(text.encode())
        assert ids.tolist() == tokenizer.encode(text)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    # A first space is part of Llama's own encoding, and its decoder drops one.
    assert tokenizer.decode(ids) == text
    assert "".join(tokenizer.pieces(ids)) in (text, f" {text}")


def test_special_names_in_a_text_are_text(tokenizer: Tokenizer) -> None:
    special = {tokenizer.vocabulary.mask, tokenizer.vocabulary.end}
    assert None not in special
    assert not special & set(tokenizer.encode(SPELLED))
    assert tokenizer.decode(tokenizer.encode(SPELLED)) == SPELLED


def test_end_and_mask_are_not_decoded(tokenizer: Tokenizer) -> None:
    mask, end = tokenizer.vocabulary.mask, tokenizer.vocabulary.end
    assert mask is not None
    assert end is not None
    ids = [*tokenizer.encode("cat"), mask, end]
    assert tokenizer.decode(np.array(ids)) == "cat"
    assert tokenizer.pieces(ids, mask="_", end="$")[-2:] == ["_", "$"]


def test_save_and_load(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.vocabulary == tokenizer.vocabulary
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode(SPELLED) == tokenizer.encode(SPELLED)
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]


def test_ids_of_bytes_are_their_values() -> None:
    tokenizer = make("bytes")
    assert tokenizer.encode("aé🎉") == list("aé🎉".encode())
    assert (tokenizer.vocabulary.size, tokenizer.vocabulary.end, tokenizer.vocabulary.mask) == (258, 256, 257)
    assert tokenizer.pieces("é".encode()) == ["", "é"]
    assert tokenizer.encode_with_bytes(["é"])[0][1].tolist() == [1, 1]


def test_training_gives_the_size_asked_for_and_the_mask_last() -> None:
    words = [f"word{i} thing{i * 7} and{i % 13}" for i in range(500)]
    vocabulary = Tokenizer.train(words, 400).vocabulary
    assert (vocabulary.size, vocabulary.mask, vocabulary.end) == (400, 399, 0)
    assert vocabulary.predicted == 399
    assert Tokenizer.train(words, 400).fingerprint == Tokenizer.train(words, 400).fingerprint


def test_known_lengths_of_gpt2() -> None:
    tokenizer = make("gpt2")
    ids, lengths = tokenizer.encode_with_bytes(["hello world"])[0]
    assert ids.tolist() == [31373, 995]
    assert lengths.tolist() == [5, 6]


def test_of_reads_the_specification(tmp_path: Path) -> None:
    assert Tokenizer.of("bytes", list, 0).vocabulary.size == 258
    Tokenizer.bytes().save(tmp_path / "tokenizer.json")
    assert Tokenizer.of(str(tmp_path), list, 0).encode("a") == [97]
    assert Tokenizer.of("bpe", lambda: ["some text"], 260).vocabulary.mask is not None


def test_a_vocabulary_without_mask_gets_one_at_the_end(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Inner
    from tokenizers import models, pre_tokenizers

    inner = Inner(models.WordLevel({"cat": 0, "sat": 1, "[UNK]": 2}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    inner.save(str(tmp_path / "words.json"))
    tokenizer = Tokenizer.load(tmp_path / "words.json")
    assert (tokenizer.vocabulary.size, tokenizer.vocabulary.mask, tokenizer.vocabulary.end) == (4, 3, None)
    ids, lengths = tokenizer.encode_with_bytes(["  cat é sat \n"])[0]
    assert ids.tolist() == [0, 2, 1]
    assert lengths.tolist() == [5, 3, 6]


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=r"none\.json"):
        Tokenizer.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"model": ')
    with pytest.raises(RemaskError, match=r"bad\.json is not a tokenizer"):
        Tokenizer.load(tmp_path / "bad.json")
    with pytest.raises(RemaskError, match="vocab_size=99999999999 must be at most"):
        Tokenizer.train(["text"], 99_999_999_999)
    with pytest.raises(RemaskError, match="vocab_size=100"):
        Tokenizer.train(["a"], 100)
    assert MASK in Tokenizer.bytes().pieces([257])


def test_special_tokens_beyond_a_model_are_left_out() -> None:
    """A vocabulary that is given decides; ordinary pieces beyond it stay, so that the two are seen not to fit."""
    whole = Tokenizer.bytes()  # 256 bytes, the end, the mask
    text = whole._inner.to_str()
    short = Tokenizer(tokenizers.Tokenizer.from_str(text), Vocabulary(257, end=256))
    assert short.size == 257 and short.encode("ab") == [97, 98] and short.vocabulary.end == 256
    assert Tokenizer(tokenizers.Tokenizer.from_str(text), Vocabulary(200)).size == 256


def words(**tokens: int) -> tokenizers.Tokenizer:
    """A tokenizer of a few words whose names are all its own."""
    return tokenizers.Tokenizer(tokenizers.models.WordLevel({"the": 0, "<stop>": 1, "<|im_end|>": 2, **tokens}, "the"))


def test_the_end_is_named_by_an_option_by_the_files_beside_or_by_a_usual_name(tmp_path: Path) -> None:
    """And stays what it was through saving and loading, whatever its name is."""
    words().save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).vocabulary.end == 2
    assert (
        Tokenizer.load(tmp_path, end="<stop>").vocabulary.end == 1 == Tokenizer.load(tmp_path, end="1").vocabulary.end
    )
    for name, content in (
        ("special_tokens_map.json", '{"eos_token": "<stop>"}'),
        ("tokenizer_config.json", '{"eos_token": {"content": "the", "special": true}}'),
    ):
        (tmp_path / name).write_text(content)
        assert Tokenizer.load(tmp_path).vocabulary.end == (1 if name.startswith("special") else 0)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "not there"}')
    (tmp_path / "special_tokens_map.json").unlink()
    assert Tokenizer.load(tmp_path).vocabulary.end == 2
    (tmp_path / "out").mkdir()
    Tokenizer.load(tmp_path, end="<stop>").save(tmp_path / "out")
    assert Tokenizer.load(tmp_path / "out").vocabulary.end == 1
    for wrong in ("<halt>", "99", 99):
        with pytest.raises(
            RemaskError, match=f"no token {wrong!r}; its special tokens are <|mask|>".replace("|", r"\|")
        ):
            Tokenizer.load(tmp_path, end=wrong)


@pytest.mark.parametrize("name", ["<|return|>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<EOS_TOKEN>", "[EOS]"])
def test_usual_names_of_the_end(name: str, tmp_path: Path) -> None:
    tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, name: 1}, "a")).save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).vocabulary.end == 1


def test_long_words_are_cut_for_the_training_only() -> None:
    """A corpus of one word would take the square of its length; ordinary text gives the merges it always gave."""
    tokenizer = Tokenizer.train(["a" * 100_000, "b" * 100_000], 300)
    assert max(len(tokenizer.name(i) or "") for i in range(tokenizer.size)) == WORD
    assert len(tokenizer.encode("a" * 10_000)) == -(-10_000 // WORD) + (10_000 % WORD).bit_count() - 1
    texts = [document.text for document in islice(documents("stdlib"), 20)]
    plain = tokenizers.Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=999, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    plain.train_from_iterator(texts, trainer)
    assert Tokenizer.train(texts, 1000).fingerprint == Tokenizer(plain).fingerprint


def test_a_byte_order_mark_before_a_tokenizer(tmp_path: Path) -> None:
    Tokenizer.bytes().save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('\ufeff{"eos_token": "<|mask|>"}')
    assert Tokenizer.load(path).encode("a") == [97]
    assert Tokenizer.load(path).vocabulary.end == 257


def test_what_is_given_in_place_of_a_tokenizer_is_named(tmp_path: Path) -> None:
    model = tmp_path / "llama" / "tokenizer.model"
    model.parent.mkdir()
    model.write_bytes(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02")
    for path, message in (
        (model, "is a SentencePiece model.*save_pretrained"),
        (model.parent, r"has tokenizer\.model, and a tokenizer\.json is wanted: .*save_pretrained"),
        (tmp_path, r"the folder .* has no tokenizer\.json$"),
        ("gpt2", r"no tokenizer at 'gpt2'\. Accepted: bpe, bytes, a tokenizer\.json"),
        ("owner/name", r"no tokenizer at 'owner/name' \(on the Hub\? hub:owner/name\)"),
    ):
        with pytest.raises(RemaskError, match=message):
            Tokenizer.of(str(path), list, 0)
    (tmp_path / "latest").mkdir()
    Tokenizer.bytes().save(tmp_path / "latest")
    with pytest.raises(RemaskError, match=r"has no tokenizer\.json: it is in .*latest"):
        Tokenizer.load(tmp_path)


def test_a_hub_name_is_looked_up_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RemaskError, match="hub:owner/name cannot be fetched from the Hub"):
        Tokenizer.load("hub:owner/name")
