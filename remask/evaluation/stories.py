"""Texts with a sentence removed, for infilling: rows of JSON Lines or of a table with a header, in three forms.

    {"text": "He ran. He fell. He cried.", "sentence": "He fell."}
    {"storyid": "a", "sentence1": ..., ..., "sentence5": ...}                  # ROCStories
    {"InputSentence1": ..., ..., "RandomFifthSentenceQuiz1": ..., "AnswerRightEnding": 1}   # its Story Cloze Test

Stories of five sentences lose those that are named: the third one, or the second to the fourth, as DiffuGPT was
measured (Gong et al. 2025). The space before a sentence counts as its own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remask.errors import RemaskError


@dataclass(frozen=True)
class Item:
    """A text with a hole."""

    task: str
    before: str
    middle: str
    """The text of the hole as it was."""
    after: str
    prose: bool = False
    """Whether it is a sentence, whose likeness to what is written is measured by ROUGE too."""
    tests: str | None = None
    """The program behind the text that tests it; None where there is none."""


TEXT = ("text", "sentence")
STORY = tuple(f"sentence{i}" for i in range(1, 6))
INPUTS = tuple(f"InputSentence{i}" for i in range(1, 5))
ENDINGS = ("RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2")
CLOZE = (*INPUTS, *ENDINGS, "AnswerRightEnding")


def story_item(record: Mapping[str, Any], removed: tuple[int, int], where: str) -> Item | None:
    """The item of a row; None where it has none of these forms. RemaskError, with file, line and field, where a field
    holds something else."""
    if all(name in record for name in TEXT):
        return of_text(record, where)
    form = next((form for form in (STORY, CLOZE) if all(name in record for name in form)), None)
    if form is None:
        return None
    name = "storyid" if form is STORY else "InputStoryid"
    if form is STORY:
        sentences = [text_of(record, field, where) for field in STORY]
    else:
        right = str(record["AnswerRightEnding"]).strip()
        if right not in ("1", "2"):
            raise RemaskError(f"{where}: the field 'AnswerRightEnding' is {right!r}; it must be 1 or 2")
        sentences = [text_of(record, field, where) for field in (*INPUTS, ENDINGS[int(right) - 1])]
    first, last = removed
    parts = [" ".join(sentences[: first - 1]), " ".join(sentences[first - 1 : last]), " ".join(sentences[last:])]
    middle = f" {parts[1]}" if parts[0] else parts[1]
    return Item(str(record.get(name) or where), parts[0], middle, f" {parts[2]}" if parts[2] else "", prose=True)


def of_text(record: Mapping[str, Any], where: str) -> Item:
    """The item of a text and the sentence that is removed from it."""
    text, sentence = (text_of(record, name, where) for name in TEXT)
    count = text.count(sentence)
    if count != 1:
        raise RemaskError(f"{where}: the field 'sentence' must stand once in 'text', and it stands there {count} times")
    before, _, after = text.partition(sentence)
    kept = before.rstrip()
    return Item(str(record.get("id", where)), kept, before[len(kept) :] + sentence, after, prose=True)


def text_of(record: Mapping[str, Any], name: str, where: str) -> str:
    """A field that holds text, without white space around it."""
    value = record[name]
    if not isinstance(value, str) or not value.strip():
        raise RemaskError(f"{where}: the field {name!r} must be a text that is not empty")
    return value.strip()


def sentences_removed(text: str) -> tuple[int, int]:
    """The first and the last sentence that a story loses, from "3" or "2-4". RemaskError for anything else."""
    match = re.fullmatch(r"\s*([1-5])\s*(?:-\s*([1-5]))?\s*", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last or (first, last) == (1, 5):
        raise RemaskError(
            f"sentences is {text!r}; it must be the place of one of five, as 3, or of some of them, as 2-4"
        )
    return first, last
