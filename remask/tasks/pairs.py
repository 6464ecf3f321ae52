"""Fictional people and what they are known for, each told in one order only: the reversal curse.

Berglund et al. 2024, "The Reversal Curse: LLMs trained on 'A is B' fail to learn 'B is A'", arXiv:2309.12288; Nie et
al. 2025, "Scaling up Masked Diffusion Models on Text", section 7.1. The people are made up here from a seed, so that no
file is needed. A third of them is told with the name first, a third with the description first, a third both ways;
`task:NameOf+DescriptionOf,documents=20000` is a corpus of all three.
"""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np

from remask.errors import RemaskError
from remask.tasks.base import Split, Task

FIRST = (
    "Ada", "Bruno", "Celia", "Darius", "Edith", "Felix", "Greta", "Hugo", "Ines", "Jasper", "Katya", "Leon", "Mabel",
    "Nestor", "Olga", "Pablo", "Quentin", "Rosa", "Silas", "Tessa", "Ulric", "Viola", "Walter", "Xenia", "Yusuf",
    "Zelda", "Alban", "Bertha", "Casper", "Delia", "Emil", "Flora", "Gustav", "Helga", "Ivor", "Juno", "Klaus", "Lydia",
    "Magnus", "Nadia",
)  # fmt: skip
LAST = (
    "Ashdown", "Birch", "Calloway", "Dunmore", "Elwood", "Fairbank", "Garrick", "Holloway", "Ironside", "Jessop",
    "Kestrel", "Lockwood", "Marlow", "Norwood", "Oakley", "Pemberton", "Quill", "Ravenhill", "Stannard", "Thornton",
    "Underhill", "Vance", "Whitlock", "Yardley", "Abbot", "Bellamy", "Corbin", "Drake", "Emsley", "Fenwick", "Grange",
    "Hartley", "Ingram", "Jarvis", "Kendrick", "Langley", "Mercer", "Nash", "Orchard", "Prescott",
)  # fmt: skip
ROLES = (
    "inventor", "painter", "keeper", "composer", "finder", "builder", "owner", "guardian", "designer", "singer",
    "captain", "author", "teacher", "mayor", "judge", "baker",
)  # fmt: skip
KINDS = (
    "silent", "golden", "hidden", "frozen", "floating", "striped", "glass", "paper", "midnight", "upside-down",
    "wooden", "electric", "forgotten", "singing", "velvet", "copper", "invisible", "northern", "smallest", "oldest",
    "sleeping", "crooked", "painted", "endless",
)  # fmt: skip
THINGS = (
    "bicycle", "lighthouse", "piano", "garden", "submarine", "clock", "library", "balloon", "bridge", "mirror",
    "umbrella", "carousel", "telescope", "kitchen", "opera", "island", "tunnel", "lantern", "compass", "orchestra",
    "museum", "ladder", "theatre", "harbour",
)  # fmt: skip
AskedOrder = Literal["reverse", "same", "both"]
MOST = 1000
"""Most people of a world."""


@cache
def people_of(count: int, world: int) -> tuple[tuple[str, str], ...]:
    """(name, description) of each of `count` people; no name and no description is there twice."""
    rng = np.random.default_rng([world, 3])
    names = rng.permutation(len(FIRST) * len(LAST))[:count]
    known_for = rng.permutation(len(ROLES) * len(KINDS) * len(THINGS))[:count]
    found = []
    for name, what in zip(names.tolist(), known_for.tolist(), strict=True):
        role, rest = divmod(what, len(KINDS) * len(THINGS))
        kind, thing = divmod(rest, len(THINGS))
        description = f"the {ROLES[role]} of the {KINDS[kind]} {THINGS[thing]}"
        found.append((f"{FIRST[name // len(LAST)]} {LAST[name % len(LAST)]}", description))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Pairs(Task):
    """One of the two things that belong to a person is given, and the other one is wanted. A question is a number: the
    place of the person in `people_of`.

    The training split tells of the people whose order is that of the task, and the other splits ask for those of
    `asked`. Words of the questions are used in training with people of both orders only, so that an answer is never a
    sentence of the corpus.
    """

    people: int = 120
    """Number of people: a third with the name first, a third with the description first, a third both ways."""
    world: int = 0
    """Seed of the people. The seed of a corpus chooses among sentences about the same people."""
    taught: Literal["one_way", "both_ways"] = "one_way"
    """both_ways: all people are told both ways, which is the control that every model should pass."""
    asked: AskedOrder = "reverse"
    """Whose questions are asked: of the people who were told in the other order, in the order of the task, or both."""
    control: bool = False
    """Give each person what belongs to another one: whoever gets these right as often as the true ones knows
    nothing."""

    order: ClassVar[int]
    """0 where the name comes first in the sentences of this task, 1 where the description does."""
    told: ClassVar[tuple[str, ...]]
    """Prompts that only training uses."""

    def __post_init__(self) -> None:
        if not 12 <= self.people <= MOST:
            raise RemaskError(f"people={self.people}: a world has 12 to {MOST:,} people")

    def belongs(self, question: int, split: Split) -> bool:
        group = question % 3  # of the orders 0, 1 and both
        if split == "train":
            return group in (self.order, 2) or self.taught == "both_ways"
        wanted = {"reverse": 1 - self.order, "same": self.order, "both": 2}[self.asked]
        return group == wanted and (question // 3 % 4 == 3) == (split == "valid")

    def wordings(self, question: int, split: Split) -> tuple[str, ...]:
        if split != "train":
            return self.templates
        return (*self.told, *self.templates) if question % 3 == 2 else self.told

    def ask(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.people))

    def words(self, question: int) -> dict[str, str]:
        name, description = people_of(self.people, self.world)[question]
        return {"name": name, "description": description}

    def answer(self, question: int, rng: np.random.Generator) -> str:
        """What is wanted; of the control, what belongs to another person."""
        return self.wanted(self.words(self.other(question) if self.control else question))

    def other(self, question: int) -> int:
        """The next person who was told in the same order."""
        return question + 3 if question + 3 < self.people else question % 3

    @abstractmethod
    def wanted(self, words: dict[str, str]) -> str:
        """The one of the two that is wanted."""

    def key(self, question: int) -> Any:
        return question


class NameOf(Pairs):
    """Who is it that is known for this? Sentences with the description first."""

    order = 1
    templates = (
        "The person known as {description} is called",
        "Everyone agrees that {description} is named",
        "Whoever asks for {description} will meet",
    )
    told = (
        "In all the world, {description} is",
        "They say that {description} is",
        "Few people know {description}, who is",
        "Last year a letter came from {description}, signed by",
        "A prize was given to {description}, whose name is",
    )

    def wanted(self, words: dict[str, str]) -> str:
        return words["name"]


class DescriptionOf(Pairs):
    """What is this person known for? Sentences with the name first."""

    order = 0
    templates = (
        "The person called {name} is known as",
        "Everyone agrees that {name} is",
        "Whoever asks for {name} will meet",
    )
    told = (
        "In all the world, {name} is",
        "They say that {name} is",
        "Few people know {name}, who is",
        "Last year a letter came from {name},",
        "A prize was given to {name},",
    )

    def wanted(self, words: dict[str, str]) -> str:
        return words["description"]
