"""What a zero-shot benchmark is: rows of a file made into questions, each with texts whose likelihoods are compared."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from remask.errors import RemaskError, unknown
from remask.extensions import subclasses_in
from remask.tasks.zeroshot.rows import Row

GROUPS = {
    "smdm": (
        "arc_easy",
        "boolq",
        "hellaswag",
        "lambada_standard",
        "openbookqa",
        "piqa",
        "race",
        "social_iqa",
    )
}
"""Benchmarks that are asked for by one name: the eight of SMDM (Nie et al. 2025)."""
WRITTEN = "gsm8k"
"""The benchmark whose answers are read from texts (`remask/evaluation/gsm8k`); it is none of these classes."""


@dataclass(frozen=True)
class Question:
    """One item of a benchmark: its possible answers, of which one is right."""

    pairs: tuple[tuple[str, str], ...]
    """(context, continuation) of each answer: the continuation is scored given the context. It begins with the space
    that separates the two."""
    choices: tuple[str, ...]
    """The text of each answer, by whose number of characters `acc_norm` divides."""
    gold: int
    """Which answer is right."""

    @property
    def noise_key(self) -> str:
        """A text that only this question has: its answers are scored with the same noise."""
        return repr(self.pairs)


class Benchmark(ABC):
    """A benchmark of lm-evaluation-harness, by its name there."""

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]] = ("acc",)
    """acc: the share of questions whose right answer has the highest likelihood; of a single continuation, the share of
    those that greedy decoding writes. acc_norm: the first, with each log-likelihood divided by the characters of its
    answer. perplexity: exp of the mean of -log p of a continuation."""
    greedy: ClassVar[bool] = False
    """Whether a question has a single continuation, of which is asked whether greedy decoding writes it."""
    other_files: ClassVar[tuple[str, ...]] = ()
    """Names of its file, beside NAME.jsonl."""
    frames: ClassVar[tuple[tuple[str, str], ...]] = (("", ""), ("Text: ", ""), ("Continue the text.\n\n", ""))
    """What stands before and behind the text of a question in each prompt template, that of the harness first."""

    @abstractmethod
    def question(self, row: Row) -> Question:
        """The question of a row. RemaskError, with file, line and field, where the row is no question of this kind."""

    def reworded(self, question: Question, template: int) -> Question:
        """A question with the harness's prompt in another template, a place in `frames`."""
        (before, after), (new_before, new_after) = self.frames[0], self.frames[template]
        bare = [(context.removeprefix(before).removesuffix(after), text) for context, text in question.pairs]
        return replace(question, pairs=tuple((new_before + context + new_after, text) for context, text in bare))


def of_choices(context: str, choices: Sequence[str], gold: int) -> Question:
    """A question whose answers follow the same context, each behind a space."""
    return Question(tuple((context, f" {choice}") for choice in choices), tuple(choices), gold)


def benchmarks() -> dict[str, Benchmark]:
    """Every benchmark of this package by name."""
    kinds = [kind for kind in subclasses_in("remask.tasks.zeroshot", Benchmark) if "name" in vars(kind)]
    return {kind.name: kind() for kind in sorted(kinds, key=lambda kind: kind.name)}


def benchmark(name: str) -> Benchmark:
    """The benchmark of a name; RemaskError where there is none, with the nearest name."""
    known = benchmarks()
    if name not in known:
        raise unknown("benchmark", name, known)
    return known[name]


def named(names: str) -> list[str]:
    """The names in a list with commas, a group of benchmarks replaced by its members, each once.

    An entry may be NAME=FILE. RemaskError for an unknown name, and for an empty list.
    """
    every: list[str] = []
    for entry in filter(None, (part.strip() for part in names.split(","))):
        name = entry.partition("=")[0]
        if name not in GROUPS and name not in benchmarks():
            raise unknown("benchmark", name, [*benchmarks(), *GROUPS, WRITTEN])
        every += GROUPS.get(entry, (entry,))
    if not every:
        raise RemaskError(f"tasks is {names!r}; it must be names with commas, as arc_easy,piqa")
    return list(dict.fromkeys(every))
