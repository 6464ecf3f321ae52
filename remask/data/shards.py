"""Shards: a corpus tokenised piece by piece, each piece whole or not at all, and then joined.

A run that was killed finds the pieces it had finished and makes only the others.
"""

import json
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remask.data.reading import Document
from remask.data.tokenizer import FILE, Tokenizer
from remask.errors import RemaskError

MANIFEST = "data.json"
FORMAT = 1
SPLITS = ("train", "valid")
CHUNK = 2_000_000
"""Bytes of text tokenised into one shard."""
NAMES = 10_000
"""At most so many names of validation documents are kept."""


def tokenised(work: Path, found: Iterable[tuple[Document, bool]], tokenizer: Tokenizer, total: int) -> Iterator[Path]:
    """Yields one file per chunk of documents, tokenising only where it is not there yet."""
    from remask.terminal import progress

    with progress("tokenising", total=total, unit="B") as tick:
        for i, (chunk, size) in enumerate(_chunks(found)):
            path = work / f"{i:06d}.npz"
            if not _whole(path):
                passing = path.with_suffix(f".{os.getpid()}.tmp")
                with passing.open("wb") as file:
                    np.savez(file, **_tokenise(chunk, tokenizer))  # type: ignore[arg-type]
                os.replace(passing, path)
            yield path
            tick(size, shards=i + 1)


def _chunks(found: Iterable[tuple[Document, bool]]) -> Iterator[tuple[list[tuple[Document, bool]], int]]:
    """Runs of documents of about CHUNK bytes, and their bytes."""
    chunk: list[tuple[Document, bool]] = []
    size = 0
    for document, held in found:
        chunk.append((document, held))
        size += len(document.text.encode())
        if size >= CHUNK:
            yield chunk, size
            chunk, size = [], 0
    if chunk:
        yield chunk, size


def _tokenise(chunk: list[tuple[Document, bool]], tokenizer: Tokenizer) -> dict[str, NDArray[Any]]:
    """The arrays of a shard: ids, byte lengths and number of documents of both splits, and names."""
    end = tokenizer.vocabulary.end
    kind = id_type(tokenizer)
    after = ([], []) if end is None else ([end], [0])
    parts: dict[str, list[NDArray[Any]]] = {f"{s}_{what}": [] for s in SPLITS for what in ("ids", "bytes")}
    count, names = dict.fromkeys(SPLITS, 0), []
    encoded = tokenizer.encode_with_bytes([document.text for document, _ in chunk])
    for (document, held), (ids, lengths) in zip(chunk, encoded, strict=True):
        split = "valid" if held else "train"
        count[split] += 1
        names += [document.name] if held else []
        last_id, last_length = after if document.ends else ([], [])
        parts[f"{split}_ids"] += [ids.astype(kind), np.array(last_id, kind)]
        parts[f"{split}_bytes"] += [lengths.astype("<u2"), np.array(last_length, "<u2")]
    arrays = {key: np.concatenate(p) if p else np.zeros(0, kind) for key, p in parts.items()}
    return arrays | {f"{s}_documents": np.array(n) for s, n in count.items()} | {"names": np.array(names, str)}


def _whole(path: Path) -> bool:
    """Whether a shard is there and can be read."""
    try:
        with np.load(path) as arrays:
            return all(arrays[name] is not None for name in arrays.files)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError):
        return False


def id_type(tokenizer: Tokenizer) -> str:
    return "<u2" if tokenizer.vocabulary.size <= 2**16 else "<u4"


def publish(out: Path, shards: list[Path], tokenizer: Tokenizer, about: dict[str, Any]) -> None:
    """Joins the shards into the final files, the manifest last."""
    count = {split: {"tokens": 0, "bytes": 0, "documents": 0} for split in SPLITS}
    names: list[str] = []
    targets = {f"{s}_{what}": out / f"{s}.{what}" for s in SPLITS for what in ("ids", "bytes")}
    passing = {key: path.with_name(f"{path.name}.{os.getpid()}.tmp") for key, path in targets.items()}
    files = {key: path.open("wb") for key, path in passing.items()}
    try:
        for shard in shards:
            with np.load(shard) as arrays:
                for key, file in files.items():
                    arrays[key].tofile(file)
                for split, counted in count.items():
                    counted["tokens"] += len(arrays[f"{split}_ids"])
                    counted["bytes"] += int(arrays[f"{split}_bytes"].sum(dtype=np.int64))
                    counted["documents"] += int(arrays[f"{split}_documents"])
                names += arrays["names"].tolist()[: NAMES - len(names)]
    finally:
        for file in files.values():
            file.close()
    for split, counted in count.items():
        if not counted["bytes"]:
            raise RemaskError(f"the {split} split of {about['source']!r} holds no text after tokenising")
    (out / MANIFEST).unlink(missing_ok=True)  # from here on the old files are not whole
    for key, path in passing.items():
        os.replace(path, targets[key])
    tokenizer.save(out / FILE)
    dtype = id_type(tokenizer)
    manifest = {"format": FORMAT, "versions": _versions(), "dtype": dtype, **about, **count, "names": names}
    replaced(out / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode())


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"python": sys.version.split()[0], "tokenizers": version("tokenizers"), "numpy": np.__version__}


def replaced(path: Path, content: bytes) -> None:
    """Replaces a file as a whole."""
    passing = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    passing.write_bytes(content)
    os.replace(passing, path)
