"""The tables of `remask bench sample`: one row for each template, and one line for all templates of a task."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, median
from typing import Any

from remask.evaluation.bench_points import Bench, Grade, Timing, mean_accuracy
from remask.evaluation.pareto import pareto_front
from remask.evaluation.proportions import binomial_error
from remask.evaluation.ways import way_of

NEAR = 0.1
"""Under a judge only texts can be on the front whose token entropy differs by at most this share from that of real
text: a judge likes repetition, which has less of it."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Speed in one way and batch size: medians over the rounds."""

    tokens_per_second: float
    """Tokens before end-of-text, of all texts of a batch together."""
    seconds: float
    """Of all timed texts."""
    first_token: float
    """Seconds until the first token of a text is written: the mean over texts."""
    last_token: float
    calls: float
    """Network calls of a batch."""
    passes: float
    """Network passes over a text."""
    memory: int | None
    """The most bytes on the GPU; None on a CPU."""
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Row(Speed):
    """One row of bench.csv."""

    model: str
    family: str
    task: str
    template: int
    way: str
    sampler: str
    cache: str
    batch: int
    questions: int
    length: int
    accuracy: float | None
    """Share of the answers that are right."""
    accuracy_error: float | None
    """Its binomial standard error."""
    nll: float | None
    nll_error: float | None
    entropy: float | None
    entropy_error: float | None
    tokens: float
    """Mean tokens of a text before end-of-text."""
    ended: float
    graded_at: int
    """Texts that were written at once when the answers were graded."""


@dataclass(frozen=True, kw_only=True)
class Line(Speed):
    """One line of the report: a model, a way and a batch size, over the templates of a task."""

    model: str
    task: str
    way: str
    sampler: str
    cache: str
    batch: int
    quality: float
    """Accuracy, the mean over templates; or the judge's NLL."""
    error: float
    """Its standard error, between questions."""
    templates: tuple[float, ...]
    """Accuracy of each template; for the judge, its NLL."""
    entropy: float | None
    tokens: float
    """Mean tokens of a text before end-of-text."""
    ended: float
    """Share of the texts that an end-of-text token ended."""
    fastest: bool = False
    """Whether no other line of the task and batch size is at least as good and as fast, and better in one. Under a
    judge this is asked only among the lines whose entropy is `NEAR` that of real text."""

    @property
    def good(self) -> float:
        """Quality, where more is better."""
        return -self.quality if self.task == "judge" else self.quality


def rows_of(bench: Bench) -> list[Row]:
    """A row for each model, way, template and batch size that was graded and timed."""
    found = []
    for grade in bench.grades:
        way = way_of(grade.way)
        n = grade.questions
        accuracy = float(grade.marks.mean()) if grade.right else None
        error = None if accuracy is None else binomial_error(accuracy * n, n)
        own: dict[str, Any] = {name: value for name, value in vars(grade).items() if name != "right"}
        own |= {"family": bench.families[grade.model], "accuracy": accuracy, "accuracy_error": error}
        for batch, timings in by_batch(bench, [grade]).items():
            about: dict[str, Any] = {"sampler": way.rule, "cache": way.cache, "batch": batch}
            found.append(Row(**own, **about, **speed_of([timings])))
    return found


def lines_of(bench: Bench) -> list[Line]:
    """A line for each model, task, way and batch size, and which of them are on the Pareto front."""
    groups: dict[tuple[str, str, str], list[Grade]] = {}
    for grade in bench.grades:
        groups.setdefault((grade.task, grade.model, grade.way), []).append(grade)
    lines = []
    for (task, model, name), grades in groups.items():
        way = way_of(name)
        if grades[0].right:
            quality, error = mean_accuracy(grades)
            each = tuple(float(grade.marks.mean()) for grade in grades)
        else:
            quality, error = grades[0].nll or 0.0, grades[0].nll_error or 0.0
            each = (quality,)
        for batch in by_batch(bench, grades):
            timed = [timings for grade in grades if (timings := by_batch(bench, [grade]).get(batch))]
            about: dict[str, Any] = {"model": model, "task": task, "way": name, "sampler": way.rule}
            of: dict[str, Any] = {
                "cache": way.cache,
                "batch": batch,
                "quality": quality,
                "error": error,
                "templates": each,
                "entropy": grades[0].entropy,
                "tokens": mean(grade.tokens for grade in grades),
                "ended": mean(grade.ended for grade in grades),
            }
            lines.append(Line(**about, **of, **speed_of(timed)))
    real = (bench.real or {}).get("entropy")
    return [line for panel in panels(lines).values() for line in with_front(panel, real)]


def panels(lines: Sequence[Line]) -> dict[tuple[str, int], list[Line]]:
    """The lines that are compared with each other: those of one task and batch size."""
    found: dict[tuple[str, int], list[Line]] = {}
    for line in lines:
        found.setdefault((line.task, line.batch), []).append(line)
    return found


def with_front(lines: Sequence[Line], real: float | None) -> list[Line]:
    """The same lines, those on the Pareto front marked. `real` is the token entropy of real text under a judge."""
    among = [line for line in lines if line.task != "judge" or is_near(line.entropy, real)]
    front = pareto_front([(line.tokens_per_second, line.good) for line in among])
    marked = {id(line) for line, on in zip(among, front, strict=True) if on}
    return [replace(line, fastest=id(line) in marked) for line in lines]


def is_near(entropy: float | None, real: float | None) -> bool:
    """Whether a token entropy is that of real text, within a share of `NEAR`."""
    return entropy is not None and real is not None and abs(entropy - real) <= NEAR * real


def by_batch(bench: Bench, grades: Sequence[Grade]) -> dict[int, list[Timing]]:
    """The timings of what was graded, by batch size."""
    keys = {grade.key for grade in grades}
    found: dict[int, list[Timing]] = {}
    for timing in bench.timings:
        if timing.key in keys:
            found.setdefault(timing.batch, []).append(timing)
    return dict(sorted(found.items()))


def speed_of(templates: Sequence[Sequence[Timing]]) -> dict[str, Any]:
    """The fields of `Speed` from the rounds of each template: of rounds the median, of templates the mean or sum."""
    seconds = sum(median(t.seconds for t in rounds) for rounds in templates)
    memory = [t.memory for rounds in templates for t in rounds if t.memory is not None]

    def over(name: str) -> float:
        return mean(median(getattr(t, name) for t in rounds) for rounds in templates)

    return {
        "tokens_per_second": sum(rounds[0].tokens for rounds in templates) / seconds,
        "seconds": seconds,
        "first_token": over("first"),
        "last_token": over("last"),
        "calls": over("calls"),
        "passes": over("passes"),
        "memory": max(memory, default=None),
        "rounds": min(len(rounds) for rounds in templates),
    }
