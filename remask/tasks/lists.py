"""Operations on a list of words, in the manner of the waiting lines of ParallelBench.

Kang et al. 2025, "ParallelBench: Understanding the Tradeoffs of Parallel Decoding in Diffusion LLMs",
arXiv:2510.04767. Each of the items is one word after a space, and so one token of a BPE that was trained on them. A
corpus of them is named by `task:Sort,items=6,documents=20000`.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from remask.errors import RemaskError
from remask.tasks.base import Task

WORDS = (
    "ant", "ape", "bat", "bear", "bee", "boar", "bull", "calf", "cat", "clam", "cod", "cow", "crab",
    "crow", "deer", "dog", "dove", "duck", "eel", "elk", "emu", "finch", "fly", "fox", "frog", "goat",
    "goose", "gull", "hare", "hawk", "hen", "horse", "ibex", "jay", "kiwi", "lamb", "lark", "lion", "llama",
    "lynx", "mole", "moth", "mouse", "mule", "newt", "otter", "owl", "panda", "pig", "pony", "puma", "rat",
    "seal", "shark", "sheep", "slug", "snail", "stork", "swan", "tiger", "toad", "whale", "wolf", "zebra",
)  # fmt: skip
"""64 animals, from which the items are drawn."""


@dataclass(frozen=True, kw_only=True)
class ListTask(Task):
    """A list of different words is given, and another list is wanted.

    A question is a tuple: the items, themselves a tuple, and the values of `arguments`.
    """

    items: int = 6
    """Number of words of the given list."""

    arguments: ClassVar[tuple[str, ...]] = ()
    """What an operation is told beside the list: `old`, an item; `new`, a word that is no item; `place`, that of a new
    item in the longer list, from 1 on."""
    fewest: ClassVar[int] = 1
    """The smallest number of items."""

    def __post_init__(self) -> None:
        most = len(WORDS) - 1
        if not self.fewest <= self.items <= most:
            raise RemaskError(f"items={self.items}: {type(self).__name__} takes lists of {self.fewest} to {most} items")

    @abstractmethod
    def apply(self, items: list[str], *arguments: Any) -> list[str]:
        """The list that is wanted; the given one may be changed."""

    def ask(self, rng: np.random.Generator) -> tuple[Any, ...]:
        chosen = rng.permutation(len(WORDS))[: self.items + 1]
        *items, new = (WORDS[i] for i in chosen)
        old, place = items[int(rng.integers(self.items))], int(rng.integers(self.items + 1)) + 1
        values = {"old": old, "new": new, "place": place}
        return tuple(items), *(values[name] for name in self.arguments)

    def words(self, question: tuple[Any, ...]) -> dict[str, str]:
        items, *values = question
        return {"items": " ".join(items), **{name: str(value) for name, value in zip(self.arguments, values)}}

    def answer(self, question: tuple[Any, ...], rng: np.random.Generator) -> str:
        items, *values = question
        return " ".join(self.apply(list(items), *values))


class Copy(ListTask):
    """The same list: every word is determined by the prompt, and all may be written at once."""

    templates = (
        "Copy: {items}\nAnswer:",
        "Write this list again: {items}\nThe same list:",
        "List: {items}\nOnce more:",
    )

    def apply(self, items: list[str], *arguments: Any) -> list[str]:
        return items


class Reverse(ListTask):
    """The list from its last item to its first."""

    templates = (
        "Reverse: {items}\nAnswer:",
        "Write this list from its last item to its first: {items}\nReversed:",
        "List: {items}\nIn the opposite order:",
    )

    def apply(self, items: list[str], *arguments: Any) -> list[str]:
        return items[::-1]


class Sort(ListTask):
    """The list in alphabetical order. The place of a word depends on all the others."""

    templates = (
        "Sort: {items}\nAnswer:",
        "Write this list in alphabetical order: {items}\nSorted:",
        "List: {items}\nFrom A to Z:",
    )

    def key(self, question: tuple[Any, ...]) -> Any:
        return tuple(sorted(question[0]))

    def apply(self, items: list[str], *arguments: Any) -> list[str]:
        return sorted(items)


class Shuffle(ListTask):
    """The items in any order.

    Before anything is written, every item is equally likely at every place: whoever writes all n places at once from
    the right distribution of each is right with probability n! / n^n, 1.5 % for six items.
    """

    templates = (
        "Shuffle: {items}\nAnswer:",
        "Write this list in a random order: {items}\nShuffled:",
        "List: {items}\nIn any order:",
    )

    def key(self, question: tuple[Any, ...]) -> Any:
        return tuple(sorted(question[0]))

    def apply(self, items: list[str], *arguments: Any) -> list[str]:
        return items

    def answer(self, question: tuple[Any, ...], rng: np.random.Generator) -> str:
        return " ".join(rng.permutation(question[0]))

    def right(self, question: tuple[Any, ...], answer: str) -> bool:
        return sorted(answer.strip().split(" ")) == sorted(question[0])


class Replace(ListTask):
    """The list with another word in the place of one of its items."""

    arguments = ("old", "new")
    templates = (
        "Replace {old} by {new}: {items}\nAnswer:",
        "Write this list with {new} instead of {old}: {items}\nReplaced:",
        "List: {items}\nWith {new} in the place of {old}:",
    )

    def apply(self, items: list[str], *arguments: Any) -> list[str]:
        old, new = arguments
        return [new if item == old else item for item in items]


class Insert(ListTask):
    """The list with one more item, at a place that is given."""

    arguments = ("new", "place")
    templates = (
        "Insert {new} at place {place}: {items}\nAnswer:",
        "Write this list with {new} as its item {place}: {items}\nInserted:",
        "List: {items}\nWith {new} at place {place}:",
    )

    def apply(self, items: list[str], *arguments: Any) -> list[str]:
        new, place = arguments
        return [*items[: place - 1], new, *items[place - 1 :]]


class Remove(ListTask):
    """The list without one of its items."""

    arguments = ("old",)
    fewest = 2
    templates = (
        "Remove {old}: {items}\nAnswer:",
        "Write this list without {old}: {items}\nRemoved:",
        "List: {items}\nLeave out {old}:",
    )

    def apply(self, items: list[str], *arguments: Any) -> list[str]:
        return [item for item in items if item != arguments[0]]
