"""What a task is: questions from a seed, several templates of a prompt, and a check of the answer.

`task:Sort,items=6,documents=20000,seed=0` names a corpus of a task for `remask prepare` (see `corpus.py`). A new task
is one new file in this folder with a subclass of `Task`.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from remask.errors import RemaskError, unknown
from remask.extensions import import_files, subclasses_in
from remask.options import build_named

Split = Literal["train", "valid", "test"]

HELD_OUT: tuple[Split, ...] = ("test", "valid")
"""The splits that no training corpus holds, in the order of their shares of the hash."""
SHARE = 16
"""One of this many questions, chosen by the hash of the question, is of each split that is held out."""
TRIES = 4000
"""At most so many questions are drawn to find one of a split, or one that a task can use."""


@dataclass(frozen=True)
class Example:
    """A question, put into words by one of the templates of its task."""

    prompt: str
    """What is given. Its last character is no white space."""
    answer: str
    """A right answer; there may be others (`Task.right`). It begins with the space that separates it from the prompt,
    so that the tokens of the prompt followed by those of the answer are the tokens of `text`: a byte-level BPE joins a
    space to the word after it, and never a word to what stands before its space."""
    question: Any
    """What is asked, apart from its words."""

    @property
    def text(self) -> str:
        """The document of a corpus: the prompt and its answer."""
        return self.prompt + self.answer


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A kind of question whose answers can be checked exactly."""

    named: ClassVar[bool] = True
    """Whether the name of its class asks it; else it is made of a file."""
    templates: ClassVar[tuple[str, ...]]
    """At least three prompts, with the fields of `words` in braces, since the best decoding rule may be another one
    under another prompt. None ends with white space."""

    @abstractmethod
    def ask(self, rng: np.random.Generator) -> Any:
        """A random question, of strings, Python's numbers and tuples of these."""

    @abstractmethod
    def words(self, question: Any) -> dict[str, str]:
        """The fields of the templates."""

    @abstractmethod
    def answer(self, question: Any, rng: np.random.Generator) -> str:
        """A right answer, without white space around it; where there are several, a random one."""

    def right(self, question: Any, answer: str) -> bool:
        """Whether a text is a right answer; by default there is only one. White space around it does not count.

        Any text may be given, and none is an error.
        """
        return answer.strip() == self.answer(question, np.random.default_rng(0))

    def key(self, question: Any) -> Any:
        """What decides of which split a question is. Questions that are the same but for something that their
        answer does not depend on, such as the order of what is to be sorted, have the same key."""
        return question

    def place(self, question: Any) -> str:
        """Where a question comes from, for messages: the task, or file and line."""
        return str(self)

    @property
    def fingerprint(self) -> str:
        """A hash of what the questions depend on beside the options: a file; by default of nothing."""
        return ""

    def survey(self, seed: int, count: int) -> Iterator[Example]:
        """Training examples that stand for all, by whose lengths room is made: the first so many, or all of a file."""
        return islice(self.examples("train", seed), count)

    def published(self) -> tuple[Any, ...]:
        """Questions that are the test split in place of generated ones (`published.py`); by default none."""
        return ()

    def belongs(self, question: Any, split: Split) -> bool:
        """Whether a question is of a split; by the hash of its key, so that no key is in two of them."""
        return split_of(self.key(question)) == split

    def wordings(self, question: Any, split: Split) -> tuple[str, ...]:
        """The prompts of which a question of a split takes a random one."""
        return self.templates

    def examples(self, split: Split, seed: int = 0, template: int | None = None) -> Iterator[Example]:
        """Endless examples; no key is in two splits. Without a `template` each example takes a random one.

        Raises:
            RemaskError: there is no such split or template, or no question of the split was found.
        """
        if split not in get_args(Split):
            raise unknown("split", split, get_args(Split))
        if template is not None and not 0 <= template < len(self.templates):
            raise RemaskError(
                f"template={template}: {type(self).__name__} has templates 0 to {len(self.templates) - 1}"
            )
        for question, rng in self.questions(split, seed):
            wordings = self.wordings(question, split) if template is None else self.templates[template : template + 1]
            words = wordings[int(rng.integers(len(wordings)))]
            yield Example(words.format(**self.words(question)), f" {self.answer(question, rng)}", question)

    def questions(self, split: Split, seed: int) -> Iterator[tuple[Any, np.random.Generator]]:
        """Endless questions of a split, each with the generator that drew it; RemaskError where none is found."""
        published = self.published()
        held_out = {self.key(question) for question in published}
        start = 0
        while True:
            for number in range(start, start + TRIES):
                rng = np.random.default_rng([seed, number, *type(self).__name__.encode()])
                if published and split == "test":
                    question = published[number % len(published)]
                    break
                question = self.ask(rng)
                if self.belongs(question, split) and self.key(question) not in held_out:
                    break
            else:
                raise RemaskError(f"{self}: none of {TRIES:,} questions is of the {split} split; it has too few")
            start = number + 1
            yield question, rng


def split_of(key: Any) -> Split:
    """The split to which the questions with a key belong."""
    part = hashlib.blake2b(repr(key).encode(), digest_size=4).digest()[0] * SHARE // 256
    return HELD_OUT[part] if part < len(HELD_OUT) else "train"


def tasks() -> dict[str, type[Task]]:
    """Every task of this package that the name of its class asks. Imports the files of this folder."""
    import_files("remask.tasks")
    return {kind.__name__: kind for kind in subclasses_in("remask.tasks", Task) if kind.named}


def task_class(name: str) -> type[Task]:
    """The task of a name; RemaskError where there is none."""
    known = tasks()
    if name not in known:
        raise unknown("task", name, known)
    return known[name]


def task_of(name: str) -> Task:
    """A task from its name and options, such as "Sort:items=6"; RemaskError where one of them is wrong."""
    task: Task = build_named("task", name, tasks())
    return task
