"""Guidance: questions in two parts, a weight that only one of them chooses, and a gain with paired errors."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import UNHURRIED
from zero_shot_rows import publish, short_rows, write_rows

from remask import cli
from remask.errors import RemaskError
from remask.evaluation.zeroshot.answers import Answer
from remask.evaluation.zeroshot.asking import BenchmarkQuestions, Settings
from remask.evaluation.zeroshot.metrics import difference
from remask.evaluation.zeroshot.protocol import Scoring
from remask.evaluation.zeroshot.sweep import best_weight, divided, sweep_guidance
from remask.evaluation.zeroshot.sweep_report import Measured
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.tasks.zeroshot import Question, benchmark
from remask.tasks.zeroshot.base import of_choices


def asked(count: int) -> BenchmarkQuestions:
    questions = {i + 1: of_choices(f"{i // 2}?", ["a", "b"], 0) for i in range(count)}  # each question twice
    return BenchmarkQuestions(benchmark("boolq"), Path("boolq.jsonl"), questions, Scoring())


@UNHURRIED
@given(st.integers(0, 50), st.floats(0.2, 0.8))
def test_a_question_is_in_one_part_whatever_else_is_there(seed: int, share: float) -> None:
    one = asked(400)
    parts = divided(one, share, seed)
    lines = [set(part.questions) for part in (parts.validation, parts.test)]
    assert not lines[0] & lines[1] and lines[0] | lines[1] == set(one.questions)
    assert not {q.pairs for q in parts.validation.questions.values()} & {q.pairs for q in parts.test.questions.values()}
    assert len(lines[0]) / 400 == pytest.approx(share, abs=0.16), "four standard errors of 200 questions"
    few = replace(one, questions={line: one.questions[line] for line in range(100, 200)})
    assert set(divided(few, share, seed).validation.questions) == lines[0] & set(range(100, 200))


def test_another_seed_divides_otherwise() -> None:
    assert divided(asked(40), 0.5, 0).test.questions != divided(asked(40), 0.5, 1).test.questions
    with pytest.raises(RemaskError, match=r"boolq: of 1 questions none is for (test|validation); give more of them"):
        divided(asked(1), 0.5, 0)


def test_the_best_weight() -> None:
    def of(*values: float) -> dict[float, Measured]:
        return {float(i): Measured(value, 0.1, 0.0, 9) for i, value in enumerate(values)}

    assert best_weight("acc", of(0.2, 0.5, 0.5, 0.4)) == 1.0
    assert best_weight("perplexity", of(9.0, 7.0, 5.0)) == 2.0


def said(right: bool, groups: Any = ((), ())) -> Answer:
    nats = (1.0, 2.0) if right else (2.0, 1.0)
    return Answer(nats=nats, groups=groups, errors=(0.1, 0.1), kind="bound", greedy=(right,))


def test_the_error_of_a_gain_is_paired() -> None:
    """Two results that agree on most questions differ by less than their own errors say."""
    questions = [of_choices("?", ["a", "b"], 0)] * 10
    ours = [said(right) for right in (1, 1, 1, 1, 1, 1, 0, 0, 0, 0)]
    theirs = [said(right) for right in (1, 1, 1, 1, 1, 0, 0, 0, 0, 0)]
    value, error, noise = difference(benchmark("boolq"), "acc", questions, ours, theirs)
    assert value == pytest.approx(0.1) and noise == 0
    assert error == pytest.approx(np.std([0] * 9 + [1], ddof=1) / math.sqrt(10))
    same = difference(benchmark("lambada_openai"), "acc", questions, ours, ours)
    assert same == (0, 0, 0)


def words(noise: Any, by: float) -> list[Answer]:
    """Answers of one word each, whose groups have so much noise."""
    groups = [tuple(2.0 + by + row) for row in noise]
    return [
        Answer(nats=(float(np.mean(one)),), groups=(one,), errors=(0.1,), kind="bound", greedy=(True,))
        for one in groups
    ]


def test_the_noise_of_a_gain_is_paired() -> None:
    """Draws that move both alike do not move their difference; those of one alone do."""
    rng = np.random.default_rng(0)
    questions = [Question((("c", " w"),), (" w",), 0)] * 30
    noise = rng.normal(0, 0.5, (30, 8))
    lambada, ours = benchmark("lambada_openai"), words(noise, 0.0)
    value, error, paired = difference(lambada, "perplexity", questions, words(noise, 0.1), ours)
    *_, alone = difference(lambada, "perplexity", questions, words(rng.normal(0, 0.5, (30, 8)), 0.1), ours)
    mean = math.exp(float(np.mean([one.nats[0] for one in ours])))
    assert value == pytest.approx(mean * (math.exp(0.1) - 1)) and error > 0
    assert paired == pytest.approx(value * 0.5 / math.sqrt(240), rel=0.3), "both move by the same factor"
    assert alone > 5 * paired
    noise[0] = 0.0
    shorter = [replace(one, groups=(one.groups[0][:4],)) for one in words(noise[:1], 0.1)]
    *_, found = difference(lambada, "perplexity", questions, shorter + words(noise[1:], 0.1), words(noise, 0.0))
    assert found == pytest.approx(paired, rel=0.3), "a question whose draws ended early leaves the others paired"


def test_the_error_of_a_gain_in_perplexity_is_that_of_the_jackknife() -> None:
    rng = np.random.default_rng(1)
    first, second = (rng.normal(mean, 0.4, 60) for mean in (2.0, 3.0))
    questions = [Question((("c", " w"),), (" w",), 0)] * 60
    ours, theirs = ([replace(said(True), nats=(x,)) for x in nats] for nats in (first, second))
    value, error, _ = difference(benchmark("lambada_openai"), "perplexity", questions, ours, theirs)
    assert value == pytest.approx(math.exp(first.mean()) - math.exp(second.mean()))
    without = [math.exp(np.delete(first, i).mean()) - math.exp(np.delete(second, i).mean()) for i in range(60)]
    assert error == pytest.approx(math.sqrt(59 * np.var(without)), rel=0.03)


# The command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("models") / "masked", Masked())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_rows(tmp_path / "files" / "arc_easy.jsonl", short_rows(16))
    return tmp_path / "files"


def test_the_command(run: Path, files: Path, tmp_path: Path, capsys: Any) -> None:
    """The test questions are asked at the chosen weight and at 0, and at no other."""
    out = tmp_path / "out"
    write_rows(files / "lambada_openai.jsonl", [{"text": f"number {i} is {i}"} for i in range(8)])
    command = ["bench", "guidance", str(run), "--tasks", "arc_easy,lambada_openai", "--files", str(files)]
    command += ["--weights", "[3,1]", "--draws", "8", "--out", str(out)]
    cli.main(command)
    page = capsys.readouterr().out
    assert page.strip() == (out / "results.md").read_text().strip() and (out / "results.png").stat().st_size > 5000
    found = json.loads((out / "results.json").read_text())["results"]
    assert {(one["task"], one["metric"]) for one in found} == {
        ("arc_easy", "acc"), ("arc_easy", "acc_norm"), ("lambada_openai", "acc"), ("lambada_openai", "perplexity")
    }  # fmt: skip
    assert all([one["weight"] for one in row["validation"]] == [0, 1, 3] for row in found)
    logged = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    lines = {w: {one["line"] for one in logged if one["task"] == f"arc_easy, guidance {w}"} for w in (0, 1, 3)}
    chosen = {row["weight"] for row in found if row["task"] == "arc_easy"}
    for weight, asked_at in lines.items():
        assert len(asked_at) == (16 if weight in chosen | {0} else found[0]["validation"][0]["questions"])
    for row in found:
        assert row["gain"]["value"] == pytest.approx(row["test"]["value"] - row["unguided"]["value"])
        best = max if row["metric"] != "perplexity" else min
        assert best(one["value"] for one in row["validation"]) == next(
            one["value"] for one in row["validation"] if one["weight"] == row["weight"]
        )
    before = len(logged)
    cli.main([*command, "--json"])
    assert json.loads(capsys.readouterr().out)["results"] == found
    assert len((out / "answers.jsonl").read_text().splitlines()) == before, "nothing is asked again"


def test_a_file_of_validation(run: Path, files: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "valid" / "arc_easy.jsonl", [row | {"query": "Other?"} for row in short_rows(6)])
    where: dict[str, Any] = {"weights": [1.0], "out": tmp_path / "out", "settings": Settings(estimator="chain")}
    found = sweep_guidance([str(run)], "arc_easy", files, validation=tmp_path / "valid", limit=8, **where)
    assert [one["questions"] for one in found["results"][0]["validation"]] == [6, 6]
    assert {found["results"][0][name]["questions"] for name in ("test", "unguided", "gain")} == {8}
    write_rows(tmp_path / "valid" / "arc_easy.jsonl", short_rows(16)[::-1])
    with pytest.raises(
        RemaskError, match=r"arc_easy.jsonl, line 1: this question is in .*arc_easy.jsonl, line 16, too"
    ):
        sweep_guidance([str(run)], "arc_easy", files, validation=tmp_path / "valid", **where)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "[-1]"], "weights has -1.0; a weight must be finite, and at least 0"),
        (["--guidance", "1"], "guidance is what is chosen here; give --weights"),
        (["--share", "1"], "share is 1.0; it must be between 0 and 1"),
        (["--limit", "0"], "limit is 0; it must be at least 1"),
        (["--workers", "0"], "workers is 0; it must be at least 1"),
        (["--tasks", "piqa,gsm8k"], "tasks has gsm8k; a weight is chosen for benchmarks whose answers are scored"),
        (["--limit", "1"], "arc_easy: of 1 questions none is for"),
    ],
)
def test_wrong_use_is_named(
    run: Path, files: Path, tmp_path: Path, arguments: list[str], message: str, capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["bench", "guidance", str(run), "--tasks", "arc_easy", "--files", str(files), "--out",
                  str(tmp_path / "out"), *arguments])  # fmt: skip
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_an_autoregressive_model_has_no_guidance(files: Path, tmp_path: Path) -> None:
    left = publish(tmp_path / "left", Autoregressive())
    with pytest.raises(RemaskError, match="left is autoregressive, and has no unsupervised guidance; leave it out"):
        sweep_guidance([str(left)], "arc_easy", files, out=tmp_path / "out", settings=Settings())
