"""Corpus to token files: `prepare` once, `open_tokens` ever after.

A prepared folder holds `train.ids` and `valid.ids` (little-endian uint16, or uint32 for a large
vocabulary), `train.bytes` and `valid.bytes` (uint16, the bytes of text each token stands for),
`tokenizer.json`, and `data.json`, which is written last and says what the others are.

Tokens are first written as shards, each whole or not at all, so a run that was killed goes on
where it stopped.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remask.data import shards
from remask.data.corpus import documents, stamp
from remask.data.reading import Document, Omissions, Undecodable
from remask.data.shards import FORMAT, MANIFEST, SPLITS, publish, replaced, tokenised
from remask.data.tokenizer import FILE, Tokenizer
from remask.errors import RemaskError
from remask.locking import locked

SAMPLE = 32_000_000
"""At most so many bytes of training text teach the tokenizer."""


@dataclass(frozen=True)
class Tokens:
    """One split: a long sequence of tokens."""

    ids: NDArray[np.integer]
    """(N,) uint16 or uint32, mapped from the file."""
    byte_lengths: NDArray[np.uint16]
    """(N,) bytes of text per token; 0 for the end-of-text token."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Prepared:
    """A prepared folder."""

    folder: Path
    manifest: dict[str, Any]
    """What `data.json` says: source, options, and tokens, bytes and documents of each split."""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.folder)

    @cached_property
    def train(self) -> Tokens:
        return self._split("train")

    @cached_property
    def valid(self) -> Tokens:
        return self._split("valid")

    def __str__(self) -> str:
        """What was prepared, and what to do with it."""
        lines = []
        for split in ("train", "valid"):
            found = self.manifest[split]
            counts = f"{found['documents']:,} documents, {found['tokens']:,} tokens, {found['bytes']:,} bytes"
            lines.append(f"{split}: {counts}")
        next_ = f"remask train --data {self.folder} --budget.minutes 10 --out runs/first"
        return "\n".join([*lines, f"written to {self.folder}; next: {next_}"])

    def _split(self, split: str) -> Tokens:
        ids = np.memmap(self.folder / f"{split}.ids", np.dtype(self.manifest["dtype"]), "r")
        return Tokens(ids, np.memmap(self.folder / f"{split}.bytes", "<u2", "r"))


@dataclass(frozen=True)
class _Survey:
    """What a first reading of the corpus found."""

    below: int
    """A document whose digest is below this is for validation."""
    bytes: int
    """Bytes of text in all."""


def prepare(
    source: str,
    out: Path,
    tokenizer: str = "bpe",
    vocab_size: int = 8192,
    validation: str | None = None,
    validation_share: float = 0.02,
    field: str = "text",
    separator: str | None = None,
    undecodable: Undecodable = "stop",
    max_bytes: int | None = None,
) -> Prepared:
    """Tokenises a corpus into a folder; returns at once when that was already done.

    A document is for training or validation by a hash of its text, so equal texts stay together
    and the split does not depend on their order.

    Args:
        source: A text file, a folder, .jsonl, .parquet, hub:OWNER/NAME, stdlib, or synthetic:KEY=VALUE,...
        out: Folder to write.
        tokenizer: bpe trains a byte-level BPE on the training split; bytes; or a tokenizer.json.
        vocab_size: Ids of a BPE trained here, its end and mask included.
        validation: A source of its own for validation, instead of a share of the documents.
        validation_share: Share of the documents held out, by the hash of their text; at least one.
        field: Field of JSONL, Parquet and Hub records that holds the text.
        separator: What separates the documents of a text file.
        undecodable: stop at a file that is not UTF-8, or skip it.
        max_bytes: Read no more than this.

    Raises:
        RemaskError: an option is out of range, a corpus cannot be read, or a split stays empty.
    """
    if not 0 < validation_share < 1:
        raise RemaskError(f"validation_share={validation_share} must lie between 0 and 1")
    if max_bytes is not None and max_bytes < 1:
        raise RemaskError(f"max_bytes={max_bytes} must be at least 1")
    reading: dict[str, Any] = {"field": field, "separator": separator, "undecodable": undecodable}
    options = {
        "source": source,
        "validation": validation,
        "validation_share": validation_share,
        "max_bytes": max_bytes,
        "tokenizer": tokenizer,
        "vocab_size": vocab_size if tokenizer == "bpe" else None,
        **reading,
    }
    out = Path(out)
    fingerprint = _fingerprint(options)
    with locked(out, "preparing a corpus"):
        if (out / MANIFEST).is_file():
            try:
                done = open_tokens(out)
                if done.manifest["fingerprint"] == fingerprint:
                    return done
            except RemaskError:
                pass  # damaged, or of another version: written anew
        _write(out, options, fingerprint)
    return open_tokens(out)


def _write(out: Path, options: dict[str, Any], fingerprint: str) -> None:
    """Reads, splits, tokenises, joins."""
    reading = {k: options[k] for k in ("field", "separator", "undecodable")}

    def read() -> Iterator[tuple[Document, bool | None]]:
        """Every document, and whether it is for validation; None where the digest decides."""
        fixed = None if options["validation"] is None else False
        yield from ((d, fixed) for d in _up_to(documents(options["source"], **reading), options["max_bytes"]))
        if options["validation"] is not None:
            yield from ((d, True) for d in documents(options["validation"], **reading))

    work = out / ".shards" / f"{fingerprint}-{shards.CHUNK}"
    work.mkdir(parents=True, exist_ok=True)
    survey = _survey(work, read, options["validation_share"])

    def split() -> Iterator[tuple[Document, bool]]:
        return ((d, _digest(d.text) < survey.below if held is None else held) for d, held in read())

    def texts() -> Iterator[str]:
        return _spread(d.text for d, held in split() if not held)

    made = _tokenizer(work, options["tokenizer"], texts, options["vocab_size"] or 0)
    pieces = list(tokenised(work, split(), made, survey.bytes))
    publish(out, pieces, made, {"fingerprint": fingerprint, **options})
    shutil.rmtree(out / ".shards")


def open_tokens(folder: str | Path) -> Prepared:
    """Opens what `prepare` wrote. RemaskError when it is missing, unfinished or damaged."""
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        width = np.dtype(manifest["dtype"]).itemsize
        wanted = {f"{s}.ids": manifest[s]["tokens"] * width for s in SPLITS}
        wanted |= {f"{s}.bytes": manifest[s]["tokens"] * 2 for s in SPLITS}
    except FileNotFoundError:
        raise RemaskError(f"{str(folder)!r} is not a prepared corpus: it has no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RemaskError(f"{folder / MANIFEST} is damaged: {error!r}") from None
    if manifest.get("format") != FORMAT:
        raise RemaskError(f"{folder / MANIFEST} has format {manifest.get('format')}, not {FORMAT}: prepare anew")
    for name, size in wanted.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else 0
        if found != size:
            raise RemaskError(f"{path} is damaged: {found} bytes, where {MANIFEST} says {size}")
    if not (folder / FILE).is_file():
        raise RemaskError(f"{folder} is damaged: it has no {FILE}")
    return Prepared(folder, manifest)


def _fingerprint(options: dict[str, Any]) -> str:
    """A hash of everything the result depends on: options, the corpus's files, the tokenizer's file."""
    stamps = [stamp(s) for s in (options["source"], options["validation"]) if s is not None]
    content = None
    if options["tokenizer"] not in ("bpe", "bytes"):
        content = Tokenizer.load(options["tokenizer"]).fingerprint
    text = json.dumps([FORMAT, options, stamps, content], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _digest(text: str) -> int:
    """A number in [0, 2^64) that only depends on the text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _up_to(found: Iterable[Document], max_bytes: int | None) -> Iterator[Document]:
    """The first documents, up to the one with which they hold `max_bytes` bytes."""
    total = 0
    for document in found:
        yield document
        total += len(document.text.encode())
        if max_bytes is not None and total >= max_bytes:
            return


def _survey(work: Path, read: Callable[[], Iterable[tuple[Document, bool | None]]], share: float) -> _Survey:
    """Measures the corpus, or recalls an earlier measure; fails where it cannot be split."""
    path = work / "survey.json"
    if path.is_file():
        return _Survey(**json.loads(path.read_text()))
    least, most, total, hashed = 2**64, -1, 0, False
    for document, held in read():
        total += len(document.text.encode())
        if held is None:
            hashed, digest = True, _digest(document.text)
            least, most = min(least, digest), max(most, digest)
    if hashed and least == most:
        raise RemaskError(
            "the corpus is a single document, so no validation text can be held out: "
            "name another corpus with --validation, or split this one with --separator"
        )
    survey = _Survey(min(max(round(share * 2**64), least + 1), most), total)
    replaced(path, json.dumps(asdict(survey)).encode())
    return survey


def _spread(texts: Iterable[str]) -> Iterator[str]:
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


def _tokenizer(work: Path, spec: str, texts: Callable[[], Iterable[str]], vocab_size: int) -> Tokenizer:
    """The tokenizer of an earlier try, or a new one."""
    if (work / FILE).is_file():
        return Tokenizer.load(work)
    made = Tokenizer.of(spec, texts, vocab_size)
    made.save(work / FILE)
    return Tokenizer.load(work)  # the same object whether or not the work was interrupted
