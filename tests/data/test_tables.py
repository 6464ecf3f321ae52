"""Tables: one column by its name, from CSV, TSV, Parquet and Arrow."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from corpora import texts, texts_and_omissions, write

from remask.data.corpus import documents
from remask.errors import RemaskError

TABLE = pyarrow.table({"text": ["first é", None, "second 🎉"], "n": [1, 2, 3]})


def write_arrow(path: Path, stream: bool) -> Path:
    make = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with pyarrow.OSFile(str(path), "wb") as file, make(file, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return path


@pytest.mark.parametrize("name", ["a.parquet", "A.PQ", "without-a-suffix"])
def test_parquet(tmp_path: Path, name: str) -> None:
    pyarrow.parquet.write_table(TABLE, tmp_path / name)
    assert texts_and_omissions(tmp_path / name) == (["first é", "second 🎉"], {"records without text in 'text'": 1})
    assert [document.name for document in documents(str(tmp_path / name))] == [f"{name}#0", f"{name}#2"]
    assert texts(tmp_path) == ["first é", "second 🎉"]


@pytest.mark.parametrize("stream", [False, True])
def test_arrow(tmp_path: Path, stream: bool) -> None:
    assert texts(write_arrow(tmp_path / "a.arrow", stream)) == ["first é", "second 🎉"]


@pytest.mark.parametrize("kind", [pyarrow.large_string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())])
def test_every_kind_of_text(tmp_path: Path, kind: pyarrow.DataType) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array(["a", "b"]).cast(kind)}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == ["a", "b"]


def test_columns_that_are_missing_or_no_text(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(TABLE, tmp_path / "a.parquet")
    with pytest.raises(RemaskError, match=r"a\.parquet has no field 'body'\. Its fields: n, text\."):
        texts(tmp_path / "a.parquet", field="body")
    for path in (tmp_path / "a.parquet", write_arrow(tmp_path / "a.arrow", True)):
        with pytest.raises(RemaskError, match="field 'n' is not text but int64"):
            texts(path, field="n")
    with pytest.raises(RemaskError, match=r"cannot read .*b\.parquet"):
        texts(write(tmp_path / "b.parquet", (tmp_path / "a.parquet").read_bytes()[:-20]))


def test_text_that_is_not_utf8_spoils_one_row(tmp_path: Path) -> None:
    bad = pyarrow.array([b"caf\xe9", b"good"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": bad}), tmp_path / "a.parquet")
    with pytest.raises(RemaskError, match=r"a\.parquet, row 1: field 'text' holds bytes that are not UTF-8"):
        texts(tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet", undecodable="skip") == ["good"]


@pytest.mark.parametrize(("name", "between"), [("a.csv", ","), ("a.CSV", ";"), ("a.tsv", "\t"), ("a.tab", "\t")])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv(tmp_path: Path, name: str, between: str, mark: str) -> None:
    rows = [["text", "n"], ['"one, ""quoted"";\nand two lines"', "1"], ["2024-01-01", "2"]]
    path = write(tmp_path / name, mark + "".join(between.join(row) + "\r\n" for row in rows))
    assert texts(path) == ['one, "quoted";\nand two lines', "2024-01-01"]
    assert texts(path, field="n") == ["1", "2"]
    assert texts(tmp_path) == texts(path)


def test_rows_that_do_not_fit_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,n\n"a\nb",1\nc\n\nd,2\n' + "e" * 200_000 + ",3\n")
    with pytest.raises(RemaskError, match=r"a\.csv, line 4: it has 1 cells, where the first row has 2"):
        texts(path)
    assert texts(path, undecodable="skip") == ["a\nb", "d", "e" * 200_000]


def test_a_header_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "text")
    path = write(tmp_path / "a.csv", '"text\nx')
    for source in (path, tmp_path):
        with pytest.raises(RemaskError, match=r"cannot read .*a\.csv: line 1: unexpected end of data"):
            texts(source)
    write(path, f"text,{'n' * 200_000}\nx,1\n")
    assert texts(tmp_path) == ["x", "text"]


def test_tables_without_the_column(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "title,body\nx,y\n")
    with pytest.raises(RemaskError, match=r"table without a column 'text'\. Its columns: title, body\..*--field"):
        texts(tmp_path / "a.csv")
    with pytest.raises(RemaskError, match=r"a\.csv is a table without a column 'text'"):
        texts(tmp_path)
    write(tmp_path / "b.py", "a program")
    assert texts_and_omissions(tmp_path) == (
        ["a program"],
        {"tables without a column 'text' (name one with --field)": 1},
    )
