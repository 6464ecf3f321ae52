"""From a corpus to files of tokens: `prepare` once, `open_tokens` ever after.

A prepared folder holds `train.ids` and `valid.ids` (little-endian uint16, or uint32 for a large vocabulary),
`train.bytes` and `valid.bytes` (uint16, the bytes of text that each token stands for), `tokenizer.json`, and
`data.json`, which is written last and says what the others are.

Tokens are first written as shards, each as a whole or not at all, so that a run that was killed goes on where it
stopped.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remask.data import shards
from remask.data.corpus import documents, stamp
from remask.data.kinds import SUFFIXES, plain_suffix
from remask.data.reading import Document, Omissions, Undecodable
from remask.data.shards import FORMAT, MANIFEST, SPLITS, publish, tokenise_shards
from remask.data.survey import digest, spread, survey, up_to
from remask.data.tokenizer import Tokenizer
from remask.data.tokenizer_files import FILE
from remask.errors import RemaskError
from remask.locking import locked
from remask.terminal import say


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
    """The content of `data.json`: the source, the options, and the tokens, bytes and documents of each split."""

    @property
    def fingerprint(self) -> str:
        """A hash of everything that the folder depends on."""
        return str(self.manifest["fingerprint"])

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
        """What was prepared, and the command that trains on it."""
        lines = []
        for split in SPLITS:
            count = self.manifest[split]
            lines.append(
                f"{split}: {count['documents']:,} documents, {count['tokens']:,} tokens, {count['bytes']:,} bytes"
            )
        next_ = f"remask train --data {self.folder} --budget.minutes 10 --out runs/first"
        return "\n".join([*lines, f"written to {self.folder}; next: {next_}"])

    def _split(self, split: str) -> Tokens:
        ids = np.memmap(self.folder / f"{split}.ids", np.dtype(self.manifest["dtype"]), "r")
        return Tokens(ids, np.memmap(self.folder / f"{split}.bytes", "<u2", "r"))


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
    end: str | None = None,
) -> Prepared:
    """Tokenises a corpus into a folder; returns at once when that was already done.

    A hash of its text decides whether a document is for training or for validation, so that equal texts are in the
    same split and the order of the documents does not matter. Of a task, the questions held out are for validation.

    Args:
        source: A text file, JSON Lines, CSV, Parquet or Arrow, compressed or not; a folder of these, the clone of a
            data set or a folder of save_to_disk; hub:OWNER/NAME[:SPLIT[:CONFIG]], stdlib, synthetic:KEY=VALUE,...,
            task:NAME[+NAME...],KEY=VALUE,..., or gsm8k:FILE
        out: Folder to write.
        tokenizer: bpe trains a byte-level BPE on the training split; bytes; a tokenizer.json, a folder with one, or
            hub:OWNER/NAME.
        vocab_size: Number of ids of a BPE that is trained here, its end-of-text and mask tokens included.
        validation: A source of its own for validation, instead of a share of the documents.
        validation_share: Share of the documents held out, by the hash of their text; at least one.
        field: Field of a JSON, Parquet, Arrow or Hub record, or column of a table, that holds the text.
        separator: What separates the documents of a text file; by default lines of <|endoftext|>.
        undecodable: stop at a text file that is not UTF-8 or a record that cannot be read, or skip it.
        max_bytes: Read no more than this.
        end: Name or id of the tokenizer's end-of-text token, where it has no usual name.

    Raises:
        RemaskError: an option is out of range, a corpus cannot be read, or a split stays empty.
    """
    if not 0 < validation_share < 1:
        raise RemaskError(f"validation_share={validation_share} must lie between 0 and 1")
    if max_bytes is not None and max_bytes < 1:
        raise RemaskError(f"max_bytes={max_bytes} must be at least 1")
    if end is not None and tokenizer in ("bpe", "bytes"):
        raise RemaskError(f"--end {end}: the tokenizer {tokenizer} has an end-of-text token of its own, <|endoftext|>")
    if validation is None and source.startswith("task:"):
        from remask.tasks.corpus import validation_of

        validation = validation_of(source, validation_share)
    options: dict[str, Any] = {
        "source": source,
        "validation": validation,
        "validation_share": validation_share,
        "max_bytes": max_bytes,
        "tokenizer": tokenizer,
        "vocab_size": vocab_size if tokenizer == "bpe" else None,
        "field": field,
        "separator": separator,
        "undecodable": undecodable,
    }
    options |= {} if end is None else {"end": end}  # absent by default, so that folders prepared before are recognised
    out = Path(out)
    _check_out(out, source, tokenizer)
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


def _check_out(out: Path, source: str, tokenizer: str) -> None:
    """RemaskError for a folder whose files would be replaced or mixed with those of a prepared one."""
    if not out.exists() or (out / MANIFEST).is_file():
        return
    for given, what in ((source, "the corpus"), (tokenizer, "the tokenizer")):
        path = Path(given).parent if Path(given).name == FILE else Path(given)
        if given not in ("stdlib", "bpe", "bytes") and path.exists() and path.samefile(out):
            raise RemaskError(f"out is {str(out)!r}, which is {what} itself; choose another folder")
    if (out / "config.json").is_file():
        raise RemaskError(f"out is {str(out)!r}, which holds a checkpoint; choose another folder")


def _write(out: Path, options: dict[str, Any], fingerprint: str) -> None:
    """Reads, splits, tokenises, joins."""
    reading = {name: options[name] for name in ("field", "separator", "undecodable")}
    omissions = Omissions()

    def read() -> Iterator[tuple[Document, bool | None]]:
        """Every document, and whether it is for validation; None where the digest decides."""
        own = None if options["validation"] is None else False
        corpus = documents(options["source"], **reading, omissions=omissions)
        yield from ((document, own) for document in up_to(corpus, options["max_bytes"]))
        if options["validation"] is not None:
            corpus = documents(options["validation"], **reading, omissions=omissions)
            yield from ((document, True) for document in corpus)

    work = out / ".shards" / f"{fingerprint}-{shards.CHUNK}"
    work.mkdir(parents=True, exist_ok=True)
    first = survey(work, read, options["validation_share"], omissions)
    for line in first.omissions.lines():
        say(line)

    def split() -> Iterator[tuple[Document, bool]]:
        for document, for_validation in read():
            yield document, digest(document.text) < first.below if for_validation is None else for_validation

    def texts() -> Iterator[str]:
        return spread(document.text for document, for_validation in split() if not for_validation)

    tokenizer = _tokenizer(work, options["tokenizer"], texts, options["vocab_size"] or 0, options.get("end"))
    if tokenizer.vocabulary.end is None:
        say(
            f"the tokenizer {options['tokenizer']} has no end-of-text token of a usual name: documents follow each "
            "other without one, and a model learns no end. If it has one by another name, give it with --end NAME"
        )
    pieces = list(tokenise_shards(work, split(), tokenizer, first.bytes))
    about = {"fingerprint": fingerprint, **options, "not_read": first.omissions.counts}
    publish(out, pieces, tokenizer, about)
    shutil.rmtree(out / ".shards")


def open_tokens(folder: str | Path) -> Prepared:
    """Opens what `prepare` wrote. RemaskError when it is missing, unfinished or damaged, or is text."""
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise _not_prepared(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        width = np.dtype(manifest["dtype"]).itemsize
        sizes = {f"{split}.ids": manifest[split]["tokens"] * width for split in SPLITS}
        sizes |= {f"{split}.bytes": manifest[split]["tokens"] * 2 for split in SPLITS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RemaskError(f"{folder / MANIFEST} is damaged: {error!r}") from None
    if manifest.get("format") != FORMAT:
        raise RemaskError(f"{folder / MANIFEST} has format {manifest.get('format')}, not {FORMAT}: prepare anew")
    for name, size in sizes.items():
        path = folder / name
        there = path.stat().st_size if path.is_file() else 0
        if there != size:
            raise RemaskError(f"{path} is damaged: {there} bytes, where {MANIFEST} says {size}")
    if not (folder / FILE).is_file():
        raise RemaskError(f"{folder} is damaged: it has no {FILE}")
    return Prepared(folder, manifest)


def _not_prepared(path: Path) -> RemaskError:
    """The error for a path that is no prepared folder, with what to do."""
    command = f"make one with `remask prepare {path} --out DIR`, and give DIR"
    if not path.exists():
        if str(path) == "stdlib" or str(path).startswith(("synthetic:", "task:", "gsm8k:", "hub:")):
            return RemaskError(f"{str(path)!r} is a corpus and not a prepared folder: {command}")
        if SUFFIXES.get(plain_suffix(path)) == "lines":
            return RemaskError(f"there is no file {str(path)!r}; conversations are a file of JSON Lines, or a folder")
        return RemaskError(f"no prepared corpus at {str(path)!r}: `remask prepare SOURCE --out {path}` makes one")
    if path.is_dir():
        return RemaskError(f"{str(path)!r} is not a prepared corpus: it has no {MANIFEST}. If it holds text, {command}")
    return RemaskError(f"{str(path)!r} is a file and not a prepared folder: {command}")


def _fingerprint(options: dict[str, Any]) -> str:
    """A hash of everything the result depends on: options, the corpus's files, the tokenizer's file."""
    stamps = [stamp(s, options["field"]) for s in (options["source"], options["validation"]) if s is not None]
    content = None
    if options["tokenizer"] not in ("bpe", "bytes"):
        content = Tokenizer.load(options["tokenizer"], end=options.get("end")).fingerprint
    text = json.dumps([FORMAT, options, stamps, content], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _tokenizer(
    work: Path, spec: str, texts: Callable[[], Iterable[str]], vocab_size: int, end: str | None
) -> Tokenizer:
    """The tokenizer of an earlier try, or a new one."""
    if not (work / FILE).is_file():
        Tokenizer.of(spec, texts, vocab_size, end).save(work / FILE)
    return Tokenizer.load(work)  # the same object whether or not the work was interrupted
