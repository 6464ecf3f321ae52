"""The measurements of `remask bench sample`: texts are graded first, then written again in rounds and timed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import mean

from remask.evaluation.bench_points import Bench, Grade, Timing
from remask.evaluation.bench_turns import Group, Job, groups_of
from remask.evaluation.writing import Written, write
from remask.sampling import SamplingParams

Tick = Callable[..., None]


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

    def groups(self, bench: Bench) -> list[Group]:
        """What is timed in turns, with what of it was timed before."""
        return groups_of(self.jobs, self.batches, bench)

    def measurements(self, groups: Sequence[Group]) -> int:
        """How many there are."""
        return len(self.jobs) + self.repeats * sum(len(group.jobs) for group in groups)

    def params(self, job: Job) -> SamplingParams:
        """The options by which a job's texts are written."""
        return job.way.params(job.questions.length(job.checkpoint), self.temperature, seed=self.seed)

    def texts(self, batch: int, questions: int) -> int:
        """How many texts are timed: at least as many as asked, in full batches, as far as there are questions."""
        return min(-(-self.timed // batch), questions // batch) * batch

    def measure(self, bench: Bench, groups: Sequence[Group], tick: Tick) -> None:
        """Makes the measurements that are missing. Each is saved at once."""
        self.grade(bench, tick)
        self.time(bench, groups, tick)

    def grade(self, bench: Bench, tick: Tick) -> None:
        """Lets each job answer all questions, in the largest batches."""
        known = {grade.key: grade for grade in bench.grades}
        for job in self.jobs:
            if job.key not in known:
                prompts = job.questions.prompts(job.checkpoint)
                written = write(job.checkpoint, prompts, self.params(job), max(self.batches))
                known[job.key] = graded(job, prompts, written, max(self.batches))
                bench.grades.append(known[job.key])
                bench.save()
            last = known[job.key]
            tick(1, way=job.way.name, quality=float(last.marks.mean()) if last.right else last.nll)

    def time(self, bench: Bench, groups: Sequence[Group], tick: Tick) -> None:
        """Times the jobs of every group in rounds: all of them before the next round."""
        warm: set[tuple[object, ...]] = set()
        for number, group in product(range(self.repeats), groups):
            for job in group.jobs:
                if not group.known(bench, job, number):
                    prompts = job.questions.prompts(job.checkpoint)[: self.texts(group.batch, len(job.questions))]
                    params = self.params(job)
                    if (*job.key, group.batch) not in warm:  # the first texts are not timed
                        write(job.checkpoint, prompts[: group.batch], params, group.batch)
                        warm.add((*job.key, group.batch))
                    written = write(job.checkpoint, prompts, params, group.batch)
                    group.add(bench, timing(job, group, number, written))
                tick(1, way=job.way.name, batch=group.batch, round=number + 1)


def graded(job: Job, prompts: list[list[int]], written: Written, batch: int) -> Grade:
    """The grade of a job's texts, which were written in batches of this size."""
    samples = written.samples
    return Grade(
        **job.about,
        questions=len(samples),
        length=job.questions.length(job.checkpoint),
        tokens=written.tokens / len(samples),
        ended=mean(float(s.ended) for s in samples),
        graded_at=batch,
        **job.questions.grade(samples, prompts, job.checkpoint.family.vocabulary.end),
    )


def timing(job: Job, group: Group, number: int, written: Written) -> Timing:
    """The time that a job's texts took in one round."""
    texts = len(written.samples)
    return Timing(
        **job.about,
        batch=group.batch,
        round=number,
        series=group.series,
        texts=texts,
        tokens=written.tokens,
        seconds=written.seconds,
        first=mean(written.first),
        last=mean(written.last),
        calls=written.calls / (texts / group.batch),
        passes=mean(s.evaluations for s in written.samples),
        memory=written.memory,
    )
