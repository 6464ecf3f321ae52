"""Sentences removed from stories: the forms of rows, what is given and hidden, and ROUGE of what is written."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import UNHURRIED
from zero_shot_rows import publish

import remask
from remask import cli
from remask.errors import RemaskError
from remask.evaluation.infilling import infill, read_items
from remask.evaluation.rouge import rouge, scorer
from remask.evaluation.stories import Item, of_text, sentences_removed
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked

STORY = {"storyid": "s", "storytitle": "T", **{f"sentence{i}": f"Part {i}." for i in range(1, 6)}}
CLOZE = {
    "InputStoryid": "c", **{f"InputSentence{i}": f"Part {i}." for i in range(1, 5)},
    "RandomFifthSentenceQuiz1": "Wrong.", "RandomFifthSentenceQuiz2": "Part 5.", "AnswerRightEnding": 2,
}  # fmt: skip
TEXT = {"text": "He ran.  He fell. He cried.", "sentence": "He fell.", "id": "t"}


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("row", [STORY, CLOZE], ids=["story", "cloze"])
@pytest.mark.parametrize(
    ("sentences", "before", "middle", "after"),
    [
        ("3", "Part 1. Part 2.", " Part 3.", " Part 4. Part 5."),
        ("2-4", "Part 1.", " Part 2. Part 3. Part 4.", " Part 5."),
        ("1", "", "Part 1.", " Part 2. Part 3. Part 4. Part 5."),
        ("5", "Part 1. Part 2. Part 3. Part 4.", " Part 5.", ""),
    ],
)
def test_stories(row: dict[str, Any], sentences: str, before: str, middle: str, after: str, tmp_path: Path) -> None:
    (item,) = read_items(written(tmp_path / "stories.jsonl", row), sentences=sentences)
    assert item == Item(item.task, before, middle, after, prose=True) and item.task in ("s", "c")


def test_a_table_holds_stories(tmp_path: Path) -> None:
    with open(tmp_path / "stories.csv", "w", newline="") as file:
        table = csv.DictWriter(file, CLOZE.keys())
        table.writeheader()
        table.writerows([CLOZE, CLOZE | {"InputStoryid": "d", "AnswerRightEnding": "1"}])
    found = read_items(tmp_path / "stories.csv", sentences="5")
    assert [(item.task, item.middle) for item in found] == [("c", " Part 5."), ("d", " Wrong.")]


def test_a_text_and_its_sentence(tmp_path: Path) -> None:
    """The space before the sentence is its own; where there is no id, the line names the task."""
    path = written(tmp_path / "texts.jsonl", TEXT, {"text": "One. Two.", "sentence": "One."})
    first, second = read_items(path)
    assert first == Item("t", "He ran.", "  He fell.", " He cried.", prose=True)
    assert second == Item(f"{path}, line 2", "", "One.", " Two.", prose=True)


@UNHURRIED
@given(st.text(), st.text(min_size=1), st.text())
def test_the_parts_make_the_text(before: str, sentence: str, after: str) -> None:
    text = before + sentence + after
    if sentence.strip() and text.count(sentence.strip()) == 1:
        item = of_text({"text": text, "sentence": sentence}, "here")
        assert item.before + item.middle + item.after == text.strip() and item.middle.endswith(sentence.strip())


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            TEXT | {"sentence": "He"},
            "line 1: the field 'sentence' must stand once in 'text', and it stands there 3 times",
        ),
        (TEXT | {"sentence": ""}, "line 1: the field 'sentence' must be a text that is not empty"),
        (STORY | {"sentence4": 7}, "line 1: the field 'sentence4' must be a text that is not empty"),
        (CLOZE | {"AnswerRightEnding": 3}, "line 1: the field 'AnswerRightEnding' is '3'; it must be 1 or 2"),
    ],
)
def test_rows_that_are_wrong(row: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=says):
        read_items(written(tmp_path / "stories.jsonl", row))


@pytest.mark.parametrize("text", ["0", "6", "1-5", "4-2", "x", "2-", ""])
def test_sentences_that_are_wrong(text: str) -> None:
    with pytest.raises(RemaskError, match=f"sentences is {text!r}; it must be the place of one of five, as 3, or"):
        sentences_removed(text)


# ROUGE


def rouge_there() -> None:
    try:
        scorer()
    except RemaskError as error:
        pytest.skip(str(error))


def test_rouge_by_hand() -> None:
    rouge_there()
    found = rouge([("the cat sat", "The cat ran away"), ("one two", "one two")])
    f1, f2 = 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4), 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)
    assert found["ROUGE-1"].value == pytest.approx((f1 + 1) / 2)
    assert found["ROUGE-2"].value == pytest.approx((f2 + 1) / 2)
    assert found["ROUGE-L"].value == pytest.approx((f1 + 1) / 2)
    assert found["ROUGE-1"].error == pytest.approx((1 - f1) / 2), "of two values"
    assert rouge([("running", "runs")])["ROUGE-1"].value == 0, "no stems"


@pytest.mark.parametrize("family", [Masked(), Autoregressive()], ids=["masked", "left"])
def test_stories_are_filled_and_measured(family: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rouge_there()
    run = publish(tmp_path / "model", family)
    source = written(tmp_path / "stories.jsonl", TEXT, STORY | {"storyid": "u", "sentence3": "x " * 99}, STORY)
    cli.main(["bench", "infill", str(run), str(source), "--json", "--precision", "fp32"])
    found = json.loads(capfd.readouterr().out)
    assert found["left_out"] == ["u"] and set(found["completions"]) == {"t", "s"} and found["rouge"].keys() == {
        "ROUGE-1", "ROUGE-2", "ROUGE-L"
    }  # fmt: skip
    cli.main(["bench", "infill", str(run), str(source), "--limit", "1", "--precision", "fp32"])
    seen = "both sides" if isinstance(family, Masked) else "only the text before"
    said = capfd.readouterr().out
    assert said.startswith("ROUGE-1 0.") and "(0 of 1 tasks); " + seen in said


def test_what_is_written_right_has_a_rouge_of_1(masked_run: Path) -> None:
    """The true sentence is taken from what the model writes: letters, as it has learnt."""
    rouge_there()
    model = remask.load(masked_run)
    text = infill(model, [Item("a", "abcab", "......", "cabca", prose=True)]).completions["a"]
    found = infill(model, [Item("a", "abcab", text, "cabca", prose=True)])
    assert found.right == 1 and found.rouge is not None and found.rouge["ROUGE-1"].value == 1


def test_a_missing_package_is_named_before_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    model = remask.load(publish(tmp_path / "model", Masked()))
    with pytest.raises(RemaskError, match=r"ROUGE needs another package \(.*\): pip install 'remask\[rouge\]'"):
        infill(model, [Item("a", "b", " c", " d", prose=True)])
