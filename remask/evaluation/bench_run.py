"""The measurements of `remask bench sample`: texts are graded first, then written again in rounds and timed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import mean
from typing import Any

from remask.checkpoints.checkpoint import Checkpoint
from remask.evaluation.bench_points import Bench, Grade, Timing
from remask.evaluation.questions import Questions
from remask.evaluation.ways import Way
from remask.evaluation.writing import Written, write
from remask.sampling import SamplingParams

Tick = Callable[..., None]


@dataclass(frozen=True)
class Job:
    """One model that answers the questions of one template in one way."""

    model: str
    checkpoint: Checkpoint
    questions: Questions
    way: Way

    @property
    def key(self) -> tuple[str, str, int, str]:
        """By which its measurements are found again."""
        return self.model, self.questions.name, self.questions.template, self.way.name

    @property
    def about(self) -> dict[str, Any]:
        """The key, by the names of the fields of a measurement."""
        return dict(zip(("model", "task", "template", "way"), self.key, strict=True))


@dataclass(frozen=True)
class Plan:
    """All that is to be measured."""

    jobs: tuple[Job, ...]
    batches: tuple[int, ...]
    repeats: int
    timed: int
    """Texts that are timed in each round."""
    temperature: float
    seed: int

    @property
    def measurements(self) -> int:
        """How many there are."""
        return len(self.jobs) * (1 + len(self.batches) * self.repeats)

    def params(self, job: Job) -> SamplingParams:
        """The options by which a job's texts are written."""
        return job.way.params(job.questions.length(job.checkpoint), self.temperature, seed=self.seed)

    def texts(self, batch: int, questions: int) -> int:
        """How many texts are timed: at least as many as asked, in full batches, as far as there are questions."""
        return min(-(-self.timed // batch), questions // batch) * batch

    def measure(self, bench: Bench, tick: Tick) -> None:
        """Makes the measurements that are missing. Each is saved at once."""
        self.grade(bench, tick)
        self.time(bench, tick)

    def grade(self, bench: Bench, tick: Tick) -> None:
        """Lets each job answer all questions, in the largest batches."""
        known = {grade.key: grade for grade in bench.grades}
        for job in self.jobs:
            if job.key not in known:
                prompts = job.questions.prompts(job.checkpoint)
                written = write(job.checkpoint, prompts, self.params(job), max(self.batches))
                known[job.key] = graded(job, prompts, written)
                bench.grades.append(known[job.key])
                bench.save()
            last = known[job.key]
            tick(1, way=job.way.name, quality=float(last.marks.mean()) if last.right else last.nll)

    def time(self, bench: Bench, tick: Tick) -> None:
        """Times every job in rounds, so that what else the machine does meets all of them alike."""
        known = {timing.place for timing in bench.timings}
        warm: set[tuple[object, ...]] = set()
        for number, batch, job in self.turns():
            if (*job.key, batch, number) not in known:
                prompts = job.questions.prompts(job.checkpoint)[: self.texts(batch, len(job.questions))]
                params = self.params(job)
                if (*job.key, batch) not in warm:  # the first texts are not timed
                    write(job.checkpoint, prompts[:batch], params, batch)
                    warm.add((*job.key, batch))
                written = write(job.checkpoint, prompts, params, batch)
                bench.timings.append(timing(job, batch, number, written))
                bench.save()
            tick(1, way=job.way.name, batch=batch, round=number + 1)

    def turns(self) -> Iterator[tuple[int, int, Job]]:
        """Round, batch size and job, in the order in which they are timed: all ways before the next round."""
        for number in range(self.repeats):
            for batch in self.batches:
                yield from ((number, batch, job) for job in self.jobs)


def graded(job: Job, prompts: list[list[int]], written: Written) -> Grade:
    """The grade of a job's texts."""
    samples = written.samples
    return Grade(
        **job.about,
        questions=len(samples),
        length=job.questions.length(job.checkpoint),
        tokens=written.tokens / len(samples),
        ended=mean(float(s.ended) for s in samples),
        **job.questions.grade(samples, prompts, job.checkpoint.family.vocabulary.end),
    )


def timing(job: Job, batch: int, number: int, written: Written) -> Timing:
    """The time that a job's texts took in one round."""
    texts = len(written.samples)
    return Timing(
        **job.about,
        batch=batch,
        round=number,
        texts=texts,
        tokens=written.tokens,
        seconds=written.seconds,
        first=mean(written.first),
        last=mean(written.last),
        calls=written.calls / (texts / batch),
        passes=mean(s.evaluations for s in written.samples),
        memory=written.memory,
    )
