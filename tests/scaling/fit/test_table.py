"""Tables of runs as people have them: which column is what, what the cells say, and what is left out."""

import codecs
import json
from pathlib import Path

import pytest

from remask.cli import main
from remask.errors import RemaskError
from remask.scaling.fit.source import Source, read_source

ROWS = ("2e7,7e9,3.5", "4e7,3e9,3.4", "9e7,2e9,3.3")


def table(folder: Path, header: str, *lines: str) -> Path:
    path = folder / "runs.csv"
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return path


def sizes(found: Source) -> list[float]:
    (points,) = found.families.values()
    return points.n.tolist()


@pytest.mark.parametrize(
    "header", ["params,non_embedding,tokens,loss", "total_params,N,tokens,loss", "All Parameters,params,tokens,loss",
               "parameters,Non-Embedding Parameters,tokens,loss", "parameters,params_without_embeddings,tokens,loss"],
)  # fmt: skip
def test_n_is_the_column_without_embeddings(tmp_path: Path, header: str) -> None:
    found = read_source(table(tmp_path, header, "3e7,2e7,7e9,3.5", "5e7,4e7,3e9,3.4"))
    assert sizes(found) == [2e7, 4e7] and "N is the column" in found.notes[0]


def test_of_two_columns_that_could_be_n_none_is_taken(tmp_path: Path) -> None:
    path = table(tmp_path, "params,parameters,tokens,loss", "3e7,2e7,7e9,3.5", "5e7,4e7,3e9,3.4")
    says = r"columns 'params' and 'parameters', which could be N: say which by --columns n=\.\.\."
    with pytest.raises(RemaskError, match=says):
        read_source(path)
    assert sizes(read_source(path, "n=parameters")) == [2e7, 4e7]
    same = table(tmp_path, "params,parameters,tokens,loss", "2e7,2e7,7e9,3.5", "4e7,4e7,3e9,3.4")
    assert sizes(read_source(same)) == [2e7, 4e7]
    with pytest.raises(RemaskError, match="'loss' and 'val_loss', which could be loss"):
        read_source(table(tmp_path, "N,D,loss,val_loss", "2e7,7e9,3.5,3.6"))


def test_numbers_that_no_run_has(tmp_path: Path) -> None:
    for row, says in (
        ("2e7,7e9,3.5,1e300", "line 2: stderr is 1e300; a standard error must be at most the loss"),
        (f"{'9' * 5000},7e9,3.5,0.1", r"line 2: N is 9{40}; it must be above 0, and finite$"),
        (f"{'x' * 5000},7e9,3.5,0.1", "line 2: N is 'x{40}', not a number$"),
    ):
        with pytest.raises(RemaskError, match=says):
            read_source(table(tmp_path, "N,D,loss,stderr", row))


def test_columns_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path, "width,Size,seen,final,model", "64,2e7,7e9,3.5,a", "64,4e7,3e9,3.4,a", "64,4e7,4e9,3.3,a")
    main(["scale", "fit", str(path), "--columns", "n=size,d=seen,loss=final,family=", "--draws", "0", "--json"])
    assert list(json.loads(capsys.readouterr().out)["families"]) == [""]
    for columns, says in (
        ("n=sice", r"--columns n=sice: .* has no such column; it has width, Size"),
        ("m=size", "unknown key in --columns 'm'"),
        ("n", "--columns n: n has no column; write n=COLUMN"),
    ):
        with pytest.raises(RemaskError, match=says):
            read_source(path, columns)
    with pytest.raises(RemaskError, match=r"has no column N, loss, D or C; .* Name columns by --columns"):
        read_source(path)
    with pytest.raises(RemaskError, match="is a folder"):
        read_source(tmp_path, "n=size")


@pytest.mark.parametrize(
    "text",
    ["N;D;loss\n22.579.796;7,4e9;3,52755\n45.159.591;3,7e9;3,38144\n",
     "N\tD\tloss\n22579796\t7.4B\t3.52755\n45 159 591\t3700M\t3.38144\n",
     'N,D,loss\n"22,579,796",7.4e9,3.52755\n"45,159,591",3.7e9,3.38144\n',
     "sep=;\nN;D (B);loss\n22579796;7.4;3.52755\n45159591;3.7;3.38144\n",
     "\n N , D , loss \n 22579796 , 7.4e9 , 3.52755 \n\n 45159591 , 3.7e9 , 3.38144 \n,,\n"],
)  # fmt: skip
def test_separators_units_and_commas(tmp_path: Path, text: str) -> None:
    for encoded in (text.encode(), codecs.BOM_UTF8 + text.encode(), text.encode("utf-16")):
        (tmp_path / "runs.csv").write_bytes(encoded)
        (points,) = read_source(tmp_path / "runs.csv").families.values()
        assert points.n.tolist() == [22579796, 45159591] and points.loss.tolist() == [3.52755, 3.38144]
        assert points.d.tolist() == pytest.approx([7.4e9, 3.7e9])


def test_signs_that_cannot_be_told(tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=r"'3\.52' has a decimal point, and '3,41' a decimal comma"):
        read_source(table(tmp_path, "N;D;loss", "2e7;7e9;3.52", "4e7;3e9;3,41"))
    with pytest.raises(RemaskError, match=r"line 2: loss is '3,527', whose comma may be a decimal comma"):
        read_source(table(tmp_path, "N;D;loss", "2e7;7e9;3,527"))
    with pytest.raises(
        RemaskError, match="line 3 has 4 cells, and the header 3: a number with a comma needs quotation"
    ):
        read_source(table(tmp_path, "N,D,loss", "2e7,7e9,3.5", "4e7,3e9,3,41"))


@pytest.mark.parametrize("cell", ["", "nan", "NA", "null", "inf"])
def test_a_run_without_a_loss_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cell: str
) -> None:
    main(["scale", "fit", str(table(tmp_path, "N,D,loss", *ROWS, f"99000000,,{cell}")), "--draws", "0"])
    out = capsys.readouterr().out
    assert "runs: 3 runs" in out and ": line 5\n" in out


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    """Blank lines, rows of nothing but commas, and cells of two lines count as the editor counts them."""
    with pytest.raises(RemaskError, match="line 8: D is 'x', not a number"):
        read_source(table(tmp_path, 'N,D,loss,"a\nnote"', *ROWS, "", ",,,", "2e7,x,3.5,"))


def test_rows_that_are_there_twice_count_once(tmp_path: Path) -> None:
    found = read_source(table(tmp_path, ",N,D,loss", *(f"{i},{row}" for i, row in enumerate(ROWS * 2))))
    assert sizes(found) == [2e7, 4e7, 9e7] and "lines 5, 6, 7" in found.notes[0]
    assert len(sizes(read_source(table(tmp_path, "seed,N,D,loss", "0,2e7,7e9,3.5", "1,2e7,7e9,3.5")))) == 2


def test_names_are_unique_within_a_family(tmp_path: Path) -> None:
    lines = [f"{family},d{i},{row}" for family in ("ar", "mdm") for i, row in enumerate(ROWS)]
    found = read_source(table(tmp_path, "family,name,N,D,loss", *lines))
    assert {k: p.names for k, p in found.families.items()} == dict.fromkeys(("ar", "mdm"), ("d0", "d1", "d2"))
    with pytest.raises(RemaskError, match="family ar, names two runs 'd0'"):
        read_source(table(tmp_path, "family,name,N,D,loss", *lines, "ar,d0,9e7,7e9,3.1"))


def test_a_column_that_names_each_run_is_no_family(tmp_path: Path) -> None:
    found = read_source(table(tmp_path, "model,params,tokens,loss", *(f"{x},{row}" for x, row in zip("abc", ROWS))))
    (points,) = found.families.values()
    assert points.names == ("a", "b", "c") and "'model' names each network" in found.notes[0]
    sized = table(tmp_path, "model,params,tokens,loss", "small,2e7,7e9,3.5", "small,2e7,9e9,3.4", "large,4e7,7e9,3.3")
    assert len(sizes(read_source(sized))) == 3, "each has one size: they are networks"
    several = [f"{family},{row}" for family in ("gpt", "mdm") for row in ROWS]
    assert set(read_source(table(tmp_path, "model,params,tokens,loss", *several)).families) == {"gpt", "mdm"}


def test_sizes_that_are_hardly_meant_are_questioned(tmp_path: Path) -> None:
    for row, says in (
        ("0.1,2e9,3.1", r"line 2: N is 0\.1, hardly a number of parameters: .* as 0\.1M or 0\.1B; .* add --any_size"),
        ("1e15,2e9,3.1", r"N is 1e15, hardly a number of parameters: if it is meant"),
        ("1e8,2,3.1", "D is 2, hardly a number of tokens"),
    ):
        path = table(tmp_path, "N,D,loss", row)
        with pytest.raises(RemaskError, match=says):
            read_source(path)
        assert len(sizes(read_source(path, any_size=True))) == 1


def test_flops_are_as_the_table_counts_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path, "N,D,C,loss", "1e8,2e9,2e18,3.1", "2e8,2e9,4e18,3")
    main(["scale", "fit", str(path)])
    assert capsys.readouterr().out.startswith("FLOPs are as the table counts them; intervals")
    main(["scale", "report", str(path)])
    assert (
        "(counted as the table counts them, each run whole)" in (tmp_path / "runs" / "report" / "report.md").read_text()
    )


def test_a_budget_beside_the_flops_is_what_was_planned(tmp_path: Path) -> None:
    found = read_source(table(tmp_path, "N,D,budget,flops,loss", "1e8,2e9,1e18,1.2e18,3.1"))
    (points,) = found.families.values()
    assert points.c.tolist() == [1.2e18] and points.planned.tolist() == [1e18]
