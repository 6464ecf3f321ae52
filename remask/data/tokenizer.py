"""Text to ids and back, with the bytes that each token stands for.

`Tokenizer` wraps Hugging Face `tokenizers`: a byte-level BPE that is trained here, plain bytes, or any published
`tokenizer.json`. No special token is ever added to a text, and a text that contains the name of one is encoded as
ordinary characters.
"""

import builtins
import codecs
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from remask.data.byte_lengths import BYTE_OF, by_offsets
from remask.data.tokenizer_files import CONFIG, FILE, declared_end, tokenizer_file
from remask.errors import RemaskError, first_line
from remask.files import write_atomically
from remask.lookalikes import CONVERTED
from remask.vocabulary import Vocabulary

END, MASK = "<|endoftext|>", "<|mask|>"
ENDS = (END, "</s>", "<|end_of_text|>", "<|im_end|>", "<eos>", "[SEP]", "<|eot_id|>", "<end_of_text>", "<|eos|>",
        "[EOS]", "<EOS>", "<|end|>", "<|return|>", "<|end_of_sentence|>", "<｜end▁of▁sentence｜>",
        "<EOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<|eos_token|>", "<|eot|>", "<end_of_turn>", "<|end_of_turn|>",
        "<END>", "[END]")  # fmt: skip
"""Names of the end-of-text token in published tokenizers, the likeliest first."""
MASKS = (MASK, "<|mdm_mask|>", "<|mask_token|>", "[MASK]", "<mask>")
LARGEST = 2**22
"""Most ids of a BPE that is trained here."""
BEFORE = "\n"
"""A text that no tokenizer joins to what stands behind it, for the ids of a text that is not the first."""
WORD = 512
"""Bytes at which a word is cut when a BPE is trained."""


class Tokenizer:
    """A `tokenizers.Tokenizer` that knows its end and mask tokens and counts bytes."""

    def __init__(
        self, inner: tokenizers.Tokenizer, vocabulary: Vocabulary | None = None, end: str | int | None = None
    ) -> None:
        """Wraps a tokenizer of the library, which is changed.

        Arguments:
            inner: the tokenizer.
            vocabulary: the ids of a model, which then decide what the special tokens are. By default they are found
                by their names, and a mask is added as the last id where there is none.
            end: the end-of-text token, by name or by id; RemaskError where there is no such token.
        """
        if vocabulary is not None:
            inner = trim(inner, vocabulary.size)
        inner.no_padding()
        inner.no_truncation()
        self._given = vocabulary
        if vocabulary is None and all(inner.token_to_id(name) is None for name in MASKS):
            inner.add_special_tokens([AddedToken(MASK, special=True, normalized=False)])
        inner.encode_special_tokens = True  # spelled out in a text, they are text
        self._inner = inner
        self._end = None if end is None else self.token(end)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """A byte-level BPE (Sennrich et al. 2016; Radford et al. 2019) of at most `vocab_size` ids.

        The end-of-text token is id 0, then come the 256 bytes and the merges; the mask is the last id, so that the
        output head needs no row for it. A small corpus may yield fewer merges than asked for.

        Words longer than WORD bytes are cut, for the training only: it takes time in proportion to the square of the
        longest word, and some corpora (DNA, base64) are one word. RemaskError where `vocab_size` is below 258, or above
        LARGEST.
        """
        if vocab_size < 258:
            raise RemaskError(
                f"vocab_size={vocab_size}: 256 bytes, the end-of-text token and the mask need at least 258"
            )
        if vocab_size > LARGEST:  # the library allocates memory for so many, and ends the process where it cannot
            raise RemaskError(f"vocab_size={vocab_size} must be at most {LARGEST}")
        inner = tokenizers.Tokenizer(models.BPE())
        words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        cut = pre_tokenizers.Split(tokenizers.Regex(f".{{{WORD}}}"), "isolated")
        inner.pre_tokenizer = pre_tokenizers.Sequence([words, cut])  # type: ignore[assignment]
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 1,
            special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        inner.pre_tokenizer = words  # type: ignore[assignment]
        return cls(inner)

    @classmethod
    def bytes(cls) -> "Tokenizer":
        """Ids 0 to 255 are the bytes, 256 is the end-of-text token, 257 the mask."""
        inner = tokenizers.Tokenizer(models.BPE(vocab={c: b for c, b in BYTE_OF.items()}, merges=[]))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        inner.decoder = decoders.ByteLevel()
        inner.add_special_tokens([AddedToken(END, special=True, normalized=False)])
        return cls(inner)

    @classmethod
    def load(cls, path: str | Path, vocabulary: Vocabulary | None = None, end: str | int | None = None) -> "Tokenizer":
        """Reads a `tokenizer.json`, or the one in a folder. RemaskError when missing, damaged, or of another kind.

        The end-of-text token is `end`, by name or by id; else the `eos_token` of a `tokenizer_config.json` or
        `special_tokens_map.json` beside the file; else the first usual name that it has (`ENDS`).
        """
        path = tokenizer_file(path)
        try:
            inner = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8-sig"))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises bare Exception, and panics
            raise RemaskError(
                f"{path} is not a tokenizer: {first_line(error)}. A {FILE} is wanted: {CONVERTED}"
            ) from None
        declared = declared_end(path.parent) if vocabulary is None and end is None else None
        if declared is not None and inner.token_to_id(declared) is not None:
            end = declared
        return cls(inner, vocabulary, end)

    def over(self, vocabulary: Vocabulary) -> "Tokenizer":
        """This tokenizer with the ids of a model, as `load` takes them."""
        return Tokenizer(self._inner, vocabulary)

    @classmethod
    def of(
        cls, spec: str, texts: Callable[[], Iterable[str]], vocab_size: int, end: str | int | None = None
    ) -> "Tokenizer":
        """The tokenizer that `--tokenizer` names: `bpe` trains on `texts()`, `bytes` needs no text, anything else is
        loaded, with the end-of-text token `end`."""
        if spec == "bpe":
            return cls.train(texts(), vocab_size)
        return cls.bytes() if spec == "bytes" else cls.load(spec, end=end)

    def save(self, path: str | Path, ids: int | None = None) -> None:
        """Writes a `tokenizer.json`; a folder stands for the file in it.

        With `ids`, special tokens from that id on are left out: a mask that the model has no row for. An end-of-text
        token that `load` would not find by its name is written to `tokenizer_config.json`, as `transformers` does.
        """
        path = Path(path)
        path = path / FILE if path.is_dir() else path
        inner = self._inner if ids is None else trim(self._inner, ids)
        write_atomically(path, inner.to_str(pretty=True))
        end = self.vocabulary.end
        if self._given is None and end is not None and end != self._first_of(ENDS):
            config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": self.name(end)}
            write_atomically(path.parent / CONFIG, json.dumps(config, indent=2) + "\n")

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the whole tokenizer."""
        return hashlib.blake2b(self._inner.to_str().encode(), digest_size=16).hexdigest()

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The number of ids and the special ids; `end` is None where none is named and none has a usual name."""
        end = self._first_of(ENDS) if self._end is None else self._end
        return self._given or Vocabulary(self.size, mask=self._first_of(MASKS), end=end)

    @cached_property
    def size(self) -> int:
        """The largest id that has a name, plus one; the vocabulary of a model may be padded beyond it."""
        return max(self._inner.get_vocab().values(), default=-1) + 1

    @cached_property
    def bos(self) -> list[int]:
        """The ids that the published tokenizer itself puts before a text, such as <s>."""
        try:
            whole = self._inner.encode("a", add_special_tokens=True)
        except Exception as error:
            raise RemaskError(f"the tokenizer cannot encode 'a': {first_line(error)}") from None
        first = next((i for i, special in enumerate(whole.special_tokens_mask) if not special), 0)
        return whole.ids[:first]

    def agrees(self, other: "Tokenizer") -> bool:
        """Whether both have the same pieces under the same ids, the masks aside."""
        masks = {self.vocabulary.mask, other.vocabulary.mask}
        one, two = ({k: i for k, i in t._inner.get_vocab().items() if i not in masks} for t in (self, other))
        return one == two

    def name(self, token: int) -> str | None:
        """The name of an id; None for one without."""
        return self._inner.id_to_token(token)

    def id(self, name: str) -> int | None:
        """The id of a token by name, such as <|eot_id|>; None where there is none."""
        return self._inner.token_to_id(name)

    def token(self, spec: str | int) -> int:
        """The id of a token that an option names: by its name, or by the id itself.

        RemaskError where the tokenizer has no such token; it lists the special ones.
        """
        token = int(spec) if str(spec).isdecimal() else self.id(str(spec))
        if token is None or token >= self.size:
            special = [token.content for token in self._inner.get_added_tokens_decoder().values()]
            shown = ", ".join(special[:12]) + (", ..." if len(special) > 12 else "")
            raise RemaskError(f"the tokenizer has no token {spec!r}; its special tokens are {shown or 'none'}")
        return token

    def encode(self, text: str, behind: bool = False) -> list[int]:
        """The ids of a text, without any special token; of one that stands `behind` another, without the space that
        some tokenizers put before every text."""
        if behind and self.drops_space:
            with suppress(RemaskError):  # a vocabulary without BEFORE
                before, whole = self.encode(BEFORE), self.encode(BEFORE + text)
                if whole[: len(before)] == before:
                    return whole[len(before) :]
        try:
            raw = text.encode()
            return list(raw) if self._plain else self._inner.encode(text, add_special_tokens=False).ids
        except UnicodeEncodeError as error:
            what = f"{text[error.start]!r}, which is no character"
            raise RemaskError(f"the text {text[:40]!r} holds {what}; a text must be UTF-8") from None
        except Exception as error:  # a bare one, for a vocabulary without an unknown token
            raise RemaskError(f"the tokenizer cannot encode {text[:40]!r}: {first_line(error)}") from None

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """The text of some ids, without the special tokens among them."""
        hidden = (self.vocabulary.mask, self.vocabulary.end)
        return self._inner.decode([int(i) for i in ids if i not in hidden], skip_special_tokens=True)

    def decode_behind(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """The text that some ids add behind other text, where none of their spaces is dropped."""
        if self._spaced is None or not self.drops_space:
            return self.decode(ids)
        return self.decode([self._spaced, *ids])[len(self.decode([self._spaced])) :]

    @cached_property
    def drops_space(self) -> bool:
        """Whether a space at the beginning of a text is left out by `decode`, as by SentencePiece, which has put it
        there."""
        return self._spaced is not None and not self.decode([self._spaced]).startswith(" ")

    @cached_property
    def _spaced(self) -> int | None:
        """A token that begins with a space and goes on with a letter or a digit; None where there is none."""
        named = ((self.name(i) or "", i) for i in range(self.size) if i not in self._added)
        return next((i for name, i in named if name[:1] in ("▁", "Ġ") and name[1:].isalnum()), None)

    def pieces(self, ids: Sequence[int] | NDArray[np.integer], mask: str = MASK, end: str = END) -> list[str]:
        """What to show for each token; `mask` and `end` are shown for the mask and the end-of-text token.

        A character that consists of several tokens is shown for the last of them, and '' for the others.
        """
        shown: list[str] = []
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in map(int, ids):
            if token in (self.vocabulary.mask, self.vocabulary.end):
                broken = decoder.decode(b"", final=True)
                shown.append(broken + (mask if token == self.vocabulary.mask else end))
            else:
                shown.append(decoder.decode(self._bytes_of(token)))
        if shown:
            shown[-1] += decoder.decode(b"", final=True)
        return shown

    def encode_with_bytes(self, texts: Sequence[str]) -> list[tuple[NDArray[np.uint32], NDArray[np.uint16]]]:
        """For each text its ids and the UTF-8 bytes each token stands for, in parallel.

        The byte lengths of a text sum to exactly the bytes of the text, also where a tokenizer normalises it: what
        lies between two tokens is counted with the later one, and what lies behind the last with the last. An empty
        text, and one that the tokenizer turns into nothing, give empty arrays.
        """
        if self._plain:
            raw = [np.frombuffer(text.encode(), np.uint8) for text in texts]
            return [(ids.astype(np.uint32), np.ones(len(ids), np.uint16)) for ids in raw]
        if not self._byte_level:
            encoded = self._inner.encode_batch(list(texts), add_special_tokens=False)
            return [by_offsets(e, text) for e, text in zip(encoded, texts, strict=True)]
        pairs = []
        encoded = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)  # without offsets
        for text, fast in zip(texts, encoded, strict=True):
            ids = np.array(fast.ids, np.uint32)
            lengths = self._lengths[ids]
            if int(lengths.sum()) != len(text.encode()):  # a normaliser or a prefix space changed it
                ids, lengths = by_offsets(self._inner.encode(text, add_special_tokens=False), text)
            pairs.append((ids, lengths))
        return pairs

    @cached_property
    def texts(self) -> tuple[builtins.bytes, ...]:
        """The bytes that each id adds to a text; none for special tokens, which are in no text.

        That is within a text; as its first token it may add less (`first_texts`).
        RemaskError where the text of a token depends on its neighbours.
        """
        decoder = json.loads(self._inner.to_str()).get("decoder") or {}
        kinds = {part.get("type") for part in [decoder, *decoder.get("decoders", [])]}
        if not (self._byte_level or "Metaspace" in kinds or {"Sequence", "Replace"} <= kinds):
            raise RemaskError("an expression needs a tokenizer of bytes, or one that writes a space as part of a token")
        v, added = self.vocabulary, self._inner.get_added_tokens_decoder()
        special = {i for i, token in added.items() if token.special} | {v.mask, v.start, v.end, v.end_of_turn}
        return tuple(b"" if i in special else self._bytes_of(i) for i in range(self.size))

    @cached_property
    def first_texts(self) -> tuple[builtins.bytes, ...] | None:
        """The bytes that each id adds as the first of a text, where a space is left out there; None where none is."""
        if not self.drops_space:
            return None
        spaced = [i for i, text in enumerate(self.texts) if text.startswith(b" ")]
        first = list(self.texts)
        for i, alone in zip(spaced, self._inner.decode_batch([[i] for i in spaced]), strict=True):
            if alone.encode() == first[i][1:]:
                first[i] = first[i][1:]
        return tuple(first)

    @cached_property
    def spaced(self) -> NDArray[np.bool_] | None:
        """(size,) the ids whose text begins with a space; None unless words and numbers begin with theirs.

        Some tokenizers join a space to words and not to digits: no id of theirs stands for the space before a number.
        """
        try:
            spaced = [text if text.startswith(b" ") else b"" for text in self.texts]
        except RemaskError:  # the text of a token depends on its neighbours
            return None
        numbers = any(text[1:].isdigit() for text in spaced)
        return np.array([bool(text) for text in spaced]) if numbers and self._spaced is not None else None

    def _first_of(self, names: tuple[str, ...]) -> int | None:
        ids = (self._inner.token_to_id(name) for name in names)
        return next((i for i in ids if i is not None), None)

    @cached_property
    def _byte_level(self) -> bool:
        """Whether each character in the name of a token stands for a byte, in the alphabet of GPT-2."""
        decoder = json.loads(self._inner.to_str()).get("decoder") or {}
        return any(part.get("type") == "ByteLevel" for part in [decoder, *decoder.get("decoders", [])])

    @cached_property
    def _plain(self) -> bool:
        """Whether the ids are the values of the bytes, so that the library is not needed to encode."""
        model = json.loads(self._inner.to_str())["model"]
        return model["type"] == "BPE" and not model["merges"] and model["vocab"] == BYTE_OF

    @cached_property
    def _lengths(self) -> NDArray[np.uint16]:
        """(size,) bytes of each id of a byte-level vocabulary."""
        lengths = np.zeros(self.size, np.uint16)
        for i in self._inner.get_vocab().values():
            lengths[i] = len(self._bytes_of(i))
        return lengths

    def _bytes_of(self, token: int) -> builtins.bytes:
        """The bytes of a token, as far as its name tells; none for an id without a name."""
        name = self._inner.id_to_token(token)
        if name is None:
            return b""
        if self._byte_level:
            inside = all(c in BYTE_OF for c in name) and token not in self._added
            return bytes(BYTE_OF[c] for c in name) if inside else name.encode()
        if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
            return bytes([int(name[3:5], 16)])
        return name.replace("▁", " ").encode()

    @cached_property
    def _added(self) -> set[int]:
        return set(self._inner.get_added_tokens_decoder())


def trim(inner: tokenizers.Tokenizer, ids: int) -> tokenizers.Tokenizer:
    """The same tokenizer without its special tokens from id `ids` on; no text is encoded to these."""
    content = json.loads(inner.to_str())
    kept = [token for token in content["added_tokens"] if token["id"] < ids or not token["special"]]
    if len(kept) == len(content["added_tokens"]):
        return inner
    return tokenizers.Tokenizer.from_str(json.dumps({**content, "added_tokens": kept}))
