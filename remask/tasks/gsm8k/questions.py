"""The problems of a file of GSM8K as questions, whose right answers `remask reinforce` rewards.

    remask reinforce runs/gsm8k --tasks '[gsm8k:train.jsonl]' --length 160 --budget.steps 100 --out runs/rewarded

A text is a whole solution, steps and answer, as one pass writes it; what counts is the number behind its ####.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from remask.data.reading import Omissions
from remask.errors import RemaskError
from remask.options import parse_options
from remask.tasks.base import Example, Split, Task
from remask.tasks.gsm8k import reading
from remask.tasks.gsm8k.corpus import GSM8K, PREFIX, file_of
from remask.tasks.gsm8k.problems import Problem
from remask.tasks.gsm8k.wording import WORDINGS, Wording, instances, steps_of
from remask.terminal import say


@dataclass(frozen=True, kw_only=True)
class WordProblems(Task):
    """The problems of a file, all of them for training: those for testing are another file, of `remask eval`."""

    named = False
    templates = tuple(wording.prompt("{question}") for wording in WORDINGS)

    name: str
    """`gsm8k:FILE,...`, as it was given."""
    problems: tuple[Problem, ...] = field(repr=False)
    form: GSM8K

    def __str__(self) -> str:
        return self.name

    def ask(self, rng: np.random.Generator) -> Problem:
        return self.problems[int(rng.integers(len(self.problems)))]

    def words(self, question: Problem) -> dict[str, str]:
        return {"question": question.question}

    def answer(self, question: Problem, rng: np.random.Generator) -> str:
        return f"{steps_of(question, self.form.equations)} #### {question.answer}"

    def right(self, question: Problem, answer: str) -> bool:
        return reading.right(answer, question.answer)

    def key(self, question: Problem) -> str:
        return question.question

    def place(self, question: Problem) -> str:
        return question.where

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.blake2b(repr([astuple(one)[:4] for one in self.problems]).encode(), digest_size=8).hexdigest()

    def examples(self, split: Split, seed: int = 0, template: int | None = None) -> Iterator[Example]:
        """Endless examples under random prompts, or the one that was chosen: all problems in a random order, and then
        again. RemaskError for another split than that of training."""
        chosen = self.form.template if template is None else template
        for problem, rng in self.questions(split, seed):
            yield self.example(problem, WORDINGS[int(rng.integers(len(WORDINGS))) if chosen is None else chosen])

    def questions(self, split: Split, seed: int) -> Iterator[tuple[Problem, np.random.Generator]]:
        if split != "train":
            raise RemaskError(
                f"the problems of {self} are all for training; those of a file for testing are asked by "
                "`remask eval --tasks gsm8k`"
            )
        rng = np.random.default_rng([seed, *PREFIX.encode()])
        while True:
            for place in rng.permutation(len(self.problems)):
                yield self.problems[place], rng

    def survey(self, seed: int, count: int) -> Iterator[Example]:
        """Every problem under every prompt that it may have, so that what does not fit is known before the run."""
        wordings = WORDINGS if self.form.template is None else (WORDINGS[self.form.template],)
        return (self.example(problem, wording) for problem in self.problems for wording in wordings)

    def example(self, problem: Problem, wording: Wording) -> Example:
        """A problem under a prompt, with its own solution as the answer."""
        ((prompt, completion),) = instances(problem, wording, 1, self.form.equations)
        return Example(prompt, completion, problem)


def is_named(task: str) -> bool:
    """Whether a task among others is one of this package: `gsm8k:FILE`."""
    return f"{task},".startswith((PREFIX, f"{PREFIX[:-1]},"))


def asked(name: str) -> WordProblems:
    """The task of `gsm8k:FILE[,template=0,equations=false]`. RemaskError, with file and line, for what is no problem;
    problems without steps are left out and said."""
    options = name.removeprefix(PREFIX).partition(",")
    if not name.startswith(PREFIX) or not options[0]:
        raise RemaskError(f"{name} names no file of problems: write {PREFIX}FILE, as {PREFIX}train.jsonl")
    given: dict[str, Any] = parse_options(GSM8K, options[2])
    if "passes" in given:
        raise RemaskError(f"{name}: passes is for rows and corpora; a text that is rewarded holds steps and answer")
    form, omissions = GSM8K(**given), Omissions()
    problems = form.problems(file_of(name), omissions)
    for line in omissions.lines():
        say(line)
    return WordProblems(name=name, problems=tuple(problems), form=form)
