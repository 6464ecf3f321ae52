"""What every reader of a corpus is told, what it yields, and where it notes what it leaves out."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Undecodable = Literal["stop", "skip"]

EXAMPLES = 3
"""How many names are kept for each reason that something was left out."""


@dataclass(frozen=True)
class Document:
    """A text and where it came from."""

    text: str
    name: str
    """The file, or the place in it, such as `rows.jsonl#3`."""
    ends: bool = True
    """False where the next document continues this one, so that no end-of-text token stands between them."""


@dataclass
class Omissions:
    """What a corpus holds that was not read: how much of it, why, and a few examples."""

    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    """Number of files or records by reason."""
    examples: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """The first few names by reason."""

    def add(self, reason: str, name: str) -> None:
        """Notes one file or record that is not read."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self.examples.setdefault(reason, [])
        if len(names) < EXAMPLES:
            names.append(name)

    def copy(self) -> "Omissions":
        """The same as it stands now."""
        return Omissions(dict(self.counts), {reason: list(names) for reason, names in self.examples.items()})

    def lines(self) -> Iterator[str]:
        """One line for each reason, such as `not read: files that look binary (12): a.png, b.png, c.png, ...`."""
        for reason, count in self.counts.items():
            names = ", ".join(self.examples[reason]) + (", ..." if count > EXAMPLES else "")
            yield f"not read: {reason} ({count:,}): {names}"


@dataclass(frozen=True)
class Reading:
    """How a corpus is read. The same for all of its files."""

    field: str = "text"
    """The field of a record, or the column of a table, that holds the text."""
    separator: str | None = None
    """What stands between the documents of a text file; None for lines of <|endoftext|>."""
    undecodable: Undecodable = "stop"
    """Whether a text file or a record that cannot be read stops everything or is left out."""
    omissions: Omissions = dataclasses.field(default_factory=Omissions)
    """Where whatever is left out is noted."""
