"""What a benchmark of samplers has written: answers to the questions of a task, or continuations for a judge."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from remask.checkpoints.checkpoint import Checkpoint
from remask.data.batches import Rows
from remask.data.tokens import Prepared
from remask.errors import RemaskError
from remask.evaluation.judging import judge_texts
from remask.generation.result import Sample
from remask.generation.rows import encode_prompt
from remask.tasks.base import Example, Task, task_of

PATIENCE = 1000
"""After so many questions of a task that have all been asked before, there are taken to be no others."""


@dataclass(frozen=True)
class Questions(ABC):
    """Prompts, and how what is written after them is graded."""

    name: str
    """The task as it was named on the command line, or "judge"."""
    template: int
    """Number of the template by which a task is put into words."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of questions."""

    @abstractmethod
    def prompts(self, checkpoint: Checkpoint) -> list[list[int]]:
        """The ids that stand before each text."""

    @abstractmethod
    def length(self, checkpoint: Checkpoint) -> int:
        """The number of tokens that are given for each text."""

    @abstractmethod
    def grade(self, samples: Sequence[Sample], prompts: Sequence[Sequence[int]], end: int | None) -> dict[str, Any]:
        """The fields of a `Grade` that say how good the texts are."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of all questions, so that answers to others are not taken for theirs."""

    def check(self, checkpoint: Checkpoint, model: str) -> None:
        """RemaskError, naming the model and what would work, where a model cannot be asked these questions."""
        context = checkpoint.model.architecture.context
        longest, length = max(map(len, self.prompts(checkpoint))), self.length(checkpoint)
        if longest + length > context:
            room = context - longest
            remedy = f"give --length {room} or less" if room >= 1 else "no answer fits"
            raise RemaskError(
                f"{model} has a context of {context} tokens; the prompts of {self.name} have up to {longest}, and "
                f"{length} are to be written: {remedy}, or smaller questions, or leave the model out"
            )


@dataclass(frozen=True)
class TaskQuestions(Questions):
    """Test examples of a task under one of its templates, whose answers are right or wrong."""

    task: Task
    examples: tuple[Example, ...]
    slack: int
    """Tokens beyond those of the longest right answer, so that the end of a text can be written."""
    tokens: int | None
    """Tokens to write, where that was given."""

    def __len__(self) -> int:
        return len(self.examples)

    def prompts(self, checkpoint: Checkpoint) -> list[list[int]]:
        return [encode_prompt(checkpoint, example.prompt) for example in self.examples]

    def length(self, checkpoint: Checkpoint) -> int:
        """That of the longest right answer known, and `slack`; or as many as were given."""
        longest = max(len(checkpoint.tokenizer.encode(example.answer)) for example in self.examples)
        return self.tokens or longest + self.slack

    def check(self, checkpoint: Checkpoint, model: str) -> None:
        for text in [text for one in self.examples for text in (one.prompt, one.answer)]:
            ids = checkpoint.tokenizer.encode(text)
            if checkpoint.tokenizer.decode(ids).strip() != text.strip() or not ids:
                raise RemaskError(
                    f"the tokenizer of {model} cannot write {text[:40]!r}, which {self.name} needs: leave the model or "
                    "the task out, or train on a corpus prepared with --tokenizer bytes or of this task"
                )
        super().check(checkpoint, model)

    def grade(self, samples: Sequence[Sample], prompts: Sequence[Sequence[int]], end: int | None) -> dict[str, Any]:
        right = (self.task.right(one.question, s.text) for one, s in zip(self.examples, samples, strict=True))
        return {"right": "".join("1" if x else "0" for x in right)}

    @property
    def fingerprint(self) -> str:
        return _hash([(one.prompt, one.question) for one in self.examples])


@dataclass(frozen=True)
class Continuations(Questions):
    """Beginnings of validation rows, whose continuations an autoregressive model judges."""

    rows: tuple[tuple[int, ...], ...]
    """Rows of real text, which begin with the prompts."""
    given: int
    """Tokens of each row that are given."""
    critic: Checkpoint

    def __len__(self) -> int:
        return len(self.rows)

    def prompts(self, checkpoint: Checkpoint) -> list[list[int]]:
        return [[*checkpoint.family.bos, *row[: self.given]] for row in self.rows]

    def length(self, checkpoint: Checkpoint) -> int:
        return len(self.rows[0]) - self.given

    def check(self, checkpoint: Checkpoint, model: str) -> None:
        if not self.critic.tokenizer.agrees(checkpoint.tokenizer):
            raise RemaskError(f"{model} has another tokenizer than the judge, who reads ids: leave it out")
        super().check(checkpoint, model)

    def grade(self, samples: Sequence[Sample], prompts: Sequence[Sequence[int]], end: int | None) -> dict[str, Any]:
        """Each text is judged up to its end-of-text token, given its prompt."""
        texts = [[*s.tokens, *([end] if s.ended and end is not None else [])] for s in samples]
        return asdict(judge_texts(self.critic, texts, [row[: self.given] for row in self.rows]))

    def real(self) -> dict[str, Any]:
        """The quality of the real continuations, each up to its end-of-text token."""
        end = self.critic.family.vocabulary.end
        texts = [row[self.given :] for row in self.rows]
        cut = [text[: text.index(end) + 1] if end in text else text for text in texts]
        return asdict(judge_texts(self.critic, cut, [row[: self.given] for row in self.rows]))

    @property
    def fingerprint(self) -> str:
        return _hash([self.given, *self.rows])


def questions_of(name: str, limit: int, seed: int, slack: int, tokens: int | None) -> list[TaskQuestions]:
    """`limit` different test questions of a task under each of its templates: the same ones in other words."""
    task = task_of(name)
    return [
        TaskQuestions(name, i, task, different(name, task.examples("test", seed, i), limit), slack, tokens)
        for i in range(len(task.templates))
    ]


def different(name: str, examples: Iterator[Example], limit: int) -> tuple[Example, ...]:
    """The first `limit` examples with different questions; RemaskError, with their number, where there are fewer."""
    found: dict[Any, Example] = {}
    since = 0
    while len(found) < limit:
        example = next(examples)
        since = since + 1 if example.question in found else 0
        found.setdefault(example.question, example)
        if since == PATIENCE:
            raise RemaskError(
                f"{name} has {len(found)} different test questions, and --limit is {limit}: give --limit {len(found)}, "
                "or options of the task that make more"
            )
    return tuple(found.values())


def continuations(critic: Checkpoint, prepared: Prepared, limit: int, given: int, tokens: int) -> Continuations:
    """`limit` rows of the validation split, spread over it; RemaskError where it has fewer."""
    rows = Rows(prepared.valid, given + tokens)
    if len(rows) < limit:
        raise RemaskError(
            f"the validation split of {prepared.folder} has {len(rows)} texts of {given + tokens} tokens and --limit "
            f"is {limit}: give a smaller one, or a smaller --length or --prompt-tokens"
        )
    chosen = tuple(tuple(rows[i * len(rows) // limit].tolist()) for i in range(limit))
    return Continuations("judge", 0, chosen, given, critic)


def _hash(value: Any) -> str:
    return hashlib.blake2b(repr(value).encode(), digest_size=8).hexdigest()
