"""Shards: a corpus is tokenised chunk by chunk, each chunk into a file that is there as a whole or not at all.

A run that was killed finds the shards that it had finished and makes only the others. `publish` joins them.
"""

import json
import sys
import zipfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from remask.data.reading import Document
from remask.data.tokenizer import Tokenizer
from remask.data.tokenizer_files import CONFIG, FILE
from remask.errors import RemaskError
from remask.files import write_atomically

MANIFEST = "data.json"
FORMAT = 1
"""Version of the layout of a prepared folder."""
SPLITS = ("train", "valid")
CHUNK = 2_000_000
"""Bytes of text that are tokenised into one shard."""
NAMES = 10_000
"""At most so many names of validation documents are kept in the manifest."""


def tokenise_shards(
    work: Path, documents: Iterable[tuple[Document, bool]], tokenizer: Tokenizer, total: int
) -> Iterator[Path]:
    """Tokenises documents into shards in the folder `work`, and yields the file of each. Shards that exist are kept.

    Arguments:
        work: folder of the shards.
        documents: the documents in order, and whether each is for validation.
        tokenizer: gives ids and byte lengths.
        total: bytes of all documents, for the progress bar.
    """
    from remask.terminal import progress

    with progress("tokenising", total=total, unit="B") as tick:
        for i, (chunk, size) in enumerate(_chunks(documents)):
            path = work / f"{i:06d}.npz"
            if not _is_whole(path):
                arrays: dict[str, Any] = _tokenise(chunk, tokenizer)
                write_atomically(path, partial(np.savez, **arrays))
            yield path
            tick(size, shards=i + 1)


def _chunks(documents: Iterable[tuple[Document, bool]]) -> Iterator[tuple[list[tuple[Document, bool]], int]]:
    """Consecutive documents that hold about CHUNK bytes together, and their bytes."""
    chunk: list[tuple[Document, bool]] = []
    size = 0
    for document, for_validation in documents:
        chunk.append((document, for_validation))
        size += len(document.text.encode())
        if size >= CHUNK:
            yield chunk, size
            chunk, size = [], 0
    if chunk:
        yield chunk, size


def _tokenise(chunk: list[tuple[Document, bool]], tokenizer: Tokenizer) -> dict[str, NDArray[Any]]:
    """The arrays of a shard: ids, byte lengths and number of documents of both splits, and names."""
    end = tokenizer.vocabulary.end
    dtype = id_type(tokenizer)
    after = ([], []) if end is None else ([end], [0])
    parts: dict[str, list[NDArray[Any]]] = {f"{split}_{what}": [] for split in SPLITS for what in ("ids", "bytes")}
    count, names = dict.fromkeys(SPLITS, 0), []
    encoded = tokenizer.encode_with_bytes([document.text for document, _ in chunk])
    for (document, for_validation), (ids, lengths) in zip(chunk, encoded, strict=True):
        split = "valid" if for_validation else "train"
        count[split] += 1
        names += [document.name] if for_validation else []
        last_id, last_length = after if document.ends else ([], [])
        parts[f"{split}_ids"] += [ids.astype(dtype), np.array(last_id, dtype)]
        parts[f"{split}_bytes"] += [lengths.astype("<u2"), np.array(last_length, "<u2")]
    arrays = {key: np.concatenate(part) if part else np.zeros(0, dtype) for key, part in parts.items()}
    counts = {f"{split}_documents": np.array(number) for split, number in count.items()}
    return arrays | counts | {"names": np.array(names, str)}


def _is_whole(path: Path) -> bool:
    """Whether a shard is there and can be read."""
    try:
        with np.load(path) as arrays:
            return all(arrays[name] is not None for name in arrays.files)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError):
        return False


def id_type(tokenizer: Tokenizer) -> str:
    """The NumPy type of the ids of a prepared folder."""
    return "<u2" if tokenizer.vocabulary.size <= 2**16 else "<u4"


def publish(out: Path, shards: list[Path], tokenizer: Tokenizer, about: dict[str, Any]) -> None:
    """Joins the shards into the files of a prepared folder; the manifest, with `about` in it, comes last.

    RemaskError where a split holds no text.
    """
    count, names = _count(shards)
    for split, counts in count.items():
        if not counts["bytes"]:
            raise RemaskError(f"the {split} split of {about['source']!r} holds no text after tokenising")
    (out / MANIFEST).unlink(missing_ok=True)  # from here on the old files do not fit together
    for split in SPLITS:
        for what in ("ids", "bytes"):
            write_atomically(out / f"{split}.{what}", partial(_join, shards, f"{split}_{what}"))
    (out / CONFIG).unlink(missing_ok=True)  # of another tokenizer
    tokenizer.save(out / FILE)
    layout = {"format": FORMAT, "versions": _versions(), "dtype": id_type(tokenizer)}
    manifest = {**layout, **about, **count, "names": names}
    write_atomically(out / MANIFEST, json.dumps(manifest, indent=1))  # as ASCII: names of files need not be UTF-8


def _count(shards: list[Path]) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Tokens, bytes and documents of each split, and the first names of validation documents."""
    count = {split: {"tokens": 0, "bytes": 0, "documents": 0} for split in SPLITS}
    names: list[str] = []
    for shard in shards:
        with np.load(shard) as arrays:
            for split, counts in count.items():
                lengths = arrays[f"{split}_bytes"]
                counts["tokens"] += len(lengths)
                counts["bytes"] += int(lengths.sum(dtype=np.int64))
                counts["documents"] += int(arrays[f"{split}_documents"])
            names += arrays["names"].tolist()[: NAMES - len(names)]
    return count, names


def _join(shards: list[Path], key: str, file: BinaryIO) -> None:
    """Writes one array of all shards, one after the other."""
    for shard in shards:
        with np.load(shard) as arrays:
            arrays[key].tofile(file)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"python": sys.version.split()[0], "tokenizers": version("tokenizers"), "numpy": np.__version__}
