"""Data sets as `datasets` keeps them: streamed from the Hub, or saved to a folder with `save_to_disk`."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from remask.data.json_files import records_in, text_of
from remask.data.reading import Document, Reading
from remask.data.records import Record, missing_field, record_documents
from remask.data.streams import HEAD, encoding
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
    """The records of a split. JSON is read here: `datasets` guesses the types of all fields from the first ones."""
    datasets = _library()
    from datasets.packaged_modules.json.json import Json

    try:
        builder = datasets.load_dataset_builder(name, config)
        files = builder.config.data_files
        if isinstance(builder, Json) and files and split in files:
            for url in files[split]:
                yield from _json(str(url), field)
            return
        for number, record in enumerate(builder.as_streaming_dataset(split=split), start=1):
            yield Record(f"record {number}", record.get(field), None if field in record else tuple(record))
    except (RemaskError, GeneratorExit):
        raise
    except Exception as error:  # pyarrow, fsspec, the Hub and zlib each have their own
        raise RemaskError(f"cannot read {source}: {first_line(error)}") from error


def _json(url: str, field: str) -> Iterator[Record]:
    """The records of a JSON file at any address that `fsspec` opens."""
    import fsspec

    with fsspec.open(url, "rb", compression="infer") as raw:
        start: bytes = raw.read(HEAD)  # type: ignore[union-attr]
        raw.seek(0)  # type: ignore[union-attr]
        file = io.TextIOWrapper(cast(BinaryIO, raw), encoding=encoding(start), errors="surrogateescape", newline="")
        place = url.rpartition("/")[2]
        for record in records_in(file, text_of(start), field, lines=False):
            yield replace(record, where=f"{place}, {record.where}")


def saved_documents(folder: Path, name: str, reading: Reading) -> Iterator[Document]:
    """The documents of a folder of `save_to_disk`, in the order of its indices if it has some."""
    datasets = _library()
    try:
        saved: Any = datasets.load_from_disk(str(folder))
    except Exception as error:  # as above
        raise RemaskError(f"cannot read {folder} as a folder of save_to_disk: {first_line(error)}") from error
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
