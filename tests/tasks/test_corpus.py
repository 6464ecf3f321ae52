"""A corpus of tasks: prepared end to end, with validation on questions that training does not hold."""

from pathlib import Path

import numpy as np
import pytest
from corpora import texts

from remask.cli import main
from remask.data.tokens import Prepared, open_tokens, prepare
from remask.errors import RemaskError
from remask.tasks.base import task_of
from remask.tasks.corpus import parse, validation_of


def documents_of(prepared: Prepared, split: str) -> list[str]:
    ids = getattr(prepared, split).ids
    ends = np.flatnonzero(ids == prepared.tokenizer.vocabulary.end)
    return [prepared.tokenizer.decode(part[:-1].tolist()) for part in np.split(ids, ends + 1)[:-1]]


def lists(documents: list[str]) -> set[tuple[str, ...]]:
    """What is to be sorted, in order: the words of the answers."""
    return {tuple(sorted(document.rpartition(":")[2].split())) for document in documents}


def test_prepare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["prepare", "task:Sort+Shuffle,items=2,documents=600", "--out", str(tmp_path / "out"), "--vocab-size", "400"])
    prepared = open_tokens(tmp_path / "out")
    train, valid = documents_of(prepared, "train"), documents_of(prepared, "valid")
    assert (len(train), len(valid)) == (600, 12)
    assert train == texts("task:Sort+Shuffle,items=2,documents=600")
    assert not lists(train) & lists(valid)
    assert prepared.manifest["validation"] == "task:Sort+Shuffle,items=2,documents=12,split=valid"
    again = prepare("task:Sort+Shuffle,items=2,documents=600", tmp_path / "out", vocab_size=400)
    assert again.manifest == prepared.manifest


def test_options_go_to_the_tasks_that_have_them() -> None:
    corpus = parse("task:Sort+Sudoku+Countdown,items=3,holes=2,documents=200000,seed=7")
    assert corpus.tasks == (task_of("Sort:items=3"), task_of("Sudoku:holes=2"), task_of("Countdown"))
    assert (corpus.documents, corpus.seed, corpus.split) == (200_000, 7, "train")
    assert parse("task:Sort").tasks == (task_of("Sort"),)


def test_tasks_take_turns_with_questions_of_their_own() -> None:
    copies, reverses = (texts("task:Copy+Reverse,documents=40")[start::2] for start in (0, 1))
    assert all(len(set(text.rpartition(":")[2].split())) == 6 for text in copies)
    assert not lists(copies) & lists(reverses)


MORE = ("", ",seed=1", ",split=valid", ",split=test")


def test_seed_and_split_choose_other_documents() -> None:
    assert len({tuple(texts(f"task:Copy,documents=9{more}")) for more in MORE}) == 4


def test_validation_of_another_source(tmp_path: Path) -> None:
    source = "task:Copy,items=3,documents=50"
    prepared = prepare(source, tmp_path, tokenizer="bytes", validation="task:Sort,items=3,documents=5,split=test")
    assert documents_of(prepared, "valid") == texts("task:Sort,items=3,documents=5,split=test")
    assert validation_of("task:Copy, documents = 10, items=3,split=train", 0.02) == (
        "task:Copy, items=3,documents=1,split=valid"
    )


def test_too_few_questions_for_validation(tmp_path: Path) -> None:
    source = "task:Countdown,numbers=2,largest=1,documents=3"
    with pytest.raises(RemaskError, match="the test split; it has too few"):
        prepare(source, tmp_path / "out", tokenizer="bytes", validation=f"{source},split=test")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("task:Srt,items=3", "unknown task 'Srt'. Did you mean 'Sort'"),
        ("task:", "unknown task ''"),
        ("task:Sort+", "unknown task ''"),
        ("task:Sort,holes=3", "unknown option of task:Sort 'holes'.*documents, items, seed, split"),
        ("task:Sort,documents=0", "documents=0.*at least 1"),
        ("task:Sort,documents", "documents has no value"),
        ("task:Sort,documents=-5", "from 0 to 2147483648"),
        ("task:Sort,split=dev", "train, valid or test"),
        ("task:Sort,split=valid", "leave split=valid out, .*--validation"),
        ("task:Sort,split=test", "--validation"),
        ("task:Sort,items=64", "1 to 63 items"),
    ],
)
def test_wrong_sources_are_named(source: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=says):
        prepare(source, tmp_path / "out")
