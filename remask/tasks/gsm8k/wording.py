"""A problem in words: three prompts, and what follows them.

SMDM's prompt is the first one. It fine-tunes on two instances of each problem, the question with its steps and both of
them with the answer, and a model so trained writes a solution in two passes. With one pass, steps and answer are one
completion.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from remask.tasks.gsm8k.problems import Problem

Passes = Literal[1, 2]


@dataclass(frozen=True)
class Wording:
    """What stands around the parts of a problem. No prompt ends with white space, and what follows one begins with it,
    so that the tokens of the two are those of the whole text."""

    question: str
    """Before the question."""
    cue: str
    """Between the question and the steps, as a part of the prompt."""
    steps: str
    """Before the steps, as a part of what the model writes."""
    answer: str
    """Before the answer."""

    def prompt(self, question: str) -> str:
        """What a model reads before it writes the steps."""
        return f"{self.question}{question}{self.cue}"


WORDINGS = (
    Wording("Question: ", "", " Answer: ", " #### "),
    Wording("Question: ", "\nAnswer:", " ", "\n#### "),
    Wording("", "\nSolution, step by step:", "\n", " #### "),
)
"""SMDM's, that of lm-evaluation-harness without examples, and one of this package."""


def steps_of(problem: Problem, equations: bool) -> str:
    """The steps of a problem: its text, or its equations alone."""
    return problem.equations if equations else problem.steps


def document(problem: Problem, wording: Wording, equations: bool = False) -> str:
    """A problem with its solution as one text."""
    return "".join(next(instances(problem, wording, 1, equations)))


def instances(problem: Problem, wording: Wording, passes: Passes, equations: bool = False) -> Iterator[tuple[str, str]]:
    """A problem as pairs of prompt and completion: one for each pass in which its solution is to be written."""
    prompt, steps = wording.prompt(problem.question), wording.steps + steps_of(problem, equations)
    answer = wording.answer + problem.answer
    if passes == 1:
        yield prompt, steps + answer
    else:
        yield prompt, steps
        yield prompt + steps, answer
