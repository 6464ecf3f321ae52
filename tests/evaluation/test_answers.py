"""Answers to questions of several turns: what they are, in which form, and what happens when they are cut off."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import remask
from remask.checkpoints.folder import save
from remask.cli import main
from remask.conversation import prompt_of
from remask.data.chat import SYSTEM, vicuna
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.evaluation.answers import answer
from remask.families.masked import Masked
from remask.model.sizes import Architecture
from remask.model.transformer import Transformer, initialise
from remask.sampling.params import SamplingParams

QUESTIONS = [{"question_id": 81, "category": "a", "turns": ["One?", "Two?"]}, {"question_id": "b", "turns": ["Three?"]}]
PARAMS = SamplingParams(length=6, sampler="Confidence", temperature=0.7)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published folder of a masked network with random weights, in bytes."""
    folder, tokenizer = tmp_path_factory.mktemp("models") / "small", Tokenizer.bytes()
    shape = Architecture(
        layers=1, width=16, heads=4, kv_heads=2, head_width=4, ffn=24, context=230, rows=258, predicted=257
    )
    model = Transformer(shape)
    initialise(model, "smdm", torch.Generator().manual_seed(0))
    save(folder, model.state_dict(), shape, Masked().over(tokenizer.vocabulary), tokenizer, {}, "# card\n")
    return folder


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS))
    return path


def answers(run: Path, questions: Path, out: Path, **more: Any) -> list[dict[str, Any]]:
    options: dict[str, Any] = {"template": "vicuna", "device": "cpu", "precision": "fp32", "params": PARAMS}
    answer(str(run), questions, out, **options | more)
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_a_conversation_in_plain_text() -> None:
    said = [("user", "One?"), ("assistant", "1."), ("user", "Two?")]
    assert vicuna(said) == f"{SYSTEM} USER: One? ASSISTANT: 1.</s>USER: Two? ASSISTANT:"


def test_fields_and_the_second_turn(run: Path, questions: Path, tmp_path: Path) -> None:
    """The fields that FastChat reads; and the second turn is written after the first one with its answer."""
    first, second = answers(run, questions, tmp_path / "out" / "small.jsonl", choices=2)
    assert {"question_id", "answer_id", "model_id", "choices", "tstamp"} <= first.keys()
    assert first["question_id"] == 81 and first["model_id"] == "small" and second["question_id"] == "b"
    assert [c["index"] for c in first["choices"]] == [0, 1] and first["answer_id"] != second["answer_id"]
    assert [len(c["turns"]) for c in first["choices"]] == [2, 2] and len(second["choices"][0]["turns"]) == 1
    assert first["choices"][0]["turns"] != first["choices"][1]["turns"]  # seeds of their own
    assert all(s > 0 for turns in first["seconds"] for s in turns) and first["evaluations"][0] == [6, 6]

    model = remask.load(run, device="cpu")
    said = [("user", "One?"), ("assistant", first["choices"][0]["turns"][0]), ("user", "Two?")]
    greedy = SamplingParams(length=6, sampler="Confidence", temperature=0)
    found = answers(run, questions, tmp_path / "greedy.jsonl", params=greedy)[0]["choices"][0]["turns"]
    said[1] = ("assistant", found[0])
    prompt = prompt_of(model, said, "vicuna")
    expected: Any = remask.sample(model, prompt=prompt, length=6, sampler="Confidence", temperature=0.0)
    assert found[1] == expected.text.strip()


def test_a_command_that_was_cut_off_goes_on(run: Path, questions: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.jsonl"
    whole = answers(run, questions, out)
    lines = out.read_text().splitlines(keepends=True)
    out.write_text(lines[0] + lines[1][:40])
    again = answers(run, questions, out)
    assert out.read_text().startswith(lines[0]) and again[1]["choices"] == whole[1]["choices"]

    kept = out.read_text()
    with pytest.raises(RemaskError, match=r"written otherwise: --temperature 0.7 there, 0.5 now"):
        answers(run, questions, out, params=SamplingParams(length=6, sampler="Confidence", temperature=0.5))
    assert out.read_text() == kept
    for text in ("something else\n", "something else", '{"mine": 1}', f"{lines[0]}and a note of mine"):
        out.write_text(text)
        with pytest.raises(RemaskError, match=r"line [12], is no answer of `remask answer`"):
            answers(run, questions, out)
        assert out.read_text() == text


def test_little_room_in_the_context(
    run: Path, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An answer is as long as the context allows; where it allows none, it is empty and that is said."""
    long = SamplingParams(length=200, sampler="Confidence", steps=2)
    first, _ = answers(run, questions, tmp_path / "out.jsonl", params=long)
    assert first["choices"][0]["turns"][0] and first["choices"][0]["turns"][1] == ""
    assert "question 81, turn 2:" in capsys.readouterr().err


def test_bad_input(run: Path, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.jsonl"
    out = tmp_path / "out.jsonl"
    for text, message in (
        ('{"question_id": 1, "turns": ["a"]}\n{"question_id": 2}\n', "line 2: a question is"),
        (
            '{"question_id": 1, "turns": ["a"]}\n\n{"question_id": 1, "turns": ["b"]}\n',
            "line 3: question_id 1 is there",
        ),
        ('{"question_id": 1, "turns": [3]}\n', "line 1: a question is"),
        ("\n", "has no questions"),
    ):
        bad.write_text(text)
        with pytest.raises(RemaskError, match=message):
            answers(run, bad, out)
    with pytest.raises(RemaskError, match=r"no chat template.*; --template vicuna"):
        answers(run, questions, out, template="chat")
    assert not out.exists()
    with pytest.raises(SystemExit):
        main(["answer", str(run), "--questions", str(tmp_path / "none.jsonl"), "--out", str(out)])
    assert "cannot read" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["answer", str(run), "--questions", str(questions), "--out", str(out), "--choices", "0"])
    assert "choices is 0" in capsys.readouterr().err
