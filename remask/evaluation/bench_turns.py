"""What `remask bench sample` times in the same rounds, so that what else the machine does meets all of it alike.

All ways of the same models, at one task and batch size, take turns. Where a way is added later, those that were timed
before are timed again, in rounds that they share with it; what was measured of their quality is kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from remask.checkpoints.checkpoint import Checkpoint
from remask.evaluation.bench_points import Bench, Key, Timing
from remask.evaluation.questions import Questions
from remask.evaluation.ways import Way, way_of
from remask.terminal import say


@dataclass(frozen=True)
class Job:
    """One model that answers the questions of one template in one way."""

    model: str
    checkpoint: Checkpoint
    questions: Questions
    way: Way

    @property
    def key(self) -> Key:
        """By which its measurements are found again."""
        return self.model, self.questions.name, self.questions.template, self.way.name

    @property
    def about(self) -> dict[str, Any]:
        """The key, by the names of the fields of a measurement."""
        return dict(zip(("model", "task", "template", "way"), self.key, strict=True))


@dataclass(frozen=True)
class Group:
    """What takes turns: the jobs of one task, at one batch size."""

    batch: int
    jobs: tuple[Job, ...]
    series: int
    """Its number in `Bench.series`."""

    def known(self, bench: Bench, job: Job, number: int) -> bool:
        """Whether a job was timed in a round of this series."""
        place = (*job.key, self.batch, number)
        return any(timing.place == place and timing.series == self.series for timing in bench.timings)

    def add(self, bench: Bench, timing: Timing) -> None:
        """Adds a timing of this series, which takes the place of those of the same job in other series."""
        where = (*timing.key, timing.batch)
        bench.timings = [t for t in bench.timings if t.series == self.series or (*t.key, t.batch) != where]
        bench.timings.append(timing)
        bench.save()


def groups_of(jobs: Sequence[Job], batches: Iterable[int], bench: Bench) -> list[Group]:
    """What is timed in turns: the jobs, and what was timed before of the same models, tasks and batch sizes.

    Says where that has to be timed again, since it shares no rounds with the jobs.
    """
    found = []
    for batch in batches:
        for task in dict.fromkeys(job.questions.name for job in jobs):
            own = [job for job in jobs if job.questions.name == task]
            every = (*own, *timed_before(own, {timing.key for timing in bench.timings if timing.batch == batch}))
            found.append(Group(batch, every, series_of(every, batch, bench)))
    return found


def timed_before(jobs: Sequence[Job], keys: set[Key]) -> list[Job]:
    """Jobs of the same models and questions that are not among these but were timed."""
    checkpoints = {job.model: job.checkpoint for job in jobs}
    questions = {(job.questions.name, job.questions.template): job.questions for job in jobs}
    return [
        Job(model, checkpoints[model], questions[task, template], way_of(name))
        for model, task, template, name in sorted(keys - {job.key for job in jobs})
        if model in checkpoints and (task, template) in questions and way_of(name).name == name
    ]


def series_of(jobs: Sequence[Job], batch: int, bench: Bench) -> int:
    """The series in which all jobs take turns: the last one, if it was begun with all of them, or else a new one."""
    keys = {job.key for job in jobs}
    timed = [timing for timing in bench.timings if timing.batch == batch and timing.key in keys]
    last = max((timing.series for timing in timed), default=-1)
    if last >= 0 and keys <= set(bench.series[last]) and in_step(keys, [t for t in timed if t.series == last]):
        return last
    if timed:
        before = len({(timing.model, timing.way) for timing in timed})
        say(
            f"{jobs[0].questions.name}, batches of {batch}: {before} ways were timed without some of those that are "
            f"asked for now; all {len({(job.model, job.way.name) for job in jobs})} are timed again, in turns"
        )
    bench.series.append([job.key for job in jobs])
    return len(bench.series) - 1


def in_step(keys: set[Key], timed: Sequence[Timing]) -> bool:
    """Whether every job was timed in all rounds but the last, which may have been interrupted."""
    rounds = max(timing.round for timing in timed)
    return {(*key, number) for key in keys for number in range(rounds)} <= {(*t.key, t.round) for t in timed}
