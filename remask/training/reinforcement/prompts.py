"""The prompts of a step: questions of tasks, each as often as its group has texts. A function of (seed, step)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from remask.batch import Batch
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families import Family
from remask.model.attention import FULL, Padded
from remask.seeds import mix_seeds
from remask.tasks.base import Example, Task

LOOKED_AT = 128
"""Questions of each task by which the room for an answer, and the length of a row, is judged; of a file, all."""


@dataclass(frozen=True)
class PromptBatch(Batch):
    """Prompts, and behind each the room for a text, which is what is scored."""

    valid: Tensor | None = None
    """(B, L) bool, False on the padding behind."""
    asked: tuple[tuple[Task, Example], ...] = ()
    """The question of each row."""

    def to(self, device: torch.device | str) -> "PromptBatch":
        moved = super().to(device)
        assert isinstance(moved, PromptBatch) and moved.valid is not None
        return replace(moved, valid=moved.valid.to(device))


class Prompts:
    """Global batches of prompts; RemaskError for tasks that the model cannot be asked."""

    one_length = False
    unique_tokens = 0
    """There is no corpus to repeat."""

    def __init__(
        self,
        tasks: Sequence[Task],
        tokenizer: Tokenizer,
        family: Family,
        *,
        batch: int,
        group: int,
        room: int | None,
        context: int,
        seed: int,
    ) -> None:
        """`room` is the tokens that are written behind each prompt; by default those of the longest answer known, and
        one for the end of the text."""
        self.tasks, self.tokenizer, self.family = tuple(tasks), tokenizer, family
        self.batch, self.group, self.context, self.seed = batch, group, context, seed
        known = [(task, one) for task in self.tasks for one in task.survey(seed, LOOKED_AT)]
        for task, one in known:
            check_spelling(tokenizer, task, one)
        self.room = room or 1 + max(len(tokenizer.encode(one.answer)) for _, one in known)
        self.mean_length = max(len(self.encoded(task, one)) for task, one in known) + self.room

    @property
    def fingerprint(self) -> str:
        """The tasks are among the options of a run; besides, what it asks depends on the tokenizer, and on files."""
        return "+".join(filter(None, [self.tokenizer.fingerprint, *(task.fingerprint for task in self.tasks)]))

    def __len__(self) -> int:
        """Prompts are drawn anew in each step: there is no epoch."""
        return 0

    def encoded(self, task: Task, example: Example) -> list[int]:
        """The ids of a prompt. RemaskError where the context does not hold it and what is to be written."""
        ids = [*self.family.bos, *self.tokenizer.encode(example.prompt)]
        if len(ids) + self.room > self.context:
            raise RemaskError(
                f"a prompt of {task.place(example.question)} has {len(ids)} tokens, and {self.room} are to be "
                f"written, beyond the context of {self.context}: give a smaller --length, or smaller questions"
            )
        return ids

    def questions(self, step: int) -> list[tuple[Task, Example]]:
        """The questions of a step, of the training split; tasks take turns, through all steps."""
        count, number = self.batch // self.group, len(self.tasks)
        asked = [task.examples("train", mix_seeds(self.seed, 2, step)) for task in self.tasks]
        turns = [(step * count + i) % number for i in range(count)]
        return [(self.tasks[turn], next(asked[turn])) for turn in turns]

    def share(self, index: int, offset: int = 0, count: int | None = None) -> PromptBatch:
        """`count` rows of the batch of step `index`, from row `offset` on, whole groups; by default all of them."""
        count = self.batch - offset if count is None else count
        if offset % self.group or count % self.group:
            raise ValueError(f"rows {offset} to {offset + count} divide groups of {self.group}")
        every = self.questions(index)
        longest = max(len(self.encoded(task, example)) for task, example in every)
        asked = every[offset // self.group : (offset + count) // self.group]
        return self.rows([one for one in asked for _ in range(self.group)], longest, offset)

    def rows(self, asked: Sequence[tuple[Task, Example]], longest: int, offset: int) -> PromptBatch:
        """A row for each question. `longest` are the tokens of the longest prompt of the step, whatever share of it
        this is, so that noise does not depend on how the step is divided."""
        prompts = [self.encoded(task, example) for task, example in asked]
        length = longest + self.room
        tokens = torch.zeros(len(prompts), length, dtype=torch.int64)
        open_ = torch.zeros(len(prompts), length, dtype=torch.bool)
        valid = open_.clone()
        for row, ids in enumerate(prompts):
            tokens[row, : len(ids)] = torch.tensor(ids)
            open_[row, len(ids) : len(ids) + self.room] = True
            valid[row, : len(ids) + self.room] = True
        padded = self.family.order != "left" and not bool(valid.all())  # what reads leftwards never sees it
        return PromptBatch(
            tokens,
            open_,
            attention=Padded(valid) if padded else FULL,
            offset=offset,
            global_rows=self.batch,
            global_tokens=self.batch * self.room,
            valid=valid,
            asked=tuple(asked),
        )


def check_spelling(tokenizer: Tokenizer, task: Task, example: Example) -> None:
    """RemaskError where the tokenizer cannot write a question or its answer."""
    for text in (example.prompt, example.answer):
        ids: Any = tokenizer.encode(text)
        if not ids or tokenizer.decode(ids).strip() != text.strip():
            raise RemaskError(
                f"the tokenizer of the model cannot write {text[:40]!r}, which {task.place(example.question)} needs"
            )
