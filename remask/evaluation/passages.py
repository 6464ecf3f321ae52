"""The texts whose perplexity is measured: the documents of a file, or the tokens of a prepared corpus."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from remask.data.corpus import documents
from remask.data.shards import MANIFEST
from remask.data.tokenizer import Tokenizer
from remask.data.tokens import open_tokens
from remask.data.wikitext import articles, detokenize
from remask.errors import RemaskError

Detokenize = Literal["none", "wikitext"]


@dataclass(frozen=True)
class Passage:
    """A text that windows roll over; no window sees two of them."""

    ids: NDArray[np.integer]
    """(N,) ids."""
    sizes: NDArray[np.integer]
    """(N,) bytes of text of each token."""
    words: int
    bytes: int
    """UTF-8 bytes of the text as it stands in the file."""


def passages_of(
    source: str,
    tokenizer: Tokenizer,
    *,
    split: Literal["valid", "train"] = "valid",
    field: str = "text",
    separator: str | None = None,
    detokenizer: Detokenize = "none",
    max_bytes: int | None = None,
) -> Iterator[Passage]:
    """The passages of a prepared folder, which is a single one, or of any source that `remask prepare` reads."""
    if max_bytes is not None and max_bytes < 1:
        raise RemaskError(f"max_bytes is {max_bytes}; it must be at least 1")
    if (Path(source) / MANIFEST).is_file():
        if detokenizer != "none":
            raise RemaskError(f"{source} holds tokens, and --detokenize is for text")
        yield of_corpus(Path(source), tokenizer, split, max_bytes)
        return
    left = max_bytes
    for text in texts_of(source, field, separator, detokenizer):
        if left is not None and left <= 0:
            return
        text = text if left is None else text.encode()[:left].decode(errors="ignore")
        ((ids, sizes),) = tokenizer.encode_with_bytes([detokenize(text) if detokenizer == "wikitext" else text])
        size = len(text.encode())
        if len(ids):
            yield Passage(ids, sizes, words_in(text), size)
        left = None if left is None else left - max(size, 1)


def texts_of(source: str, field: str, separator: str | None, detokenizer: Detokenize) -> Iterator[str]:
    """The documents of a source, those put together again that were cut only to divide a long file."""
    parts: list[str] = []
    for document in documents(source, field=field, separator=separator):
        parts.append(document.text)
        if document.ends:
            text, parts = "".join(parts), []
            yield from articles(text) if detokenizer == "wikitext" else [text]


def of_corpus(folder: Path, tokenizer: Tokenizer, split: str, max_bytes: int | None) -> Passage:
    """A split as one passage, its end-of-text tokens among the tokens, as in training."""
    prepared = open_tokens(folder)
    if not prepared.tokenizer.agrees(tokenizer):
        raise RemaskError(f"{folder} was prepared with another tokenizer than the model's; give its text instead")
    tokens = prepared.train if split == "train" else prepared.valid
    until = len(tokens)
    if max_bytes is not None:
        until = min(until, 1 + int(np.searchsorted(tokens.byte_lengths.cumsum(dtype=np.int64), max_bytes)))
    ids, sizes = tokens.ids[:until], tokens.byte_lengths[:until]
    ends = np.flatnonzero(ids == (-1 if tokenizer.vocabulary.end is None else tokenizer.vocabulary.end))
    texts = (tokenizer.decode(part) for part in np.split(ids, ends))
    return Passage(ids, sizes, sum(words_in(text) for text in texts if text), int(sizes.sum(dtype=np.int64)))


def words_in(text: str) -> int:
    """The number of words as lm-evaluation-harness counts them: one more than there are runs of white space."""
    return len(re.split(r"\s+", text))
