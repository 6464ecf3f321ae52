"""Corpora written to files and read back, for the tests of their readers."""

from pathlib import Path

from remask.data.corpus import documents
from remask.data.reading import Omissions


def texts(source: object, **options: object) -> list[str]:
    """The texts of the documents of a source."""
    return [document.text for document in documents(str(source), **options)]  # type: ignore[arg-type]


def texts_and_omissions(source: object, **options: object) -> tuple[list[str], dict[str, int]]:
    """The texts of a source, and how much of it is not read, by reason."""
    omissions = Omissions()
    return texts(source, omissions=omissions, **options), omissions.counts


def write(path: Path, content: str | bytes) -> Path:
    """Writes a file and the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
