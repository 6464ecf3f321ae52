"""Data sets by the name that `datasets` gives them: streamed, JSON without a guess at its types."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from corpora import texts, write

from remask.errors import RemaskError


@pytest.fixture
def datasets() -> Any:
    """The package, imported where it is needed: it takes seconds."""
    import datasets

    return datasets


def test_parquet_is_streamed(datasets: Any, tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["first é", "second"], "n": [1, 2]}).to_parquet(tmp_path / "train.parquet")
    assert texts(f"hub:{tmp_path}:train") == ["first é", "second"]
    with pytest.raises(RemaskError, match=r"has no field 'body'\. Its fields: n, text"):
        texts(f"hub:{tmp_path}", field="body")


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz", "train.json"])
def test_json_is_read_by_its_own_types(tmp_path: Path, name: str) -> None:
    records = [{"text": "2024-01-01", "meta": 1}, {"text": "2024-01-02", "meta": "x"}, {"text": "b", "more": []}]
    lines = json.dumps(records) if name == "train.json" else "".join(json.dumps(record) + "\n" for record in records)
    write(tmp_path / name, gzip.compress(lines.encode()) if name.endswith(".gz") else lines)
    assert texts(f"hub:{tmp_path}") == ["2024-01-01", "2024-01-02", "b"]


def test_a_bad_record_names_its_file_and_line(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", '\ufeff{"text": "a"}\n{"text": 1}\n')
    with pytest.raises(RemaskError, match=r"hub:.*, train\.jsonl, line 2: field 'text' is not text but a number"):
        texts(f"hub:{tmp_path}")
    assert texts(f"hub:{tmp_path}", undecodable="skip") == ["a"]


def test_an_unknown_split_and_a_missing_name(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", '{"text": "a"}\n')
    with pytest.raises(RemaskError, match=r"cannot read hub:.*nowhere"):
        texts(f"hub:{tmp_path}:nowhere")
    with pytest.raises(RemaskError, match="write hub:OWNER/NAME"):
        texts("hub:")
