"""Questions of files in the forms of d1 and Dream, which are the test split and no part of training."""

from itertools import islice
from pathlib import Path

import pytest

from remask.errors import RemaskError
from remask.tasks.base import task_of
from remask.tasks.countdown import Countdown
from remask.tasks.sudoku import Sudoku

PROMPTS = Path(__file__).parents[3] / "shared" / "data" / "prompts"
TABLE = "Puzzle,Solution\n0234341221434321,1234341221434321\n0000000000000001,\n"
ROWS = '{"input": "0234\\n3412\\n2143\\n4321", "output": "1234\\n3412\\n2143\\n4321"}\n'


def questions(task: Sudoku | Countdown, split: str, count: int) -> list[object]:
    return [one.question for one in islice(task.examples(split, 0, 0), count)]  # type: ignore[arg-type]


def test_puzzles_of_a_table_and_of_rows(tmp_path: Path) -> None:
    (tmp_path / "d1.csv").write_text(TABLE)
    (tmp_path / "dream.jsonl").write_text("\n" + ROWS + "\n")
    table, rows = (Sudoku(file=str(tmp_path / name)) for name in ("d1.csv", "dream.jsonl"))
    first = (0, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1)
    assert questions(table, "test", 4) == [first, (*[0] * 15, 1), first, (*[0] * 15, 1)]
    assert questions(rows, "test", 1) == [first]
    assert next(rows.examples("test", 0, 0)).answer == " 1 2 3 4 / 3 4 1 2 / 2 1 4 3 / 4 3 2 1"
    assert table.right((*[0] * 15, 1), "1 2 3 4 / 3 4 1 2 / 2 1 4 3 / 4 3 2 1"), "one of several solutions"


def test_countdowns(tmp_path: Path) -> None:
    path = tmp_path / "cd.jsonl"
    path.write_text('{"input": "15,44,79,50", "output": "44-15=29,79-29=50"}\n{"input": "3, 4,7"}\n')
    task = Countdown(file=str(path))
    assert questions(task, "test", 2) == [((15, 44, 79), 50), ((3, 4), 7)]
    for example in islice(task.examples("test", 0, 0), 2):
        assert task.right(example.question, example.answer)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_what_is_published_is_in_no_corpus(split: str, tmp_path: Path) -> None:
    """Also what the hash would have put there; by its key, so that no other order of the numbers is."""
    plain = Countdown(numbers=2, largest=6)
    some = questions(plain, split, 40)
    (numbers, target), path = some[0], tmp_path / "cd.jsonl"  # type: ignore[misc]
    path.write_text(f'{{"input": "{numbers[1]},{numbers[0]},{target}"}}\n')
    task = Countdown(numbers=2, largest=6, file=str(path))
    left = questions(task, split, 40)
    key = plain.key(some[0])  # type: ignore[arg-type]
    assert key in map(plain.key, some) and key not in map(plain.key, left)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "name", "content", "says"),
    [
        ("Sudoku", "none.csv", None, "cannot read .*none.csv: No such file"),
        ("Sudoku", "a.csv", "Question\n1\n", "has no column 'Puzzle'; its columns: Question"),
        ("Sudoku", "a.csv", "", "has no column 'Puzzle'"),
        ("Sudoku", "a.csv", "Puzzle\n", "a.csv has no questions"),
        ("Sudoku", "a.csv", "Puzzle\n" + "1" * 200_000 + "\n", "a.csv, line 2: '1{80}' is no sudoku"),
        ("Sudoku", "a.csv", "Puzzle\n0234341221434321\n123\n", "a.csv, line 3: '123' is no sudoku: 16 digits"),
        ("Sudoku", "a.csv", "Puzzle\n5000000000000000\n", "line 2: .* from 0 to 4"),
        ("Sudoku", "a.csv", "Puzzle\n1100000000000000\n", "line 2: the sudoku '1100000000000000' has no solution"),
        ("Sudoku", "a.jsonl", '{"puzzle": "1"}\n', "a.jsonl, line 1: a question is .*input"),
        ("Sudoku", "a.jsonl", '{"input": 3}\n', "a.jsonl, line 1: a question is .*input"),
        ("Sudoku", "a.jsonl", "[1]\n", "a.jsonl, line 1: it is not a JSON object but a list"),
        ("Sudoku", "a.jsonl", b"\xff\n", "is not UTF-8: byte 0 is 0xff"),
        (
            "Countdown",
            "a.jsonl",
            '\n{"input": "1,2,3,4,5,6"}\n',
            "line 2: '1,2,3,4,5,6' is no countdown: 2 to 4 numbers",
        ),
        ("Countdown", "a.jsonl", '{"input": "1,two,3"}\n', "line 1: .*each from 1 to 100"),
        ("Countdown", "a.jsonl", '{"input": "1,1,99"}\n', "no expression of the numbers 1, 1 is 99"),
    ],
)
def test_bad_files_are_named(task: str, name: str, content: str | bytes | None, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RemaskError, match=says):
        next(task_of(f"{task}:file={tmp_path / name}").examples("test"))


@pytest.mark.skipif(not PROMPTS.is_dir(), reason="the published prompts are not here")
@pytest.mark.parametrize(
    ("task", "name", "number"),
    [
        ("Sudoku", "d1_4x4_test_sudoku.csv", 500),
        *(("Sudoku", f"dream_sudoku_4x4_{givens}.jsonl", 108) for givens in (4, 8, 12)),
        *(("Countdown", f"dream_cd{numbers}_test.jsonl", 1000) for numbers in (3, 4)),
    ],
)
def test_the_published_files_can_be_asked(task: str, name: str, number: int) -> None:
    asked = task_of(f"{task}:file={PROMPTS / name}")
    assert len(set(asked.published())) == number
    for example in islice(asked.examples("test", 0, 0), 20):
        assert asked.right(example.question, example.answer)
