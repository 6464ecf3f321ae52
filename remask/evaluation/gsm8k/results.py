"""The accuracy of solutions: for each prompt with its interval, and over the prompts with its error.

The interval of one prompt is Wilson's, at 95 %, which holds near 0 too, where small models are. The answers to one
question under several prompts are tied, so that the error of their mean is that of the mean of each question, and it
has no such interval.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binomtest

from remask.evaluation.bench_points import binomial_error
from remask.evaluation.gsm8k.solving import Solution
from remask.evaluation.gsm8k.writing import Writing
from remask.evaluation.zeroshot.metrics import Result
from remask.families import Family
from remask.tasks.gsm8k.problems import Problem
from remask.tasks.gsm8k.reading import math_verify, right, right_by_math_verify
from remask.tasks.zeroshot.base import WRITTEN

Judge = Callable[[str, str], bool]
"""Whether a text gives an answer."""


def readings() -> dict[str, Judge]:
    """The metrics: `acc` by SMDM's reading and, where the package is installed, `math_verify` by its own."""
    second: dict[str, Judge] = {} if math_verify() is None else {"math_verify": right_by_math_verify}
    return {"acc": right, **second}


def results_of(
    run: str, family: Family, problems: Sequence[Problem], solutions: dict[int, list[Solution]], writing: Writing,
    seconds: float,
) -> list[Result]:  # fmt: skip
    """The results of a run: over all prompts, and of each where there are several.

    `solutions` are those of each prompt, in the order of the problems.
    """
    found = []
    for metric, judge in readings().items():
        marks = {
            template: np.array([judge(s.text, p.answer) for s, p in zip(own, problems, strict=True)], float)
            for template, own in solutions.items()
        }
        whole = {} if len(marks) == 1 else {metric: np.mean(list(marks.values()), axis=0)}
        single = metric if len(marks) == 1 else f"{metric}, template {{}}"
        for name, of in {**whole, **{single.format(one): of for one, of in marks.items()}}.items():
            hits = round(float(of.sum()), 6)
            found.append(
                Result(
                    run=run,
                    task=WRITTEN,
                    metric=name,
                    value=float(of.mean()),
                    error=error_of(of),
                    noise=0.0,
                    kind="written",
                    chance=None,
                    questions=len(problems),
                    dropped=sum(any(not own[i].fits for own in solutions.values()) for i in range(len(problems))),
                    scored=described(family, writing, metric, marks),
                    seconds=seconds,
                    interval=wilson(int(hits), len(of)) if name not in whole else None,
                )
            )
    return found


def error_of(marks: np.ndarray) -> float:
    """The standard error between questions of (questions,) marks from 0 to 1: the binomial one where all are equal."""
    n = len(marks)
    spread = float(marks.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return spread or binomial_error(float(marks.sum()), n)


def wilson(right: int, of: int) -> tuple[float, float]:
    """Wilson's interval of a share, at 95 %."""
    interval = binomtest(right, of).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def described(family: Family, writing: Writing, metric: str, marks: dict[int, np.ndarray]) -> str:
    """How the solutions were written, and how far the prompts are apart, in words."""
    params = writing.params(family)
    length = f"at most {writing.total} tokens with the prompt" if writing.total else f"{params.length} tokens"
    text = f"{'two passes' if writing.passes == 2 else 'one pass'} of {length}, by {params.sampler or family.sampler}"
    text += f" in {params.steps} steps" if params.steps else ""
    text += f", temperature {params.temperature:g}"
    text += f", guidance {params.guidance:g}" if params.guidance else ""
    if len(marks) > 1:
        shares = [float(one.mean()) for one in marks.values()]
        spread = np.std(shares, ddof=1)
        text += (
            f"; {metric} of the prompts from {min(shares):.4f} to {max(shares):.4f}, standard deviation {spread:.4f}"
        )
    return text
