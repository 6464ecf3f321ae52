"""What a file of a corpus is: text, records of some form, or something that holds no text and is named."""

from pathlib import Path
from typing import Literal

from remask.data.json_files import first_record
from remask.data.streams import COMPRESSIONS, encoding
from remask.lookalikes import MAGIC, WEB_PAGE

Kind = Literal["text", "lines", "json", "csv", "parquet", "arrow", "saved"]
"""lines: JSON Lines. json: a .json file of records. saved: a folder of `save_to_disk` of `datasets`."""

SUFFIXES: dict[str, Kind] = {
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".jsonlines": "lines",
    ".jl": "lines",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
}
"""Files of records, by suffix. Every other file is text, if it is anything."""
TEXT = {".txt", ".text"}
"""Suffixes of text that is data, and neither prose about it nor the source of a program."""
_DOCUMENTS = (
    (b"PK\x03\x04", "a zip archive (or an Office document): unpack it, or save it as text or CSV"),
    (b"%PDF", "a PDF: convert it to text"),
    (b"7z\xbc\xaf", "a 7-zip archive: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
    (b"\x80\x02", "a pickle of Python, which is not read"),
    (b"\x93NUMPY", "an array of NumPy, and not text"),
)
"""First bytes of files that hold no plain text, and what to do, beside those of `remask.lookalikes`."""


def plain_suffix(path: Path) -> str:
    """The suffix in lower case, without that of a compression: `.jsonl` for `A.JSONL.gz`."""
    name = path.name.lower()
    if Path(name).suffix in COMPRESSIONS:
        name = Path(name).stem
    return Path(name).suffix


def kind(path: Path, start: bytes) -> Kind:
    """What a file is by its name, or by its first bytes `start` where these are those of Parquet or Arrow."""
    if start.startswith(b"PAR1"):
        return "parquet"
    return "arrow" if start.startswith(b"ARROW1") else SUFFIXES.get(plain_suffix(path), "text")


def kind_in_folder(path: Path, start: bytes, field: str) -> Kind:
    """The same in a folder, where a .json file may also be a program's settings: it holds records if it is compressed
    or if its first record has the field."""
    what = kind(path, start)
    if what == "json" and path.suffix.lower() == ".json":
        record = first_record(start)
        return "json" if record is not None and field in record else "text"
    return what


def obstacle(start: bytes, kind: Kind) -> str | None:
    """What a file that begins with `start` is if no text can be read from it, with what to do; None for the others."""
    for magic, what in (*MAGIC, *_DOCUMENTS):
        if start.startswith(magic):
            return what
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it"
    if kind != "text" and WEB_PAGE.match(start):
        return "a web page, saved in place of the data: the download failed or needs a login"
    return None if kind in ("parquet", "arrow") else _unmarked_utf16(start)


def _unmarked_utf16(start: bytes) -> str | None:
    """What to do with UTF-16 that has no byte-order mark: every second byte of plain text is zero in it."""
    if encoding(start) != "utf-8":
        return None
    for zeros, others, name in ((start[1::2], start[::2], "UTF-16LE"), (start[::2], start[1::2], "UTF-16BE")):
        if zeros.count(0) > 0.4 * len(zeros) and 0 not in others:
            return f"probably {name} without a byte-order mark: convert it with iconv -f {name} -t UTF-8"
    return None


def looks_binary(start: bytes) -> bool:
    """Whether a file without a byte-order mark has a zero byte near its start, as no UTF-8 text has."""
    return b"\0" in start and encoding(start) == "utf-8"
