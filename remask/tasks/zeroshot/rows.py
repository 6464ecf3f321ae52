"""One row of a benchmark's file, whose fields are checked as they are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remask.data.records import type_name
from remask.errors import RemaskError


@dataclass(frozen=True)
class Row:
    """The fields of a row. What reads one raises RemaskError, with the place of the row and the name of the field."""

    fields: Mapping[str, Any]
    where: str
    """File and line, for messages."""

    def form(self, *forms: Sequence[str]) -> int:
        """The place, among several forms of rows, of the first whose first field the row has.

        RemaskError where the row has none of them, and for every field of its form that it lacks.
        """
        found = next((i for i, form in enumerate(forms) if form[0] in self.fields), None)
        if found is None:
            wanted = " or ".join(f"{form[0]!r}" for form in forms)
            raise RemaskError(f"{self.where}: field {wanted} is missing; the row has {self.names}")
        for name in forms[found]:
            if name not in self.fields:
                raise RemaskError(f"{self.where}: field {name!r} is missing; the row has {self.names}")
        return found

    @property
    def names(self) -> str:
        """The names of the fields that there are."""
        return ", ".join(self.fields) or "no fields"

    def text(self, name: str) -> str:
        """A field that holds text."""
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def texts(self, name: str) -> list[str]:
        """A field that holds a list of at least one text, of which none is empty."""
        return self._texts(self.fields.get(name), name)

    def labelled(self, name: str) -> tuple[list[str], list[str]]:
        """The texts and the labels of a field {"text": [...], "label": [...]}."""
        value = self.fields.get(name)
        if not isinstance(value, Mapping):
            raise self.wrong(name, 'an object {"text": [...], "label": [...]}')
        texts, labels = (self._texts(value.get(key), f"{name}.{key}") for key in ("text", "label"))
        if len(texts) != len(labels):
            raise RemaskError(f"{self.where}: field {name!r} has {len(texts)} texts and {len(labels)} labels")
        return texts, labels

    def place(self, name: str, count: int, first: int = 0) -> int:
        """A field that says which of `count` answers is right, counted from `first`: a number, or its digits as text.

        The place is counted from 0.
        """
        value = self.fields.get(name)
        if isinstance(value, str) and value.strip().isdigit():
            value = int(value)
        if not isinstance(value, int) or not 0 <= int(value) - first < count:
            raise self.wrong(name, f"a number from {first} to {first + count - 1}")
        return int(value) - first

    def _texts(self, value: Any, name: str) -> list[str]:
        if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
            raise self.wrong(name, "a list of texts", value)
        for number, one in enumerate(value):
            if not one.strip():
                raise RemaskError(f"{self.where}: field {name!r}: answer {number + 1} of {len(value)} is empty")
        return value

    def wrong(self, name: str, wanted: str, value: Any = None) -> RemaskError:
        """The error for a field that holds something else than it should."""
        value = self.fields.get(name) if value is None else value
        short = isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 40)
        shown = repr(value) if short else type_name(value)
        return RemaskError(f"{self.where}: field {name!r} is {shown}; it must be {wanted}")
