"""The accuracy of solutions: for each prompt with its interval, and over the prompts with its error.

The interval of one prompt is Wilson's, at 95 %, which holds near 0 too, where small models are. The answers to one
question under several prompts are tied, so that the error of their mean is that of the mean of each question.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from remask.evaluation.gsm8k.asking import Problems
from remask.evaluation.gsm8k.log import SolutionLog
from remask.evaluation.gsm8k.solving import Solution
from remask.evaluation.gsm8k.writing import Writing
from remask.evaluation.proportions import mean_error, wilson
from remask.evaluation.zeroshot.metrics import Result
from remask.evaluation.zeroshot.templates import Spread
from remask.families import Family
from remask.tasks.gsm8k.problems import Problem
from remask.tasks.gsm8k.reading import math_verify, normal, right, right_by_math_verify
from remask.tasks.zeroshot.base import WRITTEN

Judge = Callable[[str, str], bool]
"""Whether a text gives an answer."""


def readings() -> dict[str, Judge]:
    """The metrics: `acc` by SMDM's reading and, where the package is installed, `math_verify` by its own."""
    second: dict[str, Judge] = {} if math_verify() is None else {"math_verify": right_by_math_verify}
    return {"acc": right, **second}


def results_of(
    families: Mapping[str, Family], asked: Problems, writing: Writing, log: SolutionLog
) -> tuple[list[Result], list[Spread]]:
    """The results of runs under each prompt, and over the prompts where there are several."""
    results, over = [], []
    for (run, family), (metric, judge) in product(families.items(), readings().items()):
        marks = []
        for template in range(asked.templates):
            own = [log.known[run, template, problem.line] for problem in asked.problems]
            marks.append(marks_of(asked.problems, own, judge))
            results.append(
                Result(
                    run=run,
                    task=WRITTEN + (f", template {template + 1}" if template else ""),
                    metric=metric,
                    value=float(marks[-1].mean()),
                    error=mean_error(marks[-1]),
                    noise=0.0,
                    kind="written",
                    chance=chance(asked.problems),
                    questions=len(own),
                    dropped=sum(not solution.fits for solution in own),
                    scored=described(family, writing, own),
                    seconds=log.seconds[run, template],
                    interval=wilson(float(marks[-1].mean()), len(own)),
                )
            )
        if asked.templates > 1:
            over.append(spread_of(run, metric, marks))
    return results, over


def spread_of(run: str, metric: str, marks: Sequence[NDArray[np.float64]]) -> Spread:
    """A metric over the prompts, from the (questions,) marks under each."""
    whole, each = np.mean(marks, axis=0), tuple(float(of.mean()) for of in marks)
    return Spread(run=run, task=WRITTEN, metric=metric, values=each, mean=float(whole.mean()), error=mean_error(whole))


def marks_of(problems: Sequence[Problem], solutions: Sequence[Solution], judge: Judge) -> NDArray[np.float64]:
    """(questions,) 1 where a solution gives the answer of its problem."""
    pairs = zip(solutions, problems, strict=True)
    return np.array([judge(solution.text, problem.answer) for solution, problem in pairs], float)


def chance(problems: Sequence[Problem]) -> float:
    """The share of the most frequent answer: what the best answer to all questions at once would give."""
    return Counter(normal(problem.answer) for problem in problems).most_common(1)[0][1] / len(problems)


def described(family: Family, writing: Writing, solutions: Sequence[Solution]) -> str:
    """How the solutions were written, and for how many there was no room, in words."""
    params = writing.params(family)
    length = f"at most {writing.total} tokens with the prompt" if writing.total else f"{params.length} tokens"
    text = f"{'two passes' if writing.passes == 2 else 'one pass'} of {length}, by {params.sampler or family.sampler}"
    text += f" in {params.steps} steps" if params.steps else ""
    text += f", temperature {params.temperature:g}"
    text += f", guidance {params.guidance:g}" if params.guidance else ""
    dropped = sum(not solution.fits for solution in solutions)
    return text + (f"; the context had no room for a text of {dropped} problems" if dropped else "")
