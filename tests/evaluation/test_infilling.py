"""Infilling of files of tasks: graded by exact match, from both sides or from the left, and files that are wrong."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from tables import tiny

import remask
from remask import cli
from remask.checkpoints.checkpoint import Checkpoint
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.evaluation.infilling import Item, infill, read_items, row_of
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked

BYTES = Tokenizer.bytes()
ITEMS = [
    Item("a", "def f(x):\n", "    return x\n", "\nf(1)\n"),
    Item("b", "x = ", "é", ""),
    Item("c", "y", "z" * 80, ""),
]


def model(family: Any) -> Checkpoint:
    family = family.over(BYTES.vocabulary)
    return Checkpoint(tiny(family.vocabulary.size, family.vocabulary.predicted), family, BYTES, {})


MASKED, LEFT = model(Masked()), model(Autoregressive())


def line(item: Item) -> str:
    fields = {"task_id": item.task, "prompt": item.before, "canonical_solution": item.middle, "suffix": item.after}
    return json.dumps(fields | {"test": "assert False"}) + "\n"


def test_what_a_model_sees() -> None:
    both, left = (row_of(m, ITEMS[0]) for m in (MASKED, LEFT))
    assert both == [*b"def f(x):\n", *[None] * 13, *b"\nf(1)\n"] and left == both[:23]


@pytest.mark.parametrize("m", [MASKED, LEFT], ids=["masked", "left"])
def test_the_holes_are_filled_as_sample_fills_them(m: Checkpoint) -> None:
    found = infill(m, [*ITEMS, Item("d", "x", "", "y")])
    assert set(found.completions) == {"a", "b"} and found.left_out == ("c", "d")
    text = found.completions["a"]
    if m is MASKED:
        whole = remask.sample(m, infill="def f(x):\n[MASK:13]\nf(1)\n", temperature=0.0, sampler="Confidence").text
        assert whole == f"def f(x):\n{text}\nf(1)\n"
    else:
        assert text == remask.sample(m, prompt="def f(x):\n", length=13, temperature=0.0, stop=False).text
    assert found.sees_suffix == (m is MASKED)
    assert infill(m, ITEMS, batch=1).completions == found.completions


def test_a_right_answer_is_counted(masked_run: Path) -> None:
    """The true middle is taken from what the model writes, so that exactly the first of two is right."""
    m, item = remask.load(masked_run), Item("a", "abcab", "......", "cabca")
    text = infill(m, [item]).completions["a"]
    assert len(text) == 6 and text.isascii(), "letters, as it has learnt"
    found = infill(m, [Item("a", "abcab", text, "cabca"), ITEMS[1]])
    assert (found.right, found.exact_match) == (1, 0.5)
    assert found.exact_match_stderr == pytest.approx(math.sqrt(0.25 / 2))
    assert "exact match 0.5000 +- 0.3536 (1 of 2 tasks); both sides" in str(found)


def test_the_command(masked_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "tasks.jsonl.gz", tmp_path / "out.jsonl"
    source.write_bytes(gzip.compress("".join(map(line, ITEMS)).encode()))
    command = ["bench", "infill", str(masked_run), str(source), "--precision", "fp32", "--temperature", "1"]
    cli.main([*command, "--json", "--out", str(out)])
    found = json.loads(capfd.readouterr().out)
    assert found["left_out"] == ["c"] and found["sees_suffix"] and found["exact_match"] == found["right"] / 2
    rows = [json.loads(row) for row in out.read_text().splitlines()]
    assert {row["task_id"]: row["completion"] for row in rows} == found["completions"]
    cli.main([*command, "--limit", "1"])
    assert "of 1 tasks); both sides of the hole are seen, and its length is given" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "holds no tasks"),
        ("[1]\n", "line 1: the field 'task_id' must be a text; the fields are task_id, .* or those of stories"),
        (line(ITEMS[0]) + '{"task_id": "b", "prompt": "x"}\n', "line 2: the field 'canonical_solution' must be a text"),
        ("{\n", "line 1: it is not JSON"),
    ],
    ids=["empty", "list", "field", "json"],
)
def test_files_that_are_wrong(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "tasks.jsonl").write_text(content)
    with pytest.raises(RemaskError, match=says):
        read_items(tmp_path / "tasks.jsonl")
    with pytest.raises(RemaskError, match="no file of tasks at"):
        read_items(tmp_path / "nowhere")
    with pytest.raises(RemaskError, match="limit is 0"):
        read_items(tmp_path / "tasks.jsonl", 0)


@pytest.mark.parametrize("name", ["SingleLineInfilling", "MultiLineInfilling", "RandomSpanInfilling"])
def test_the_published_files(name: str) -> None:
    path = Path(__file__).parents[2] / f"../shared/data/prompts/HumanEval-{name}.jsonl.gz"
    if not path.exists():
        pytest.skip("the files of HumanEval-infilling are not there")
    items = read_items(path)
    assert len(items) == {"S": 1033, "M": 5815, "R": 1640}[name[0]]
    assert len({item.task for item in items}) == len(items) and all(item.before for item in items)


def test_names_that_stand_twice_are_named_and_huge_fields_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line(ITEMS[0]) + line(ITEMS[1]) + line(ITEMS[0]))
    with pytest.raises(RemaskError, match="line 3: a row before it is 'a' too"):
        read_items(path)
    path = tmp_path / "a.csv"
    path.write_text("storyid,sentence1,sentence2,sentence3,sentence4,sentence5\na,b,c," + "d" * 200_000 + ",e,f\n")
    (item,) = read_items(path)
    assert len(item.before + item.middle + item.after) > 200_000
