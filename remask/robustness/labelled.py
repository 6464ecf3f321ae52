"""Files of labelled texts, and how a text and its label become one text for a model.

{"text": "the plot was dull", "label": "bad"}
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from remask.data.json_lines import numbered_lines, object_of
from remask.errors import RemaskError

FIELD = re.compile(r"\{(text|label)\}")


@dataclass(frozen=True)
class Labelled:
    """A text and what it is."""

    text: str
    label: str


@dataclass(frozen=True)
class Template:
    """How a text and its label become one text. What stands last is what is scored, given what stands before:
    "{text} => {label}" asks for p(label | text), and "{label}: {text}" for p(text | label)."""

    form: str = "{text} => {label}"

    def __post_init__(self) -> None:
        if sorted(FIELD.findall(self.form)) != ["label", "text"]:
            raise RemaskError(
                f"template is {self.form!r}; it must hold {{text}} and {{label}}, each once, as '{{text}} => {{label}}'"
            )

    @property
    def text_first(self) -> bool:
        """Whether the label is scored, given the text."""
        return self._parts[1] == "text"

    @cached_property
    def _parts(self) -> list[str]:
        return FIELD.split(self.form)  # before, field, between, field, behind

    @cached_property
    def before(self) -> str:
        """What stands before the first field, without the spaces at its end, which belong to the field."""
        return self._parts[0].rstrip(" ")

    @cached_property
    def between(self) -> str:
        """What stands between the fields, without the spaces at its end."""
        return self._parts[2].rstrip(" ")

    @cached_property
    def behind(self) -> str:
        """What stands behind the second field, and is scored with it."""
        return self._parts[4]

    def first(self, field: str) -> str:
        """The first field, with the spaces before it."""
        return self._parts[0][len(self.before) :] + field

    def last(self, field: str) -> str:
        """The last field, with the spaces before it and what stands behind it."""
        return self._parts[2][len(self.between) :] + field + self.behind

    def fill(self, one: Labelled) -> str:
        """The whole text, as a model is trained on."""
        return self.form.replace("{label}", one.label).replace("{text}", one.text)


def labelled_of(path: Path) -> Iterator[Labelled]:
    """The rows of a file of JSON lines. RemaskError names the file, the line and what is wrong with it."""
    for number, line in numbered_lines(path):
        yield parsed(line, f"{path}, line {number}")


def parsed(line: str, where: str) -> Labelled:
    """One line, checked."""
    record = object_of(line, where)
    for field in ("text", "label"):
        if not isinstance(record.get(field), str) or not record[field].strip():
            there = ", ".join(map(repr, record)) or "no fields"
            raise RemaskError(f"{where}: the field {field!r} must be text and not empty; the line has {there}")
    return Labelled(record["text"], record["label"])


def labels_in(rows: Sequence[Labelled], named: Sequence[str] | None, where: Path) -> list[str]:
    """The labels to choose from: those that are named, or else those of the rows, sorted.

    RemaskError where there are fewer than two, or a row has another one than those that are named.
    """
    found = sorted({row.label for row in rows})
    labels = list(dict.fromkeys(named)) if named else found
    if len(labels) < 2:
        raise RemaskError(f"{where} has the label {', '.join(labels)} only; name two or more with --labels [a,b]")
    other = [label for label in found if label not in labels]
    if other:
        raise RemaskError(f"{where} has the label {other[0]!r}, which is not among --labels {', '.join(labels)}")
    return labels
