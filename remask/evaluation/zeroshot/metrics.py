"""The metrics of a benchmark, as lm-evaluation-harness defines them, each with two errors.

The sampling error is that of the choice of questions: the standard error of the mean over them. The Monte Carlo error
is that of the noise by which a bound is estimated: how far the metric of the same questions moves with other noise. For
it, each question draws as many of its independent groups of draws as it has, with replacement and the same ones for all
of its answers, and the metric is computed anew; the error is the standard deviation over 200 such drawings.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remask.evaluation.zeroshot.answers import Answer
from remask.tasks.zeroshot import Benchmark, Question

RESAMPLES = 200
"""Drawings of groups for the Monte Carlo error."""
Floats = NDArray[np.float64]
Worth = Callable[[Question, Answer, Floats], Floats]
"""What several estimates of the answers to a question, (n, answers) nats, are worth: (n,)."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One metric of one run on one benchmark."""

    run: str
    task: str
    metric: str
    value: float
    error: float
    """Standard error over questions; nan with one question."""
    noise: float
    """Monte Carlo error of the value: 0 where nothing is random, nan where it is not known, with one draw."""
    kind: str
    """exact; bound where likelihoods are bounds, so that a perplexity is one too; greedy decoding by its rule; or
    written, where the answer is read from a text."""
    chance: float | None
    """The value of a guess; None where there is no such value."""
    questions: int
    dropped: int
    """Questions whose context did not fit as a whole."""
    scored: str
    """The estimator with its settings."""
    seconds: float
    draws: float = math.nan
    """Copies of an answer that the network read, on average, without greedy decoding; nan where unknown."""
    settled: float | None = None
    """Share of the questions whose best answer was known at the chosen confidence; None where all draws are made."""
    interval: tuple[float, float] | None = None
    """Of 95 %, where there is one beside the error."""

    @property
    def at_chance(self) -> bool:
        """Whether the value is within two standard errors, of both kinds, of a guess."""
        both = math.hypot(self.error, 0.0 if math.isnan(self.noise) else self.noise)
        return self.chance is not None and not abs(self.value - self.chance) > 2 * both


def metrics_of(
    benchmark: Benchmark, questions: Sequence[Question], answers: Sequence[Answer]
) -> dict[str, tuple[float, float, float, str, float | None]]:
    """(value, sampling error, Monte Carlo error, kind, chance) of each metric; without accuracy where greedy decoding
    has no meaning for the model."""
    kind = "exact" if all(one.kind == "exact" for one in answers) else "bound"
    found: dict[str, tuple[float, float, float, str, float | None]] = {}
    for metric in benchmark.metrics:
        worth = worth_of(benchmark, metric)
        if worth is written:
            if all(one.greedy for one in answers):
                right = values(questions, answers, worth)
                found[metric] = float(right.mean()), standard_error(right), 0.0, "greedy", None
            continue
        each, noise = values(questions, answers, worth), monte_carlo_error(questions, answers, worth)
        if metric == "perplexity":
            value = math.exp(float(each.mean()))
            found[metric] = value, value * standard_error(each), value * noise, kind, None
        else:
            chance = float(np.mean([1 / len(question.pairs) for question in questions]))
            found[metric] = float(each.mean()), standard_error(each), noise, kind, chance
    return found


def worth_of(benchmark: Benchmark, metric: str) -> Worth:
    """What a question adds to a metric of a benchmark; to a perplexity, to its logarithm."""
    if metric == "perplexity":
        return of_first
    return written if benchmark.greedy else right_by(metric)


def right_by(metric: str) -> Worth:
    """Whether the answer that acc or acc_norm chooses is right, 1 or 0; of equal answers the first is chosen.

    Answers that were dropped early are not chosen, so that a question that is settled has one choice, whatever its
    noise.
    """

    def right(question: Question, answer: Answer, nats: Floats) -> Floats:
        if metric == "acc_norm":
            nats = nats / np.array([float(len(choice)) for choice in question.choices])
        if metric in answer.candidates:
            dropped = np.full(nats.shape[1], np.inf)
            dropped[list(answer.candidates[metric])] = 0
            nats = nats + dropped
        return (nats.argmin(1) == question.gold).astype(float)

    return right


def of_first(question: Question, answer: Answer, nats: Floats) -> Floats:
    """-log p of the first answer."""
    return nats[:, 0]


def written(question: Question, answer: Answer, nats: Floats) -> Floats:
    """Whether greedy decoding writes the first answer, 1 or 0."""
    return np.full(len(nats), float(answer.greedy[0]))


def values(questions: Sequence[Question], answers: Sequence[Answer], worth: Worth) -> Floats:
    """(questions,) what each answer is worth."""
    return np.array([worth(q, a, np.array([a.nats]))[0] for q, a in zip(questions, answers, strict=True)])


def monte_carlo_error(questions: Sequence[Question], answers: Sequence[Answer], worth: Worth, seed: int = 0) -> float:
    """The standard deviation of the mean over questions when the groups of draws of each are drawn anew.

    0 where no answer has noise; nan where one is a single draw, which shows no error.
    """
    return float(means_redrawn(questions, answers, worth, seed).std(ddof=1))


def means_redrawn(questions: Sequence[Question], answers: Sequence[Answer], worth: Worth, seed: int = 0) -> Floats:
    """(RESAMPLES,) the mean over questions of what the noisy ones are worth when their groups of draws are drawn anew;
    nan where an answer is a single draw."""
    if any(error is None for answer in answers for error in answer.errors):
        return np.full(RESAMPLES, math.nan)
    total = np.zeros(RESAMPLES)
    for place, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        if any(answer.groups):  # each question has drawings of its own, however many groups the others have
            total += worth(question, answer, redrawn(answer, np.random.default_rng([seed, place])))
    return total / len(answers)


def redrawn(answer: Answer, rng: np.random.Generator) -> Floats:
    """(RESAMPLES, answers) nats, each from as many groups as there are, drawn with replacement.

    Answers with equally many groups draw the same ones, since their noise may be shared.
    """
    nats = np.tile(np.array(answer.nats), (RESAMPLES, 1))
    choices: dict[int, NDArray[np.int64]] = {}
    for place, groups in enumerate(answer.groups):
        n = len(groups)
        if n:
            which = choices.setdefault(n, rng.integers(n, size=(RESAMPLES, n)))
            moved = np.array(groups)[which].mean(1) - np.mean(groups)
            nats[:, place] += moved * math.sqrt(n / (n - 1))  # n groups vary by this much less among themselves
    return nats


def standard_error(of: Floats) -> float:
    """The standard error of a mean; nan of one value."""
    return float(of.std(ddof=1) / math.sqrt(len(of))) if len(of) > 1 else math.nan


def difference(
    benchmark: Benchmark,
    metric: str,
    questions: Sequence[Question],
    answers: Sequence[Answer],
    others: Sequence[Answer],
) -> tuple[float, float, float]:
    """(value, sampling error, Monte Carlo error) of a metric of `answers` less that of `others` to the same questions.

    Both errors are paired: that of the differences within a question, and that of groups of draws which are drawn
    anew for both together, as they have the same noise. Those of perplexities are carried over from their logarithms.
    """
    worth = worth_of(benchmark, metric)
    each, other = (values(questions, one, worth) for one in (answers, others))
    first, second = each.mean(), other.mean()
    a = b = 1.0  # the derivatives of the metric
    if metric == "perplexity":
        a, b = first, second = np.exp(first), np.exp(second)
    error = standard_error(a * each - b * other)
    if worth is written:
        return float(first - second), error, 0.0
    noise = a * means_redrawn(questions, answers, worth) - b * means_redrawn(questions, others, worth)
    return float(first - second), error, float(noise.std(ddof=1))
