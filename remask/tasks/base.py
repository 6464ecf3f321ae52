"""What a task is: questions from a seed, several templates of a prompt, and a check of the answer.

`task:Sort,items=6,documents=20000,seed=0` names a corpus of a task for `remask prepare`. A new task is one new file in
this folder with a subclass of `Task`.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from remask.errors import unknown
from remask.extensions import import_files, subclasses_in
from remask.options import parse_options

TEST_SHARE = 16
"""One of this many questions, chosen by the hash of the question, is kept for testing."""


@dataclass(frozen=True)
class Example:
    """A question, put into words by one of the templates of its task."""

    prompt: str
    """What is given."""
    answer: str
    """A right answer; there may be others (`Task.right`)."""
    question: Any
    """What is asked, apart from its words."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A kind of question whose answers can be checked exactly."""

    templates: ClassVar[tuple[str, ...]]
    """At least three prompts, with the fields of `words` in braces. Rankings of decoding rules flip with one."""

    @abstractmethod
    def ask(self, rng: np.random.Generator) -> Any:
        """A random question, of strings, numbers and tuples of these."""

    @abstractmethod
    def words(self, question: Any) -> dict[str, str]:
        """The fields of the templates."""

    @abstractmethod
    def answer(self, question: Any, rng: np.random.Generator) -> str:
        """A right answer; where there are several, a random one."""

    def right(self, question: Any, answer: str) -> bool:
        """Whether an answer is right; by default there is only one."""
        return answer.strip() == self.answer(question, np.random.default_rng(0))

    def examples(
        self, split: Literal["train", "test"], seed: int = 0, template: int | None = None
    ) -> Iterator[Example]:
        """Endless examples; no question is in both splits. Without a `template` each example takes a random one."""
        number = 0
        while True:
            rng = np.random.default_rng([seed, number])
            number += 1
            question = self.ask(rng)
            if held_out(question) != (split == "test"):
                continue
            words = self.templates[int(rng.integers(len(self.templates))) if template is None else template]
            yield Example(words.format(**self.words(question)), self.answer(question, rng), question)


def held_out(question: Any) -> bool:
    """Whether a question belongs to the test split."""
    return hashlib.blake2b(repr(question).encode(), digest_size=4).digest()[0] < 256 // TEST_SHARE


def tasks() -> dict[str, type[Task]]:
    """Every task of this package by its class name. Imports the files of this folder."""
    import_files("remask.tasks")
    return {kind.__name__: kind for kind in subclasses_in("remask.tasks", Task)}


def task_of(name: str) -> Task:
    """A task from its name and options, such as "Sort:items=6"."""
    name, _, given = name.partition(":")
    known = tasks()
    if name not in known:
        raise unknown("task", name, known)
    return known[name](**parse_options(known[name], given))
