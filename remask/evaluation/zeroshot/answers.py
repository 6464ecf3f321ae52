"""The answers of a model to questions: -log p of each possible answer, and whether greedy decoding writes it.

All scores of benchmarks come from `answers`, those of `remask eval` and those of lm-evaluation-harness alike.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.evaluation.zeroshot.greedy import greedy_estimator
from remask.evaluation.zeroshot.groups import Grouped, GroupedEstimate
from remask.evaluation.zeroshot.protocol import Scoring
from remask.families import Family
from remask.likelihood import Estimator, Ranking, Request, choose, rank, score
from remask.likelihood.estimator import in_pairs
from remask.tasks.zeroshot import Question

TOGETHER = 16
"""Questions whose answers are scored in the same network calls."""
DIVISORS = {"acc": "sum", "acc_norm": "characters"}
"""What the nats of an answer are divided by for each metric that compares answers, as `rank` names it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says to one question, in the order of the possible answers."""

    nats: tuple[float, ...]
    """-log p, or a bound on it."""
    groups: tuple[tuple[float, ...], ...]
    """The estimates of independent groups of draws; none where an answer is scored without noise."""
    errors: tuple[float | None, ...]
    """Their standard errors: 0 without noise, None where a single draw shows none."""
    greedy: tuple[bool, ...] = ()
    """Whether greedy decoding writes the answer; empty where that was not asked or has no meaning."""
    kind: str
    """exact, or bound where one of the answers has a bound."""
    dropped: int = 0
    """Tokens of the context that were dropped on the left, since they were beyond the model's context."""
    draws: int = 0
    """Copies that were read of all answers together, without greedy decoding; 0 where unknown."""
    candidates: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Where draws ended early: by the metric, the answers that may be the best, the leading one first. The others were
    dropped with few draws, so that their nats are compared with no others."""

    @property
    def settled(self) -> bool:
        """Whether draws ended early, or could have, since the best answer is known for every metric."""
        return bool(self.candidates) and all(len(places) == 1 for places in self.candidates.values())


def estimator_for(family: Family, scoring: Scoring) -> Estimator:
    """The estimator of a benchmark's answers; an autoregressive model is scored exactly, whatever the settings."""
    if family.exact:
        return choose(family)
    options: dict[str, Any] = {name: getattr(scoring, name) for name in ("draws", "strata", "guidance", "seed")}
    return choose(family, scoring.estimator, **options)


def answers(
    checkpoint: Checkpoint,
    questions: Iterable[tuple[Any, Question]],
    scoring: Scoring,
    greedy: bool = False,
    metrics: Sequence[str] = ("acc",),
) -> Iterator[tuple[Any, Answer]]:
    """The answer to each of some numbered questions, as (number, answer) in their order.

    With `greedy`, also whether greedy decoding by `scoring.greedy` writes each of the possible answers. Where
    `scoring.settle` is given, and without `greedy`, the draws of a question end when the best of its answers is known
    by each of the `metrics`, acc and acc_norm.

    Raises:
        RemaskError: an estimator that does not fit the model; an answer that has no tokens or is longer than the
            context, with the question's number.
    """
    settle = None if greedy or checkpoint.family.exact else scoring.settle
    estimator = estimator_for(checkpoint.family, scoring)
    kind = Grouped(inner=estimator if settle is None else in_pairs(estimator))
    rule = greedy_estimator(checkpoint.family, scoring.greedy, scoring.guidance) if greedy else None
    source = iter(questions)
    while part := list(islice(source, TOGETHER)):
        requests, dropped = [], []
        for number, question in part:
            found = requests_of(checkpoint, question, scoring.shared_noise, number)
            requests.append([request for request, _ in found])
            dropped.append(max(count for _, count in found))
        if settle is not None:
            asked = [with_characters(own, question) for own, (_, question) in zip(requests, part, strict=True)]
            ranked = rankings(checkpoint, asked, kind, settle, metrics)
            for (number, _), ranking, count in zip(part, ranked, dropped, strict=True):
                yield number, answer_of_ranking(ranking, metrics, count)
            continue
        flat = [request for of_question in requests for request in of_question]
        scored: list[Any] = estimates(checkpoint, flat, kind)
        written = [one.nats == 0 for one in estimates(checkpoint, flat, rule)] if rule is not None else []
        at = 0
        for (number, _), of_question, count in zip(part, requests, dropped, strict=True):
            here = slice(at, at + len(of_question))
            at = here.stop
            yield number, answer_of(scored[here], written[here], count)


def estimates(checkpoint: Checkpoint, requests: Sequence[Request], estimator: Estimator) -> list[Any]:
    """The estimates of some requests: the one place where a benchmark's answers are scored."""
    model = checkpoint.model
    return [found for _, found in score(model, checkpoint.family, requests, estimator=estimator, device=model.device)]


def rankings(
    checkpoint: Checkpoint, questions: Sequence[Sequence[Request]], kind: Grouped, settle: float, metrics: Sequence[str]
) -> Iterator[Ranking]:
    """What is known of the answers of some questions when the best one is, or all draws are made."""
    model, by = checkpoint.model, [DIVISORS[metric] for metric in metrics]
    how: dict[str, Any] = {"confidence": settle, "by": by, "device": model.device}
    return rank(model, checkpoint.family, questions, estimator=kind, **how)


def answer_of_ranking(ranking: Ranking, metrics: Sequence[str], dropped: int) -> Answer:
    """The answer to a question whose draws ended early."""
    scored: list[Any] = ranking.estimates
    candidates = dict(zip(metrics, ranking.candidates, strict=True))
    return replace(answer_of(scored, (), dropped), draws=ranking.draws, candidates=candidates)


def with_characters(requests: Sequence[Request], question: Question) -> list[Request]:
    """The requests of a question's answers, each with the characters by which `acc_norm` divides."""
    return [replace(one, characters=len(text)) for one, text in zip(requests, question.choices, strict=True)]


def answer_of(scored: Sequence[GroupedEstimate], written: Sequence[bool], dropped: int) -> Answer:
    """The answer to one question, from the estimates of its possible answers."""
    return Answer(
        nats=tuple(one.nats for one in scored),
        groups=tuple(one.groups for one in scored),
        errors=tuple(None if math.isnan(one.stderr) else one.stderr for one in scored),
        greedy=tuple(written),
        kind="exact" if all(one.kind == "exact" for one in scored) else "bound",
        dropped=dropped,
        draws=sum(one.draws for one in scored),
    )


def requests_of(checkpoint: Checkpoint, question: Question, shared: bool, number: Any) -> list[tuple[Request, int]]:
    """The requests of a question's answers, each with the number of tokens that were dropped from its context.

    With `shared` they have the same noise. RemaskError for an answer that cannot be scored, with its question's number.
    """
    try:
        return [
            request_of(checkpoint, context, text, question.noise_key if shared else None)
            for context, text in question.pairs
        ]
    except RemaskError as error:
        raise RemaskError(f"{number}: {error}") from None


def request_of(checkpoint: Checkpoint, context: str, text: str, noise_key: str | None = None) -> tuple[Request, int]:
    """The request of a text given its context, and the number of tokens that were dropped from the context.

    As in lm-evaluation-harness, white space at the end of the context counts as the text's, and a context that does not
    fit loses its first tokens. Where a token spans the border of the two, the text is encoded alone.
    """
    tokenizer, most, bos = checkpoint.tokenizer, checkpoint.model.architecture.context, checkpoint.family.bos
    kept = context.rstrip()
    text = context[len(kept) :] + text
    given = tokenizer.encode(kept) if kept else []
    whole = tokenizer.encode(kept + text)
    target = whole[len(given) :] if whole[: len(given)] == given else tokenizer.encode(text)
    if not target:
        raise RemaskError("nothing to score: an answer is empty")
    if len(bos) + len(target) > most:
        raise RemaskError(f"an answer has {len(target)} tokens, and the context of the model is {most}")
    dropped = max(0, len(bos) + len(given) + len(target) - most)
    return Request(target, [*bos, *given[dropped:]], len(text.encode()), noise_key=noise_key), dropped
