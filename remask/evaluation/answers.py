"""Answers to questions of one or several turns, in the form of FastChat's MT-Bench, for a judge of the user's choice.

    remask answer runs/chat --questions mt_bench_question.jsonl --out answers/chat.jsonl --length 512

The models only answer here. FastChat judges: `python gen_judgment.py --model-list chat` reads the file as
`data/mt_bench/model_answer/chat.jsonl`.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import remask
from remask.checkpoints.checkpoint import Checkpoint, load
from remask.checkpoints.precision import Precision
from remask.conversation import prompt_of, require_template, trained_template
from remask.data.chat import TemplateName
from remask.data.json_lines import numbered_lines
from remask.errors import RemaskError
from remask.evaluation.judging import fingerprint
from remask.files import differences
from remask.generation.result import Sample
from remask.sampling.params import USUAL_LENGTH, SamplingParams
from remask.seeds import mix_seeds
from remask.terminal import progress, say

SETTINGS = "settings"
"""The field of a line that says by which model and options it was written; FastChat leaves it alone."""


@dataclass(frozen=True)
class Question:
    """A question of one or several turns."""

    id: int | str
    turns: tuple[str, ...]


def answer(
    run: str,
    questions: Path,
    out: Path,
    name: str | None = None,
    template: TemplateName | None = None,
    turns: int | None = None,
    choices: int = 1,
    limit: int | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    pack: bool = False,
    compile: bool = False,
    *,
    params: SamplingParams,
) -> None:
    """Answers the questions of a file, one after another, and appends each answer with the time that it took.

    Stopped, it goes on with the same command.

    Args:
        run: A run directory, a published folder, or other people's weights (see `remask convert`).
        questions: A file with a question a line, {"question_id": 81, "turns": ["...", "..."]}, as MT-Bench has them.
        out: File of answers, in FastChat's form.
        name: The model's name there (model_id); by default that of the run's folder.
        template: chat puts the tokenizer's special tokens around each turn; vicuna is FastChat's plain-text template,
            by which SMDM was fine-tuned; none puts nothing between the texts. By default the one by which
            `remask train` fine-tuned the model, else chat.
        turns: Turns of each question that are asked; by default all. SMDM reports the first.
        choices: Answers to each question, each with a seed of its own.
        limit: Only so many of the questions.
        device: cpu, cuda, or auto: a GPU where there is one.
        precision: Number format of the network, as in `remask sample`.
        pack: Lay the weights out for a CPU once, as in `remask sample`.
        compile: Compile the network, as in `remask sample`.
        params: How the answers are written. Where the context leaves less room than --length, they are shorter.
    """
    for option, value in {"turns": turns, "choices": choices, "limit": limit}.items():
        if value is not None and value < 1:
            raise RemaskError(f"{option} is {value}; it must be at least 1")
    asked = read_questions(questions)[:limit]
    checkpoint = load(run, device=device, precision=precision, pack=pack, compile=compile)
    template = template or trained_template(checkpoint)
    settings = {
        "model": fingerprint(run),
        "template": template,
        "turns": turns,
        "choices": choices,
        **settings_of(params),
    }
    require_template(checkpoint, template)
    with open_alone(out) as file:
        done = answered(out, settings)
        todo = [question for question in asked if question.id not in done]
        with progress("answering", len(asked), "questions", len(asked) - len(todo)) as tick:
            for question in todo:
                found = [converse(checkpoint, question, turns, template, params, i) for i in range(choices)]
                line = line_of(question, found, name or Path(run).name, settings)
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
                tick()
    say(f"{len(asked)} questions are answered in {out}")


START = b'{"question_id": '
"""How every line of answers begins."""


@dataclass(frozen=True)
class Turn:
    """The answer to one turn."""

    text: str
    seconds: float
    evaluations: int


def converse(
    checkpoint: Checkpoint,
    question: Question,
    most: int | None,
    template: TemplateName,
    params: SamplingParams,
    choice: int,
) -> list[Turn]:
    """The answers to the turns of a question, each of which the model reads with the answers that it gave before."""
    conversation: list[tuple[str, str]] = []
    found: list[Turn] = []
    for number, text in enumerate(question.turns[:most]):
        conversation.append(("user", text))
        ids = prompt_of(checkpoint, conversation, template)
        room = checkpoint.model.architecture.context - len(ids)
        if room < 1:
            say(f"question {question.id}, turn {number + 1}: {len(ids)} tokens fill the context, so it has no answer")
            found.append(Turn("", 0.0, 0))
        else:
            key = hashlib.blake2b(repr((question.id, choice, number)).encode(), digest_size=8).digest()
            how = replace(
                params,
                length=min(params.length or USUAL_LENGTH, room),
                seed=mix_seeds(params.seed, int.from_bytes(key)),
            )
            start = time.perf_counter()
            sample: Sample = remask.sample(checkpoint, prompt=ids, **vars(how))
            found.append(Turn(sample.text.strip(), time.perf_counter() - start, sample.evaluations))
        conversation.append(("assistant", found[-1].text))
    return found


def line_of(
    question: Question, choices: Sequence[Sequence[Turn]], name: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """A line of FastChat's answer file, with the time and the network passes of each turn beside it."""
    identity = hashlib.blake2b(json.dumps([settings, question.id]).encode(), digest_size=11).hexdigest()
    return {
        "question_id": question.id,
        "answer_id": identity,
        "model_id": name,
        "choices": [{"index": i, "turns": [turn.text for turn in found]} for i, found in enumerate(choices)],
        "tstamp": time.time(),
        "seconds": [[round(turn.seconds, 4) for turn in found] for found in choices],
        "evaluations": [[turn.evaluations for turn in found] for found in choices],
        SETTINGS: settings,
    }


@contextmanager
def open_alone(path: Path) -> Iterator[TextIO]:
    """A file to which lines are added, and to which no other process adds any meanwhile."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise RemaskError(f"cannot write {path}: {error.strerror}; choose another --out") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RemaskError(f"another process is answering into {path}; choose another --out or wait") from None
        yield file


def settings_of(params: SamplingParams) -> dict[str, Any]:
    """The options of writing as JSON can hold them, without those left at their defaults."""
    usual = vars(SamplingParams())
    return {
        option: value if isinstance(value, int | float | str | bool) else str(value)
        for option, value in vars(params).items()
        if value != usual[option]
    }


def read_questions(path: Path) -> list[Question]:
    """The questions of a JSON Lines file. RemaskError, with the line, for what is no question or is there twice."""
    found: dict[int | str, Question] = {}
    for place, line in numbered_lines(path):
        try:
            record = json.loads(line)
            question = Question(record["question_id"], tuple(record["turns"]))
            fits = (
                isinstance(question.id, int | str)
                and question.turns
                and all(isinstance(t, str) for t in question.turns)
            )
        except (ValueError, TypeError, KeyError):
            fits = False
        if not fits:
            raise RemaskError(f'{path}, line {place}: a question is {{"question_id": 81, "turns": ["text", ...]}}')
        if question.id in found:
            raise RemaskError(f"{path}, line {place}: question_id {question.id} is there twice")
        found[question.id] = question
    if not found:
        raise RemaskError(f"{path} has no questions")
    return list(found.values())


def answered(path: Path, settings: dict[str, Any]) -> set[int | str]:
    """The ids of the questions that a file of answers has. A last line that was cut off is removed from the file.

    RemaskError, with the file as it was, where another model or other options wrote it, or where it is something else.
    """
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    cut = content[len(whole) :]
    if cut[: len(START)] != START[: len(cut)]:
        whole = content
    done = set()
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            record = json.loads(line)
            before = dict(record[SETTINGS])
            done.add(record["question_id"])
        except (ValueError, TypeError, KeyError):
            raise RemaskError(f"{path}, line {number}, is no answer of `remask answer`; choose another --out") from None
        if other := differences(before, settings):
            raise RemaskError(f"{path} was written otherwise: {'; '.join(other)}. Choose another --out")
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return done
