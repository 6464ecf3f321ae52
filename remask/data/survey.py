"""A first reading of a corpus: how large it is, which documents are held out, and what teaches the tokenizer."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from remask.data.reading import Document, Omissions
from remask.errors import RemaskError
from remask.files import write_atomically

SAMPLE = 32_000_000
"""A tokenizer is trained on at most so many bytes of training text."""


@dataclass(frozen=True)
class Survey:
    """The result of a first reading of the corpus."""

    below: int
    """A document is for validation when the digest of its text is below this."""
    bytes: int
    """Bytes of text in all."""
    omissions: Omissions
    """What is not read, and why."""


def survey(
    work: Path, read: Callable[[], Iterable[tuple[Document, bool | None]]], share: float, omissions: Omissions
) -> Survey:
    """Measures the corpus, or recalls an earlier measurement; RemaskError where it cannot be split.

    The threshold of the digests is such that at least one document is for validation and one for training.
    """
    path = work / "survey.json"
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        return Survey(known["below"], known["bytes"], Omissions(**known["omissions"]))
    least, most, total, hashed = 2**64, -1, 0, False
    for document, for_validation in read():
        total += len(document.text.encode())
        if for_validation is None:
            hashed, place = True, digest(document.text)
            least, most = min(least, place), max(most, place)
    if hashed and least == most:
        raise RemaskError(
            "the corpus is a single document, so no validation text can be held out: "
            "name another corpus with --validation, or split this one with --separator"
        )
    result = Survey(min(max(round(share * 2**64), least + 1), most), total, omissions.copy())
    write_atomically(path, json.dumps(asdict(result)))
    return result


def digest(text: str) -> int:
    """A number in [0, 2^64) that only depends on the text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def up_to(corpus: Iterable[Document], max_bytes: int | None) -> Iterator[Document]:
    """The first documents, up to the one with which they hold `max_bytes` bytes."""
    total = 0
    for document in corpus:
        yield document
        total += len(document.text.encode())
        if max_bytes is not None and total >= max_bytes:
            return


def spread(texts: Iterable[str]) -> Iterator[str]:
    """At most SAMPLE bytes of texts, evenly spaced over all of them, in one pass.

    Keeps every n-th text, and doubles n whenever that was too much.
    """
    kept: list[tuple[int, str]] = []
    stride, total = 1, 0
    for i, text in enumerate(texts):
        if i % stride:
            continue
        kept.append((i, text))
        total += len(text.encode())
        while total > SAMPLE and len(kept) > 1:
            stride *= 2
            kept = [(j, t) for j, t in kept if j % stride == 0]
            total = sum(len(t.encode()) for _, t in kept)
    return (text for _, text in kept)
