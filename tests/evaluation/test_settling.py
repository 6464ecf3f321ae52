"""Draws that end when the best answer is known: the ranking of all draws, and errors that are still right."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor
from zero_shot_rows import publish, write_rows

import remask
from remask import cli
from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.evaluation.zeroshot.answers import Answer, answer_of_ranking, answers
from remask.evaluation.zeroshot.asking import Settings
from remask.evaluation.zeroshot.command import evaluate
from remask.evaluation.zeroshot.groups import Grouped
from remask.evaluation.zeroshot.metrics import metrics_of
from remask.evaluation.zeroshot.protocol import Scoring, protocol
from remask.families import Family
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.likelihood import Copy, Estimate, Estimator, Request, rank
from remask.likelihood.count import Count
from remask.likelihood.masks import equal_groups, error_of_mean
from remask.tasks.zeroshot import Question, benchmark
from remask.tasks.zeroshot.base import of_choices
from remask.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("models") / "masked", Masked())


@pytest.fixture(scope="module")
def masked(folder: Path) -> Checkpoint:
    return remask.load(folder)


def asked(model: Checkpoint, questions: list[Question], **settings: Any) -> list[Answer]:
    found = answers(model, list(enumerate(questions)), Scoring(**settings), metrics=("acc", "acc_norm"))
    return [answer for _, answer in found]


def questions(number: int) -> list[Question]:
    """With answers of a space and 3 or 4 bytes, all of whose masks can be read."""
    draw = np.random.default_rng(3)
    words = ["".join(draw.choice(list("abcdefgh"), 3 + i % 2)) for i in range(3 * number)]
    return [of_choices(f"{i}?", words[3 * i : 3 * i + 3], i % 3) for i in range(number)]


def best(answer: Answer, metric: str) -> int:
    return answer.candidates[metric][0]


def test_it_ranks_as_enumeration_does(masked: Checkpoint) -> None:
    """By both metrics and at its confidence, with fewer draws; what is not settled has all of them."""
    some = questions(16)
    exact = asked(masked, some, draws=31)
    assert all(not any(answer.groups) for answer in exact)
    found = asked(masked, some, estimator="count", draws=64, settle=0.9)
    full = asked(masked, some, estimator="count", draws=64)
    wrong = settled = 0
    for question, answer, truth in zip(some, found, exact, strict=True):
        sizes = {"acc": np.ones(3), "acc_norm": np.array([len(choice) for choice in question.choices])}
        for metric, places in answer.candidates.items():
            settled += len(places) == 1
            wrong += len(places) == 1 and places[0] != (np.array(truth.nats) / sizes[metric]).argmin()
            if len(places) > 1:
                assert all(len(answer.groups[place]) == 32 for place in places), "all draws, in pairs"
    assert settled > 16 and wrong <= 0.1 * 2 * len(some)
    assert [answer.draws for answer in full] == [3 * 64] * 16
    assert sum(answer.draws for answer in found) < 0.8 * 3 * 64 * 16
    assert not any(answer.candidates or answer.settled for answer in full)


def test_at_a_confidence_of_1_all_draws_are_made(masked: Checkpoint) -> None:
    some = questions(3)
    for answer, question in zip(asked(masked, some, estimator="count", draws=16, settle=1.0), some, strict=True):
        pairs = [(context.encode(), text.encode()) for context, text in question.pairs]
        requests = [Request(list(text), list(context), noise_key=question.noise_key) for context, text in pairs]
        alone = remask.likelihood.score(masked.model, masked.family, requests, estimator=Count(draws=16, group=2))
        assert answer.nats == pytest.approx([estimate.nats for _, estimate in alone], rel=1e-5)
        assert answer.draws == 48


@dataclass(frozen=True, kw_only=True)
class Normal(Estimator):
    """Draws that are normal around known means, most of whose noise the answers of a question share."""

    means: dict[int, Any] = field(default_factory=dict)

    def count(self, request: Request) -> int:
        return self.draws

    def copies(self, request: Request, family: Family) -> Iterator[Copy]:
        seed, place = request.noise_seed(self.seed), request.target[0]
        shared = np.random.default_rng(seed).normal(size=self.draws)
        own = np.random.default_rng([seed, place]).normal(size=self.draws)
        for value in self.means[request.id][place] + 3 * (0.8 * shared + 0.6 * own):
            yield Copy(request, value=float(value))

    def evaluate(self, *arguments: Any) -> Tensor:
        raise NotImplementedError("every value is known")

    def groups_of(self, request: Request) -> list[int]:
        return equal_groups(self.draws, self.draws // 2)

    def finish(self, request: Request, values: Tensor) -> Estimate:
        groups = self.group_values(request, values)
        return Estimate(float(groups.mean()), error_of_mean(groups), "bound", 1, draws=len(values))


def test_both_errors_stay_right() -> None:
    """By simulation: the metric of settled questions moves with other noise by its Monte Carlo error, and has the mean
    that it has with all draws, with fewer of them."""
    number, rng, family = 30, np.random.default_rng(1), Masked().over(Vocabulary(size=10, mask=9))
    means = {question: rng.normal(20, 1.5, 3) for question in range(number)}
    some = [of_choices("?", ["a", "b", "c"], int(rng.integers(3))) for _ in range(number)]
    requests = [[Request((place,), noise_key=q, id=q) for place in range(3)] for q in range(number)]
    value, noise, draws = {}, {}, {}
    for confidence in (0.95, 1.0):
        found = []
        for seed in range(6):
            kind: Any = Grouped(inner=Normal(draws=64, seed=seed, means=means))
            ranked = rank(None, family, requests, confidence=confidence, estimator=kind)  # type: ignore[arg-type]
            given = [answer_of_ranking(ranking, ["acc"], 0) for ranking in ranked]
            found.append(metrics_of(benchmark("boolq"), some, given)["acc"])
            draws[confidence] = sum(answer.draws for answer in given)
        value[confidence] = np.array([one[0] for one in found])
        noise[confidence] = math.sqrt(np.mean([one[2] ** 2 for one in found]))
    assert draws[1.0] == number * 3 * 64
    assert draws[0.95] < 0.75 * draws[1.0]
    assert 0.5 < noise[0.95] / value[0.95].std(ddof=1) < 2
    assert noise[0.95] == pytest.approx(noise[1.0], rel=0.3)
    assert abs(value[0.95].mean() - value[1.0].mean()) < 0.03


def test_answers_that_were_dropped_are_not_chosen() -> None:
    """Their few draws may look better than all those of the answer that is left."""
    given = Answer(
        nats=(5.0, 4.0), groups=((5.0, 5.0, 5.0), (4.0, 4.0)), errors=(1.0, 1.0), kind="bound", candidates={"acc": (0,)}
    )
    question = of_choices("?", ["a", "b"], 0)
    assert metrics_of(benchmark("boolq"), [question], [given])["acc"][:1] == (1.0,)
    both = Answer(**(vars(given) | {"candidates": {"acc": (1, 0)}}))
    assert metrics_of(benchmark("boolq"), [question], [both])["acc"][:1] == (0.0,)


def test_the_command_says_what_it_took(folder: Path, tmp_path: Path, capsys: Any) -> None:
    left = publish(tmp_path / "left", Autoregressive(), seed=1)
    rows = [{"query": f"{i}", "choices": ["abcdef", "bcdefg"], "gold": i % 2} for i in range(4)]
    write_rows(tmp_path / "files" / "arc_easy.jsonl", rows)
    write_rows(tmp_path / "files" / "lambada_openai.jsonl", [{"text": "one two"}] * 2)
    command = ["eval", str(folder), str(left), "--tasks", "arc_easy,lambada_openai", "--files", str(tmp_path / "files")]
    command += ["--draws", "32", "--out", str(tmp_path / "out"), "--json"]
    cli.main([*command, "--settle", "0.9"])
    found = json.loads(capsys.readouterr().out)["results"]
    per = {(Path(one["run"]).name, one["task"], one["metric"]): one for one in found}
    mine = per["masked", "arc_easy", "acc_norm"]
    assert 8 <= mine["draws"] <= 32 and 0 <= mine["settled"] <= 1
    assert mine["scored"].startswith("enumeration, 32 draws at most, until the best answer is known at a confidence")
    assert (per["left", "arc_easy", "acc"]["draws"], per["left", "arc_easy", "acc"]["settled"]) == (1, None)
    assert per["masked", "lambada_openai", "perplexity"]["settled"] is None
    logged = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert sum(one["draws"] for one in logged if one["run"] == str(folder) and one["task"] == "arc_easy") == round(
        mine["draws"] * 8
    )
    cli.main([*command, "--settle", "0.9"])
    again = json.loads(capsys.readouterr().out)["results"]
    assert [one | {"seconds": 0} for one in again] == [one | {"seconds": 0} for one in found], "read from the log"
    with pytest.raises(SystemExit):
        cli.main(command)
    assert (
        "measured otherwise: settings of arc_easy.settle 0.9 there, unset now. Choose another --out"
        in capsys.readouterr().err
    )


def test_what_cannot_be_settled_is_named(folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "arc_easy.jsonl", [{"query": "a", "choices": ["b", "c"], "gold": 0}])
    with pytest.raises(RemaskError, match=r"settle is 0.2; it must be at least 0.5, and at most 1, such as 0.99"):
        evaluate([str(folder)], "arc_easy", tmp_path, out=tmp_path / "out", settings=Settings(settle=0.2))
    with pytest.raises(RemaskError, match="settle is for benchmarks from files"):
        evaluate([str(folder)], "lm_eval:arc_easy", out=tmp_path / "out", settings=Settings(settle=0.9))


def test_a_protocol_that_is_settled_shares_noise() -> None:
    assert not protocol("smdm").scoring("arc_easy").shared_noise
    assert protocol("smdm").scoring("arc_easy", settle=0.99).shared_noise
