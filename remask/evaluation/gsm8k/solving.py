"""Solutions of problems, written by a model in one pass or two.

With two passes the model first writes the steps behind the question; then the question and these steps are its prompt,
and it writes the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from remask.checkpoints.checkpoint import Checkpoint
from remask.evaluation.gsm8k.writing import Writing
from remask.generation.request import GenerationRequest
from remask.generation.result import finished_text
from remask.generation.rows import begin_rows, encode_prompt
from remask.sampling import stream
from remask.seeds import mix_seeds
from remask.tasks.gsm8k.problems import Problem
from remask.tasks.gsm8k.wording import WORDINGS


@dataclass(frozen=True)
class PromptedProblem:
    """A problem under one of the prompts."""

    problem: Problem
    template: int

    @property
    def prompt(self) -> str:
        """What the model reads."""
        return WORDINGS[self.template].prompt(self.problem.question)


@dataclass(frozen=True, kw_only=True)
class Solution:
    """What a model wrote."""

    texts: tuple[str, ...]
    """The text of each pass."""
    evaluations: int
    """Network passes."""
    fits: bool
    """Whether there was room for a text behind the prompt of each pass."""

    @property
    def text(self) -> str:
        """The whole solution."""
        return "".join(self.texts)


def batches(asked: Sequence[PromptedProblem], size: int) -> list[list[PromptedProblem]]:
    """Problems that are solved together: those whose prompts are of similar length, so that little is padding."""
    order = sorted(asked, key=lambda one: len(one.prompt))
    return [order[first : first + size] for first in range(0, len(order), size)]


def solve(
    checkpoint: Checkpoint, batch: Sequence[PromptedProblem], writing: Writing
) -> list[tuple[PromptedProblem, Solution]]:
    """The solutions of some problems, which are written together.

    A solution depends on its problem, its prompt and the seed, and not on what shares the batch, but for rounding.
    RemaskError where the options do not fit the model.
    """
    prompts, texts = [one.prompt for one in batch], [[] for _ in batch]
    calls, fits = [0] * len(batch), [True] * len(batch)
    for number in range(writing.passes):
        seeds = [mix_seeds(writing.seed, one.problem.line, one.template, number) for one in batch]
        length = writing.length if number == 0 else writing.answer_length
        for i, (text, evaluations, fit) in enumerate(continued(checkpoint, prompts, length, writing, seeds)):
            texts[i].append(text)
            calls[i], fits[i] = calls[i] + evaluations, fits[i] and fit
            prompts[i] = (prompts[i] + text).rstrip()
    return [
        (one, Solution(texts=tuple(own), evaluations=n, fits=fit))
        for one, own, n, fit in zip(batch, texts, calls, fits, strict=True)
    ]


def continued(
    checkpoint: Checkpoint, prompts: Sequence[str], length: int | None, writing: Writing, seeds: Sequence[int]
) -> list[tuple[str, int, bool]]:
    """The text behind each prompt, its network passes, and whether there was any room for it."""
    context = checkpoint.model.architecture.context
    given = [encode_prompt(checkpoint, prompt) for prompt in prompts]
    if writing.total is None:
        rooms = [min(length or context, context - len(ids)) for ids in given]
    else:
        rooms = [min(writing.total, context) - len(ids) for ids in given]
    chosen = [i for i, room in enumerate(rooms) if room > 0]
    found = [("", 0, False)] * len(prompts)
    if not chosen:
        return found
    params = replace(writing.params(checkpoint.family), length=None)
    options: dict[str, Any] = vars(params) | {"seed": [seeds[i] for i in chosen]}
    request = GenerationRequest(**options)
    state = begin_rows(checkpoint, request, [[*given[i], *[None] * rooms[i]] for i in chosen])
    for _ in stream(checkpoint.model, checkpoint.family, state):
        pass
    for row, i in enumerate(chosen):
        sample = finished_text(checkpoint, state, row, given[i], request)
        found[i] = sample.text, sample.evaluations, True
    return found
