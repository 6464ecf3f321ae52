"""Scores of benchmarks: the answers, greedy decoding, the metrics with their errors, and the command with its log."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zero_shot_rows import publish, short_rows, write_rows

import remask
from remask import cli
from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import Interrupted, RemaskError
from remask.evaluation.zeroshot import asking
from remask.evaluation.zeroshot.answers import Answer, answers, request_of
from remask.evaluation.zeroshot.asking import Settings
from remask.evaluation.zeroshot.command import evaluate
from remask.evaluation.zeroshot.greedy import greedy_estimator
from remask.evaluation.zeroshot.metrics import RESAMPLES, metrics_of, monte_carlo_error, redrawn, right_by
from remask.evaluation.zeroshot.protocol import Scoring, protocol, protocols, read
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.likelihood import score
from remask.tasks.zeroshot import Question, benchmark, benchmarks
from remask.tasks.zeroshot.base import of_choices


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Published folders: "masked" and "left"."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "masked": publish(folder / "masked", Masked()),
        "left": publish(folder / "left", Autoregressive(), seed=1),
    }


@pytest.fixture(scope="module")
def masked(runs: dict[str, Path]) -> Checkpoint:
    return remask.load(runs["masked"])


@pytest.fixture(scope="module")
def left(runs: dict[str, Path]) -> Checkpoint:
    return remask.load(runs["left"])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with two benchmarks."""
    write_rows(tmp_path / "files" / "arc_easy.jsonl", short_rows())
    words = [{"context": f"number {i} is", "continuation": "ab"} for i in range(6)]
    write_rows(tmp_path / "files" / "lambada_openai.jsonl", words)
    return tmp_path / "files"


def asked(model: Checkpoint, questions: list[Question], greedy: bool = False, **settings: Any) -> list[Answer]:
    found = answers(model, list(enumerate(questions)), Scoring(**settings), greedy)
    return [answer for _, answer in found]


QUESTION = of_choices("Question: ?\nAnswer:", ["a", "bc", "def"], 1)


# Answers


def test_answers_are_those_of_the_scores(masked: Checkpoint, left: Checkpoint) -> None:
    for model, settings in ((masked, {"estimator": "chain"}), (left, {})):
        (answer,) = asked(model, [QUESTION], **settings)
        for (context, text), nats in zip(QUESTION.pairs, answer.nats, strict=True):
            alone = remask.score(model, text=text, prompt=context, estimator=settings.get("estimator", "auto"))
            assert nats == pytest.approx(alone.nats, rel=1e-5)
        assert answer.kind == "exact" and not any(answer.groups) and answer.errors == (0, 0, 0)


def test_the_groups_of_a_bound_make_its_value_and_its_error(masked: Checkpoint) -> None:
    for estimator, draws in (("count", 32), ("smdm", 32), ("llada", 32)):
        (answer,) = asked(masked, [of_choices("?", ["abcdef", "ghijkl"], 0)], estimator=estimator, draws=draws)
        for nats, groups, error in zip(answer.nats, answer.groups, answer.errors, strict=True):
            assert np.mean(groups) == pytest.approx(nats)
            assert np.std(groups, ddof=1) / math.sqrt(len(groups)) == pytest.approx(error)


def test_groups_of_estimators_that_draw_no_masks(tmp_path: Path) -> None:
    for estimator in ("draws", "orders"):
        model = remask.load(publish(tmp_path / estimator, Interpolating(alpha_0=0.5)))
        (answer,) = asked(model, [of_choices("?", ["abcdef", "ghijkl"], 0)], estimator=estimator, draws=16)
        assert [len(groups) for groups in answer.groups] == [8, 8]
        assert all(np.mean(groups) >= nats - 1e-6 for groups, nats in zip(answer.groups, answer.nats, strict=True))


def test_short_answers_have_no_noise(masked: Checkpoint) -> None:
    """A space and a byte are two tokens, all of whose masks are read."""
    (answer,) = asked(masked, [of_choices("?", ["a", "b"], 0)])
    assert answer.kind == "bound" and not any(answer.groups) and answer.errors == (0, 0)


def test_answers_share_noise_only_within_a_question(masked: Checkpoint) -> None:
    long = ["abcdefgh", "abcdefgh"]
    (shared,) = asked(masked, [of_choices("?", long, 0)], draws=8)
    assert shared.nats[0] == shared.nats[1]
    (other,) = asked(masked, [of_choices("?", [*long, "x"], 0)], draws=8)
    assert other.nats[0] == pytest.approx(other.nats[1], rel=1e-6)
    assert other.nats[0] != pytest.approx(shared.nats[0], rel=1e-3), "another question has other noise"
    (question,) = [of_choices("?", ["abcdefgh", "abcdefgi"], 0)]
    (own,) = asked(masked, [question], draws=8, shared_noise=False)
    (tied,) = asked(masked, [question], draws=8)
    assert own.nats[0] != tied.nats[0]


def test_a_context_that_is_too_long_loses_its_first_tokens(masked: Checkpoint, left: Checkpoint) -> None:
    for model in (masked, left):
        room = model.model.architecture.context
        request, dropped = request_of(model, "x" * 10 + "y" * room, " ab")
        assert request.length == room and dropped == 13 and bytes(request.prompt[:2]) == b"yy"
        kept, none = request_of(model, "y" * (room - 3), " ab")
        assert none == 0 and list(kept.prompt) == list(request.prompt)
        with pytest.raises(RemaskError, match=r"3: an answer has 101 tokens, and the context of the model is 64"):
            list(answers(model, [(3, of_choices("?", ["a" * 100], 0))], Scoring()))


def test_white_space_before_an_answer_is_scored_with_it(masked: Checkpoint) -> None:
    request, _ = request_of(masked, "one \n", "two")
    assert bytes(request.prompt) == b"one" and bytes(request.target) == b" \ntwo" and request.bytes == 5
    with pytest.raises(RemaskError, match="0: nothing to score: an answer is empty"):
        list(answers(masked, [(0, Question((("context", ""),), ("",), 0))], Scoring()))


# Greedy decoding


@pytest.mark.parametrize("rule", ["Confidence", "Confidence:rule=left", "Confidence:rule=margin"])
@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_greedy_is_what_sampling_at_temperature_0_writes(masked: Checkpoint, rule: str, guidance: float) -> None:
    """The text that is written is greedy; each text that differs in one token is not."""
    written = remask.sample(
        masked, prompt="hello", length=4, sampler=rule, temperature=0, guidance=guidance, stop=False
    ).tokens
    texts = [written] + [[*written[:i], (written[i] + 1) % 256, *written[i + 1 :]] for i in range(4)]
    estimator = greedy_estimator(masked.family, rule, guidance)
    assert estimator is not None
    requests = [remask.likelihood.Request(text, list(b"hello")) for text in texts]
    found = score(masked.model, masked.family, requests, estimator=estimator)
    assert [estimate.nats == 0 for _, estimate in found] == [True, False, False, False, False]


def test_greedy_from_left_to_right(left: Checkpoint) -> None:
    written = remask.sample(left, prompt="hello", length=5, temperature=0, stop=False).tokens
    texts = [written] + [[*written[:i], (written[i] + 1) % 256, *written[i + 1 :]] for i in range(5)]
    estimator = greedy_estimator(left.family, "Confidence", 0.0)
    assert estimator is not None
    requests = [remask.likelihood.Request(text, list(b"hello")) for text in texts]
    found = score(left.model, left.family, requests, estimator=estimator)
    assert [estimate.nats == 0 for _, estimate in found] == [True] + 5 * [False]


def test_a_rule_that_draws_is_refused_and_one_that_does_not_fit_is_none(masked: Checkpoint) -> None:
    with pytest.raises(RemaskError, match="greedy is 'Ancestral'; it must be a rule that chooses"):
        greedy_estimator(masked.family, "Ancestral", 0.0)
    with pytest.raises(RemaskError, match="unknown sampler 'Confidenc'"):
        greedy_estimator(masked.family, "Confidenc", 0.0)
    assert greedy_estimator(Uniform().over(masked.family.vocabulary), "Confidence", 0.0) is None


# Metrics


def said(*nats: float, groups: Any = None, **more: Any) -> Answer:
    parts = tuple(() for _ in nats) if groups is None else groups
    given = {"kind": "exact", "errors": (0.0,) * len(nats), **more}
    return Answer(nats=nats, groups=parts, **given)


def test_accuracies() -> None:
    """acc_norm divides by characters, as the harness does; of equal answers the first is chosen."""
    questions = [of_choices("?", ["a", "bbbb"], 1)] * 4
    found = metrics_of(benchmark("arc_easy"), questions, [said(2, 1), said(1, 2), said(1, 5), said(2, 2)])
    value, error, noise, kind, chance = found["acc"]
    assert (value, noise, kind, chance) == (0.25, 0, "exact", 0.5)
    assert error == pytest.approx(np.std([1, 0, 0, 0], ddof=1) / 2)
    assert found["acc_norm"][0] == 0.75
    four = [of_choices("?", ["a", "b", "c", "d"], 0), of_choices("?", ["a", "b"], 0)]
    assert metrics_of(benchmark("piqa"), four, [said(1, 2, 3, 4), said(1, 2)])["acc"][4] == pytest.approx(3 / 8)


def test_last_words() -> None:
    questions = [Question((("c", " w"),), (" w",), 0)] * 2
    found = metrics_of(benchmark("lambada_openai"), questions, [said(1.0, greedy=(True,)), said(3.0, greedy=(False,))])
    assert found["acc"][0] == 0.5 and found["acc"][3] == "greedy"
    assert found["perplexity"][0] == pytest.approx(math.exp(2)) and found["perplexity"][1] == pytest.approx(math.exp(2))
    assert set(metrics_of(benchmark("lambada_openai"), questions, [said(1.0), said(3.0)])) == {"perplexity"}


def test_monte_carlo_error_against_many_repetitions() -> None:
    """Answers whose estimates are normal around known values: the error is the spread of the metric when all noise is
    drawn anew, whose expectation is known."""
    rng = np.random.default_rng(0)
    gap, spread, count, groups = 0.3, 1.0, 80, 8
    questions = [of_choices("?", ["a", "b"], 0)] * count

    def draw() -> list[Answer]:
        noise = rng.normal(0, spread, (count, 2, groups)) + np.array([0, gap])[None, :, None]
        return [said(*one.mean(1), groups=tuple(map(tuple, one)), kind="bound", errors=(0.1, 0.1)) for one in noise]

    values = [metrics_of(benchmark("boolq"), questions, draw())["acc"][0] for _ in range(50)]
    errors = [monte_carlo_error(questions, draw(), right_by("acc")) for _ in range(3)]
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.3)


def test_answers_are_redrawn_together() -> None:
    """Noise that the answers of a question share moves all of them alike, and no ranking."""
    shared = (1.0, 2.0, 4.0, 9.0)
    answer = said(4.0, 4.5, groups=(shared, tuple(x + 0.5 for x in shared)), kind="bound", errors=(1.0, 1.0))
    nats = redrawn(answer, np.random.default_rng(0))
    assert nats.shape == (RESAMPLES, 2) and np.allclose(nats[:, 1] - nats[:, 0], 0.5) and nats[:, 0].std() > 1
    assert nats[:, 0].std() == pytest.approx(np.std(shared, ddof=1) / 2, rel=0.15)
    unknown = said(1.0, 2.0, kind="bound", errors=(None, None))
    assert math.isnan(monte_carlo_error([QUESTION], [unknown], right_by("acc")))


# Protocols


def test_protocols() -> None:
    assert {"smdm", "llada", "dream"} <= set(protocols())
    for path in protocols().values():
        found = read(path)
        assert set(found.of_task) <= set(benchmarks())
    smdm = protocol("smdm")
    assert smdm.scoring("arc_easy") == Scoring(
        estimator="smdm", draws=1024, strata=16, guidance=0.6, shared_noise=False
    )
    assert smdm.scoring("boolq").estimator == "chain" and smdm.scoring("boolq").guidance == 1.6
    changed = smdm.scoring("arc_easy", estimator="count", draws=8, guidance=None)
    assert (changed.estimator, changed.draws, changed.strata, changed.guidance) == ("count", 8, None, 0.6)
    with pytest.raises(RemaskError, match=r"unknown protocol 'lada'. Did you mean 'llada'"):
        protocol("lada")


@pytest.mark.parametrize("name", [None, *protocols()])
def test_every_protocol_scores(name: str | None, masked: Checkpoint, left: Checkpoint) -> None:
    for model in (masked, left):
        for task in ("arc_easy", "boolq"):
            scoring = protocol(name).scoring(task, draws=16 if name == "llada" else None)
            (answer,) = answers(model, [(0, QUESTION)], scoring)
            assert all(map(math.isfinite, answer[1].nats))


# The command


def results(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "results.json").read_text())["results"]


def test_two_models_side_by_side(runs: dict[str, Path], files: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    both = [str(runs["masked"]), str(runs["left"])]
    cli.main(["eval", *both, "--tasks", "arc_easy,lambada_openai", "--files", str(files), "--out", str(out)])
    page = capsys.readouterr().out
    assert page.strip() == (out / "results.md").read_text().strip()
    found = {(Path(one["run"]).name, one["task"], one["metric"]): one for one in results(out)}
    assert len(found) == 8
    assert found["left", "arc_easy", "acc"]["kind"] == "exact" and found["left", "arc_easy", "acc"]["noise"] == 0
    assert (
        found["masked", "arc_easy", "acc"]["kind"] == "bound" and found["masked", "arc_easy", "acc"]["questions"] == 12
    )
    assert found["masked", "lambada_openai", "perplexity"]["value"] > 1
    assert (out / "results.png").stat().st_size > 5000
    lines = [line for line in page.splitlines() if line.startswith("| arc_easy")]
    assert len(lines) == 4 and "/left" in page and "/masked" in page


def test_json_is_one_document(runs: dict[str, Path], files: Path, tmp_path: Path, capsys: Any) -> None:
    arguments = ["eval", str(runs["left"]), "--tasks", "arc_easy", "--files", str(files), "--out", str(tmp_path / "o")]
    cli.main([*arguments, "--json", "--limit", "3"])
    found = json.loads(capsys.readouterr().out)
    assert [one["metric"] for one in found["results"]] == ["acc", "acc_norm"]
    assert all(one["questions"] == 3 for one in found["results"])


def test_a_stopped_command_goes_on(
    runs: dict[str, Path], files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = [str(runs["masked"])]
    whole = evaluate(run, "arc_easy", files, out=tmp_path / "whole", settings=Settings(draws=8))
    original, counted = asking.answers, []

    def stopping(*arguments: Any, **more: Any) -> Iterator[Any]:
        for number, one in enumerate(original(*arguments, **more)):
            if number == 5 and not counted:
                counted.append(number)
                raise KeyboardInterrupt
            yield one

    monkeypatch.setattr(asking, "answers", stopping)
    out = tmp_path / "out"
    with pytest.raises(Interrupted, match="the same command goes on"):
        evaluate(run, "arc_easy", files, out=out, settings=Settings(draws=8))
    assert len((out / "answers.jsonl").read_text().splitlines()) == 5
    with open(out / "answers.jsonl", "a") as file:
        file.write('{"run": "cut of')
    again = evaluate(run, "arc_easy", files, out=out, settings=Settings(draws=8))
    assert len((out / "answers.jsonl").read_text().splitlines()) == 12
    for one, other in zip(whole["results"], again["results"], strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}
    more = evaluate([*run, str(runs["left"])], "arc_easy", files, out=out, settings=Settings(draws=8))
    assert len(more["results"]) == 4 and len((out / "answers.jsonl").read_text().splitlines()) == 24


def test_a_log_of_something_else_is_refused(runs: dict[str, Path], files: Path, tmp_path: Path) -> None:
    out, run = tmp_path / "out", tmp_path / "model"
    publish(run, Masked())
    evaluate([str(run)], "arc_easy", files, limit=2, out=out, settings=Settings(draws=8))
    before = (out / "answers.jsonl").read_bytes()
    with pytest.raises(RemaskError, match=r"settings of arc_easy.draws 8 there, 16 now. Choose another --out"):
        evaluate([str(run)], "arc_easy", files, limit=2, out=out, settings=Settings(draws=16))
    publish(run, Masked(), seed=5)
    with pytest.raises(RemaskError, match=f"weights of {run} .* there, .* now"):
        evaluate([str(run)], "arc_easy", files, limit=2, out=out, settings=Settings(draws=8))
    publish(run, Masked())
    rows = short_rows()[::-1]
    write_rows(files / "arc_easy.jsonl", rows)
    with pytest.raises(RemaskError, match=r"file of arc_easy .* there, .* now"):
        evaluate([str(run)], "arc_easy", files, limit=2, out=out, settings=Settings(draws=8))
    assert (out / "answers.jsonl").read_bytes() == before
    (out / "answers.jsonl").write_text('{"run": 3}\n')
    write_rows(files / "arc_easy.jsonl", short_rows())
    with pytest.raises(RemaskError, match=r"answers.jsonl, line 1 is damaged"):
        evaluate([str(run)], "arc_easy", files, limit=2, out=out, settings=Settings(draws=8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "arc_esy"], "unknown benchmark 'arc_esy'. Did you mean 'arc_easy'"),
        (["--tasks", "piqa"], "piqa: FILES has no piqa.jsonl; give --files FOLDER, or piqa=FILE"),
        (["--tasks", "arc_easy", "--limit", "0"], "limit is 0; it must be at least 1"),
        (["--tasks", "arc_easy", "--estimator", "orders"], "estimator 'orders' does not fit Masked models"),
        (["--tasks", "arc_easy", "--estimator", "chain", "--strata", "4"], "strata is for the estimators"),
        (["--tasks", "arc_easy", "--greedy", "Ancestral"], "greedy is 'Ancestral'"),
        (["--tasks", "arc_easy", "--protocol", "nobody"], "unknown protocol 'nobody'"),
    ],
)
def test_wrong_use_is_named(
    runs: dict[str, Path], files: Path, tmp_path: Path, arguments: list[str], message: str, capsys: Any
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit):
        cli.main(["eval", str(runs["masked"]), "--files", str(files), "--out", str(out), *arguments])
    assert message.replace("FILES", str(files)) in capsys.readouterr().err and not out.exists()


def test_a_group_leaves_out_what_has_no_file(runs: dict[str, Path], files: Path, tmp_path: Path, capsys: Any) -> None:
    found = evaluate(
        [str(runs["left"])], "smdm", files, limit=2, out=tmp_path / "out", settings=Settings(protocol="smdm")
    )
    assert {one["task"] for one in found["results"]} == {"arc_easy"}
    assert len(found["notes"]) == 7 and any(note.startswith("race was left out") for note in found["notes"])
    with pytest.raises(RemaskError, match="none of smdm has a file in"):
        evaluate([str(runs["left"])], "smdm", tmp_path, out=tmp_path / "out", settings=Settings())


def test_a_question_that_cannot_be_scored_is_named(runs: dict[str, Path], files: Path, tmp_path: Path) -> None:
    rows = [*short_rows(3), {"query": "Question: ?", "choices": ["a", "b" * 99], "gold": 0}]
    path = write_rows(files / "piqa.jsonl", rows)
    with pytest.raises(RemaskError, match=r"piqa.jsonl, line 4: an answer has 100 tokens"):
        evaluate([str(runs["left"])], f"piqa={path}", out=tmp_path / "out", settings=Settings())
