"""How many bytes of text a token stands for: by the alphabet of a byte-level vocabulary, or by its place in a text."""

import numpy as np
import tokenizers
from numpy.typing import NDArray

from remask.errors import RemaskError


def by_offsets(encoding: tokenizers.Encoding, text: str) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """Ids and byte lengths from where each token ends in the text."""
    ids = np.array(encoding.ids, np.uint32)
    if not len(ids):
        return ids, np.zeros(0, np.uint16)
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    width = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    until = np.concatenate([[0], width.cumsum()])  # bytes before each character
    ends = np.maximum.accumulate(np.array([stop for _, stop in encoding.offsets]))
    ends[-1] = len(points)
    lengths = np.diff(until[ends], prepend=0)
    if lengths.max() > np.iinfo(np.uint16).max:
        raise RemaskError(f"the tokenizer turns {lengths.max()} bytes of text into one token")
    return ids, lengths.astype(np.uint16)


def _byte_alphabet() -> dict[str, int]:
    """The byte that each printable character stands for in GPT-2: a byte that prints stands for itself, the others
    are numbered from U+0100 on."""
    prints = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    rest = (b for b in range(256) if b not in prints)
    return {chr(b): b for b in prints} | {chr(0x100 + n): b for n, b in enumerate(rest)}


BYTE_OF = _byte_alphabet()
