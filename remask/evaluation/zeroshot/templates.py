"""The same questions under several prompt templates: the mean of a metric over them, and how far it moves.

Which of two models is better can depend on the template, so that one of them alone says little.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from remask.evaluation.zeroshot.asking import BenchmarkQuestions
from remask.evaluation.zeroshot.log import Log
from remask.evaluation.zeroshot.metrics import Result, standard_error, values, worth_of

HEAD = ("task", "metric", "run", "mean", "sampling", "lowest", "highest", "spread")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A metric of a run over the templates of a benchmark."""

    run: str
    task: str
    metric: str
    values: tuple[float, ...]
    """By the template, the one of lm-evaluation-harness first."""
    mean: float
    error: float
    """Standard error of the mean over questions, each of which is asked in all templates."""

    @property
    def spread(self) -> float:
        """The standard deviation between templates."""
        return float(np.std(self.values, ddof=1))


def spreads(
    runs: Iterable[str], asked: Sequence[BenchmarkQuestions], results: Sequence[Result], log: Log
) -> list[Spread]:
    """The metrics of all runs on the benchmarks that were asked in several templates."""
    found: list[Spread] = []
    for name, group in groupby(asked, key=lambda one: one.benchmark.name):
        ways = list(group)
        for run in runs if len(ways) > 1 else ():
            for metric in ways[0].benchmark.metrics:
                of = {one.task: one.value for one in results if (one.run, one.metric) == (run, metric)}
                if ways[0].name in of:  # not where greedy decoding has no meaning
                    found.append(spread_of(run, name, metric, ways, [of[way.name] for way in ways], log))
    return found


def spread_of(
    run: str, name: str, metric: str, ways: Sequence[BenchmarkQuestions], each: Sequence[float], log: Log
) -> Spread:
    """One metric of one run. Of a perplexity, the error is that of each question's change of the mean."""
    worth, moves = worth_of(ways[0].benchmark, metric), []
    for way, value in zip(ways, each, strict=True):
        own = values(list(way.questions.values()), [log.of(run, way.name)[line] for line in way.questions], worth)
        moves.append(own * (value if metric == "perplexity" else 1.0))
    error = standard_error(np.mean(moves, axis=0))
    return Spread(run=run, task=name, metric=metric, values=tuple(each), mean=float(np.mean(each)), error=error)


def cells_of(one: Spread, shown: dict[str, str]) -> list[str]:
    """The cells of a spread, as in HEAD."""
    form = ".4g" if one.metric == "perplexity" else ".4f"
    numbers = [f"{x:{form}}" for x in (one.mean, one.error, min(one.values), max(one.values), one.spread)]
    numbers[1] = f"+- {numbers[1]}"
    return [one.task, one.metric, shown[one.run], *numbers]


def changes_of_order(found: Sequence[Spread]) -> list[str]:
    """The metrics by which the runs do not come in the same order in all templates, in words."""
    texts = []
    for (task, metric), group in groupby(found, key=lambda one: (one.task, one.metric)):
        runs = list(group)
        orders = {
            tuple(np.argsort(column, kind="stable")) for column in zip(*(one.values for one in runs), strict=True)
        }
        if len(orders) > 1:
            texts.append(f"{task}, {metric}")
    return texts
