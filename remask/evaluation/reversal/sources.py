"""The questions of a reversal test: from the published files, from couplets, from one's own rows, or generated.

A folder holds the files of Berglund et al. 2024 (`june_version_7921032488` of reverse_experiments), JSON Lines with
`prompt` and `completion`; a .json file is the list of couplets of LLaDA, objects with `first` and `second`; a .jsonl
file holds rows with `prompt` and `completion`; and `pairs:people=120` is a world of `remask.tasks.pairs`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remask.data.json_lines import numbered_lines, object_of, text_lines, value_of
from remask.data.records import type_name
from remask.errors import RemaskError
from remask.options import parse_options
from remask.tasks.pairs import AskedOrder, DescriptionOf, NameOf, Pairs

PAIRS = "pairs"
"""What names a generated world."""
FILES = {
    "name, same order": ("d2p_prompts_test.jsonl", None),
    "name, reversed": ("p2d_reverse_prompts_test.jsonl", "p2d_reverse_prompts_test_randomized.jsonl"),
    "description, same order": ("p2d_prompts_test.jsonl", None),
    "description, reversed": ("d2p_reverse_prompts_test.jsonl", "d2p_reverse_prompts_test_randomized.jsonl"),
    "both, told both ways": ("both_prompts_test.jsonl", None),
}
"""What is wanted, and in which order it was told; its published file, and that of the randomised control."""
NAME = re.compile(r"\s*([A-Z][\w'-]+ [A-Z][\w'-]+)")
"""A completion that begins with a person's name, as those of the published files do that ask for one."""
NEXT = "的下一句是什么？直接输出句子即可。"
BEFORE = "的上一句是什么？直接输出句子即可。"
"""Behind a line of a poem: which is the next line, or the one before; write the line itself, nothing else."""


@dataclass(frozen=True)
class Row:
    """A question."""

    prompt: str
    completion: str
    control: str | None
    """What belongs to somebody else, or None where there is no control."""
    subject: str
    """Rows of the same subject are one observation, asked in several ways."""


@dataclass(frozen=True)
class Cell:
    """Questions whose answers are counted together."""

    name: str
    rows: tuple[Row, ...]
    whole: tuple[Row, ...] = ()
    """All rows of the source, where only the first of them are asked."""

    def first(self, limit: int | None) -> "Cell":
        """The first so many rows, which are asked in the same way as all of them would be."""
        return Cell(self.name, self.rows[:limit], self.rows)

    @property
    def source(self) -> tuple[Row, ...]:
        """All rows of the source."""
        return self.whole or self.rows


def cells_of(source: str) -> list[Cell]:
    """The questions of a source (see the top of this module).

    Raises:
        RemaskError: there is no such file, or a row is no question, with file and line.
    """
    name, _, options = source.partition(":")
    if name == PAIRS and not Path(source).exists():
        return generated(options)
    path = Path(source)
    if path.is_dir():
        found = list(published(path))
        if not found:
            wanted = ", ".join(file for file, _ in FILES.values())
            raise RemaskError(f"{path} holds none of the files {wanted}")
        return found
    if not path.is_file():
        raise RemaskError(
            f"questions is {source!r}: there is no such folder or file; it may also be {PAIRS}:people=120,world=0"
        )
    if path.suffix == ".json":
        return couplets(path)
    return [Cell(path.stem, tuple(Row(prompt, text, None, text) for prompt, text in rows_in(path)))]


def generated(options: str) -> list[Cell]:
    """The questions of a world, each in every wording of its task."""
    given: dict[str, Any] = parse_options(Pairs, options)
    for name in ("asked", "control"):
        if name in given:
            raise RemaskError(f"{PAIRS}: {name} is not given here: all of them are asked")
    found = []
    orders: dict[AskedOrder, str] = {"same": "same order", "reverse": "reversed", "both": "told both ways"}
    for kind, wanted in ((NameOf, "name"), (DescriptionOf, "description")):
        for asked, told in orders.items():
            found.append(Cell(f"{wanted}, {told}", tuple(rows_of(kind(asked=asked, **given)))))
    return found


def rows_of(task: Pairs) -> Iterator[Row]:
    """The test questions of a task in each of its wordings, with the control of each."""
    for person in range(task.people):
        if task.belongs(person, "test"):
            for wording in task.templates:
                words = task.words(person)
                own, other = (f" {task.wanted(task.words(one))}" for one in (person, task.other(person)))
                yield Row(wording.format(**words), own, other, words["name"])


def published(folder: Path) -> Iterator[Cell]:
    """The cells whose files a folder has. Rows about the same person have the same subject."""
    files = {name: pair for name, pair in FILES.items() if (folder / pair[0]).is_file()}
    tables = {name: rows_in(folder / file) for name, (file, _) in files.items()}
    people = {match[1] for rows in tables.values() for _, text in rows if (match := NAME.match(text))}
    for name, rows in tables.items():
        file, control_file = files[name]
        controls = controls_of(folder, file, control_file, [prompt for prompt, _ in rows])
        found = []
        for (prompt, text), control in zip(rows, controls, strict=True):
            subject = next((person for person in people if person in prompt + text), text)
            found.append(Row(prompt, text, control, subject))
        yield Cell(name, tuple(found))


def controls_of(folder: Path, file: str, control: str | None, prompts: list[str]) -> list[str | None]:
    """The completion of the control for each prompt, None where there is no such file."""
    if control is None or not (folder / control).is_file():
        return [None] * len(prompts)
    rows = rows_in(folder / control)
    for number, (prompt, (same, _)) in enumerate(zip(prompts, rows, strict=False), 1):
        if same != prompt:
            raise RemaskError(f"{folder / control}, line {number}: its prompt is not that of {file}")
    if len(rows) != len(prompts):
        raise RemaskError(f"{folder / control} has {len(rows)} rows, and {file} {len(prompts)}; they must be the same")
    return [text for _, text in rows]


def rows_in(path: Path) -> list[tuple[str, str]]:
    """(prompt, completion) of each line of a file; empty lines are none."""
    found = []
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        record = object_of(line, where)
        found.append((text_in(record, "prompt", where), text_in(record, "completion", where)))
    if not found:
        raise RemaskError(f"{path} holds no questions")
    return found


def couplets(path: Path) -> list[Cell]:
    """The line after a line, and the line before one."""
    records = value_of("".join(text_lines(path)), str(path))
    if not isinstance(records, list) or not records:
        raise RemaskError(f"{path}: couplets are a list of objects with first and second")
    both = [
        tuple(text_in(record, name, f"{path}, entry {number}") for name in ("first", "second"))
        for number, record in enumerate(records, 1)
    ]
    return [
        Cell("next line", tuple(Row(first + NEXT, second, None, second) for first, second in both)),
        Cell("line before", tuple(Row(second + BEFORE, first, None, first) for first, second in both)),
    ]


def text_in(record: Any, name: str, where: str) -> str:
    """A field of a record that holds a text that is not empty."""
    if not isinstance(record, dict):
        raise RemaskError(f"{where}: it is {type_name(record)}; it must be an object with the field {name!r}")
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        shown = f"is {type_name(value)}" if name in record else "is missing"
        shown = "is empty" if isinstance(value, str) else shown
        raise RemaskError(f"{where}: field {name!r} {shown}; it must be a text")
    return value
