"""The standard library of the running Python as a corpus: its modules and its help, on every machine."""

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from remask.data.reading import Document, Reading
from remask.data.streams import utf8_blocks
from remask.data.text_files import examine_file


def library_files() -> list[Path]:
    """The modules of the standard library, without its tests and generated files."""
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
    files: list[Path] = []
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in left_out]
        files += [Path(parent, name) for name in names if name.endswith(".py")]
    generated = root / "pydoc_data" / "topics.py"
    files = [path for path in files if path != generated and not path.name.startswith("_sysconfigdata")]
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def library_documents(reading: Reading) -> Iterator[Document]:
    """Each module of the standard library, then each topic of Python's help."""
    from pydoc_data.topics import topics

    root = Path(sysconfig.get_path("stdlib"))
    for path in library_files():
        name = path.relative_to(root).as_posix()
        if examine_file(path, name, reading) and (text := b"".join(utf8_blocks(path)).decode()).strip():
            yield Document(text, name)
    for topic, text in sorted(topics.items()):
        yield Document(text, f"pydoc_data/topics#{topic}")
