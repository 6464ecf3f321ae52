"""Recognises files of another kind than is needed, and says what they are and what to do.

A clone without Git LFS holds pointers in place of its large files, a download that failed holds a web page, and
formats of other programs share the suffixes of PyTorch's. The library that is given such a file says "header too
large"; here its first bytes tell what it is.
"""

import re
from pathlib import Path

HEAD = 1024
"""Bytes at the beginning of a file that are looked at."""
MAGIC = (
    (b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS and not the file itself: run `git lfs pull` "
     "in its clone, or download the file"),
    (b"GGUF", "in the GGUF form of llama.cpp, which remask does not read: take the safetensors it was made from"),
    (b"\x89HDF", "an HDF5 file of Keras, which remask does not read: take the safetensors or PyTorch file"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"BZh", "compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ\x00", "compressed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first"),
)  # fmt: skip
"""First bytes, and what a file that begins with them is."""
WEB_PAGE = re.compile(rb"\s*<(!doctype|html|head|\?xml)", re.IGNORECASE)
TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")
"""The first line of a tiktoken vocabulary: a token in base64 and its rank."""
CONVERTED = "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(OUT) of `transformers` makes one"


def lookalike(path: Path) -> str | None:
    """What a file is instead of weights, text or a tokenizer, and what to do; None where its beginning does not tell.

    The text goes behind the file's name and "is". A file that cannot be read gives None: opening it says why.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError:
        return None
    for magic, what in MAGIC:
        if head.startswith(magic):
            return what
    if WEB_PAGE.match(head):
        return "a web page, saved in place of the file: the download failed or needs a login; download it again"
    if is_sentencepiece(head):
        return f"a SentencePiece model, and a tokenizer.json is wanted: {CONVERTED}"
    if TIKTOKEN.match(head):
        return f"a tiktoken vocabulary, and a tokenizer.json is wanted: {CONVERTED}"
    return None


def is_sentencepiece(head: bytes) -> bool:
    """Whether bytes begin as a serialised SentencePiece model: a first piece, its text, its score.

    Field 1 of the message (0x0a) is the piece, whose field 1 (0x0a) is its text and field 2 (0x15) its score.
    """
    if len(head) < 5 or head[0] != 0x0A or head[2] != 0x0A:
        return False
    score = 4 + head[3]
    return score < len(head) and head[score] == 0x15


def beginning(path: Path) -> str | None:
    """The beginning of a file that is nothing but printable text, such as "Entry not found"; None of any other."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD).decode("utf-8", "strict" if path.stat().st_size <= HEAD else "ignore")
    except (OSError, UnicodeDecodeError):
        return None
    printable = head.strip() and all(c.isprintable() or c in "\t\r\n" for c in head)
    return " ".join(head.split())[:60] if printable else None
