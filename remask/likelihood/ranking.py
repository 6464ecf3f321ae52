"""Which of several answers is the most probable, with no more draws than it takes to know.

    for ranking in rank(model, family, questions, confidence=0.95, by=("sum", "bytes")):
        print(ranking.id, ranking.best, ranking.settled, ranking.draws)

The copies of a question's answers are read in rounds, and after each round an answer is dropped that is less probable
than the best one. Both have the same noise, so what is tested is the mean of their differences in independent groups
of copies, by Student's t: of the bound itself, that of ever more copies (target "bound"), or of all draws with this
seed (target "draws"). When n of N groups are read, the mean of all N will differ from that of the n by
s (1/n - 1/N)^(1/2) times a value that is distributed as Student's t with n - 1 degrees of freedom; for the bound, N is
infinite. A comparison is at the level (1 - confidence) / (rounds * (answers - 1)): whatever the number of looks, the
probability that the best answer by the target is ever dropped is at most 1 - confidence, by the union bound over the
rounds and the other answers, as far as the means of the groups are normal. Where all draws of one of two answers are an
enumeration, the bound is tested until then, and after it the mean of all draws of the other.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from remask.errors import RemaskError, unknown
from remask.families import Denoiser, Family
from remask.likelihood.estimate import Estimate
from remask.likelihood.estimator import Estimator, in_pairs
from remask.likelihood.reading import Work, prepared
from remask.likelihood.request import Request
from remask.likelihood.rounds import Drawn, Item, read_in_rounds
from remask.terminal import progress

Target = Literal["bound", "draws"]
"""What an answer is the best by."""

Divisor = str | Callable[[Request], float]
"""What the nats of an answer are divided by before answers are compared."""

DIVISORS: dict[str, Callable[[Request], float]] = {
    "sum": lambda request: 1.0,
    "tokens": lambda request: len(request.target),
    "bytes": lambda request: request.bytes,
    "characters": lambda request: request.characters,
}
"""Divisors by name."""

RESOLUTION = 1e-6
"""Relative differences below this are rounding of the network's float32."""


class Ranking(NamedTuple):
    """What is known of the answers of one question."""

    id: Any
    """The id of its first request; by default the place of the question."""
    estimates: list[Estimate]
    """-log p of each answer, in their order, each from the draws that it got."""
    settled: bool
    """Whether the best answer, by every normalisation, is known at the chosen confidence: told apart from the others,
    or, where the target is draws, the one that all draws would find."""
    draws: int
    """Copies that were read, of all answers together."""
    best: tuple[int, ...]
    """The place of the most probable answer, for each normalisation. Where answers were dropped early this is not
    always the least of `estimates`, which then come from different numbers of draws."""
    candidates: tuple[tuple[int, ...], ...]
    """The answers that were not dropped, the best one first, for each normalisation: one where that is settled. Those
    of an unsettled question have all their draws."""


def rank(
    denoiser: Denoiser,
    family: Family,
    questions: Iterable[Sequence[Request]],
    *,
    confidence: float = 0.95,
    by: Sequence[Divisor] = ("sum",),
    target: Target = "bound",
    estimator: str | Estimator = "auto",
    tokens: int | None = None,
    device: str | torch.device = "cpu",
    show: bool = False,
    **options: Any,
) -> Iterator[Ranking]:
    """The most probable answer of each question, in the order of the questions.

    Questions are read as they are needed, their copies share the network's calls, and memory does not grow with their
    number. An answer of one token, and any other whose value is not random, is read once;
    one whose masks are all read by "enumeration" is first drawn, as "count" does, for a round or a few.

    Args:
        denoiser: the network.
        family: what it is, with its vocabulary.
        questions: the answers of each question, two or more. They should have the same `noise_key`; where no answer of
            a question has one, they get one that depends on all of them.
        confidence: the least probability that the best answer of a question is not dropped, for each normalisation. At
            1, all draws are read.
        target: what an answer is the best by: its bound, whatever the noise; or the mean of all draws with this seed,
            which takes fewer of them, and settles questions that other noise would settle otherwise.
        by: normalisations of the answers' nats, all of which have to be settled: "sum" (none), "tokens", "bytes",
            "characters", or functions from a `Request` to what its nats are divided by.
        estimator: as for `score`. The groups of `Count` and `Draws` are of two copies unless `group` says otherwise,
            so that the first rounds have as many independent groups as they can.
        tokens: as for `score`.
        device: where the network is.
        show: show progress on standard error.
        options: of the estimator, such as draws, seed and guidance.

    RemaskError as of `score`, and, when it is reached, for a question with less than two answers.
    """
    if not 0.5 <= confidence <= 1:
        raise RemaskError(f"confidence is {confidence}; it must be at least 0.5, and at most 1")
    if not by:
        raise RemaskError(f"by names no normalisation; give one or more of {', '.join(DIVISORS)}")
    divisors = [divisor_of(one) for one in by]
    if target not in get_args(Target):
        raise unknown("target", target, get_args(Target))
    kind, budget = prepared(family, estimator, tokens, device, options)
    kind = in_pairs(kind)
    items = (Question(i, answers, kind, family, divisors, confidence, target) for i, answers in enumerate(questions))
    return _rank(denoiser, family, kind, items, budget, device, show)


@torch.inference_mode()
def _rank(
    denoiser: Denoiser,
    family: Family,
    estimator: Estimator,
    items: Iterator["Question"],
    budget: int,
    device: str | torch.device,
    show: bool,
) -> Iterator[Ranking]:
    with progress("ranking", None, "rows") if show else nullcontext(lambda n: None) as tick:
        for item in read_in_rounds(denoiser, family, estimator, items, budget, device, tick):
            yield item.ranking()


def divisor_of(one: Divisor) -> Callable[[Request], float]:
    """A normalisation, by its name or itself."""
    if isinstance(one, str) and one not in DIVISORS:
        raise unknown("normalisation", one, DIVISORS)
    return DIVISORS[one] if isinstance(one, str) else one


class Question(Item):
    """The answers of one question, of which those are dropped that are known not to be the best."""

    def __init__(
        self,
        place: int,
        answers: Sequence[Request],
        estimator: Estimator,
        family: Family,
        divisors: Sequence[Callable[[Request], float]],
        confidence: float,
        target: Target = "bound",
    ) -> None:
        answers = with_common_noise(answers)
        if len(answers) < 2:
            raise RemaskError(f"question {place} has {len(answers)} answers to rank; there must be two or more")
        if not all(len(answer.target) for answer in answers):
            raise RemaskError(f"question {place} has an answer without tokens")
        self.id = place if answers[0].id is None else answers[0].id
        self.target = target
        self.answers = [Drawn(answer, estimator, family) for answer in answers]
        self.later: dict[int, Drawn] = {}
        """What is read of an answer where its preview does not settle the ranking."""
        self.previewed = 0
        """Copies of previews that were followed by all copies."""
        for i, answer in enumerate(answers):
            if confidence < 1 and (preview := preview_of(answer, estimator, family)):
                self.later[i], self.answers[i] = self.answers[i], preview
        self.divisors = [[float(divisor(answer)) for answer in answers] for divisor in divisors]
        if min(min(row) for row in self.divisors) <= 0:
            raise RemaskError(f"question {place}: an answer's nats cannot be divided by its size, which is not known")
        looks = max(len(answer.ends) + (i in self.later) for i, answer in enumerate(self.answers))
        self.level = (1 - confidence) / (looks * (len(answers) - 1))
        """Of one comparison."""
        self.candidates = [list(range(len(answers))) for _ in divisors]
        """The answers that may be the best, the most probable first, for each normalisation."""

    def next_round(self) -> list[Work]:
        needed = sorted({answer for candidates in self.candidates if len(candidates) > 1 for answer in candidates})
        for i in needed:
            if self.answers[i].complete and i in self.later:
                self.previewed += len(self.answers[i].values)
                self.answers[i] = self.later.pop(i)
        return [work for answer in needed for work in self.answers[answer].next_round()]

    def judge(self) -> None:
        values = [answer.groups() for answer in self.answers]
        known = [answer.known for answer in self.answers]
        for divisors, candidates in zip(self.divisors, self.candidates, strict=True):
            if len(candidates) > 1:
                scaled = {i: values[i] / divisors[i] for i in candidates}
                first, *others = sorted(candidates, key=lambda i: float(scaled[i].mean()))
                candidates[:] = [first]
                for i in others:
                    exact = known[i] and known[first]
                    if not (exact or above(scaled[i], scaled[first], self.level, self.groups_in_all(i, first))):
                        candidates.append(i)
        open_ = [i for candidates in self.candidates if len(candidates) > 1 for i in candidates]
        self.closed = all(self.answers[i].complete and i not in self.later for i in open_)

    def groups_in_all(self, i: int, j: int) -> float:
        """The number of groups whose mean is the target of two answers, one of which is not known; infinite for the
        bound, and where an enumeration follows the draws, which has no error."""
        if self.target == "bound":
            return math.inf
        numbers = (
            math.inf if one in self.later else len(answer.estimator.groups_of(answer.request))
            for one in (i, j)
            if not (answer := self.answers[one]).known
        )
        return max(numbers)

    def ranking(self) -> Ranking:
        """What is known in the end."""
        estimates = [answer.estimate() for answer in self.answers]
        settled = all(len(candidates) == 1 for candidates in self.candidates)
        best = tuple(candidates[0] for candidates in self.candidates)
        draws = self.previewed + sum(len(answer.values) for answer in self.answers)
        return Ranking(self.id, estimates, settled, draws, best, tuple(map(tuple, self.candidates)))


def preview_of(request: Request, estimator: Estimator, family: Family) -> Drawn | None:
    """The first rounds of an answer whose masks would all be read: those of at most half as many copies."""
    preview = estimator.preview(request)
    drawn = Drawn(request, preview, family) if preview else None
    if drawn is not None:
        drawn.ends = [end for end in drawn.ends if 2 * end <= estimator.count(request)]
    return drawn if drawn is not None and drawn.ends else None


def with_common_noise(answers: Sequence[Request]) -> list[Request]:
    """The answers of a question, with a noise key that depends on all of them where none has one."""
    if any(answer.noise_key is not None for answer in answers):
        return list(answers)
    content = [(tuple(map(int, answer.prompt)), tuple(map(int, answer.target))) for answer in answers]
    return [replace(answer, noise_key=repr(content)) for answer in answers]


def above(values: Tensor, others: Tensor, level: float, groups: float = math.inf) -> bool:
    """Whether the mean of `values` will be above that of `others`; a wrong yes has at most the probability `level`.

    Both are (g,), of the same independent groups of noise; or one is (1,), where it is known without error. What is
    compared are the means of so many `groups` as there will be in all; if these are all there, those of ever more.
    """
    difference = values - others
    mean, size = float(difference.mean()), len(difference)
    if size == 1 or mean <= RESOLUTION * float(others.mean().abs()):
        return False
    remaining = 1 - size / groups if size < groups else 1.0
    error = float(difference.std()) * math.sqrt(remaining / size)
    return error > 0 and mean > quantile(level, size - 1) * error


def quantile(level: float, freedom: int) -> float:
    """Of Student's t: exceeded with the probability `level`."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - level)) if level > 0 else math.inf
