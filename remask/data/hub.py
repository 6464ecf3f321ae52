"""Data sets as `datasets` keeps them: streamed from the Hub, or saved to a folder with `save_to_disk`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from remask.data.reading import Document, Reading
from remask.data.records import Record, missing_field, record_documents
from remask.data.tables import batch_records, check_text
from remask.errors import RemaskError, first_line


def hub_documents(source: str, reading: Reading) -> Iterator[Document]:
    """The documents of `hub:OWNER/NAME[:SPLIT[:CONFIG]]`, streamed; the split is `train` by default."""
    name, split, config = [*source.removeprefix("hub:").split(":", 2), "", ""][:3]
    if not name:
        raise RemaskError(f"{source!r}: write hub:OWNER/NAME[:SPLIT[:CONFIG]]")
    records = _stream(name, config or None, split or "train", source, reading.field)
    yield from record_documents(records, source, reading)


def _stream(name: str, config: str | None, split: str, source: str, field: str) -> Iterator[Record]:
    datasets = _library()
    try:
        for number, record in enumerate(datasets.load_dataset(name, config, split=split, streaming=True), start=1):
            yield Record(f"record {number}", record.get(field), None if field in record else tuple(record))
    except (RemaskError, GeneratorExit):
        raise
    except Exception as error:  # pyarrow, fsspec, the Hub and zlib each have their own
        raise RemaskError(f"cannot read {source}: {first_line(error)}") from error


def saved_documents(folder: Path, name: str, reading: Reading) -> Iterator[Document]:
    """The documents of a folder of `save_to_disk`, in the order of its indices if it has some."""
    datasets = _library()
    try:
        saved: Any = datasets.load_from_disk(str(folder))
    except Exception as error:  # as above
        raise RemaskError(f"cannot read {folder}: {first_line(error)}") from error
    if reading.field not in saved.column_names:
        raise missing_field(name, reading.field, saved.column_names)
    check_text(saved.data.schema, name, reading.field)
    batches = saved.select_columns([reading.field]).with_format("arrow").iter(1000)
    yield from record_documents(batch_records(batches, reading.field), name, reading)


def _library() -> Any:
    """`datasets`, which then raises its errors without logging them as well."""
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    return datasets
