"""How fast multiple-choice questions are ranked, and whether the answers are those of many more draws; for score.py."""

import time
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measure import Rounds, Row, alternate, pair, peaks

from remask.checkpoints.checkpoint import Checkpoint
from remask.data.json_lines import numbered_lines, object_of
from remask.errors import RemaskError
from remask.families import Family
from remask.likelihood import Request, rank, score
from remask.model.transformer import Transformer
from remask.scoring import answer_to, split

MANY, FULL, CONFIDENCES = 1024, 128, (0.95, 0.8)
"""Draws of the reference, draws of the baseline and most draws of the ranking, and its confidences."""

WANTED = (
    'items are lines such as {"prompt": "the cat", "text": " sat"} or of context and continuation, and questions such '
    'as {"prompt": "2 + 2 =", "answers": [" 4", " 5"]} or of query and choices'
)
Questions = list[list[Request]]


def items(path: Path, limit: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Records of a JSONL file with their places, `limit` of them evenly spread over it. RemaskError where it holds
    none, or a line is none."""
    lines = list(numbered_lines(path))
    if not lines:
        raise RemaskError(f"{path} holds no lines: {WANTED}")
    for i in range(min(limit, len(lines))):
        number, line = lines[i * len(lines) // min(limit, len(lines))]
        yield (where := f"{path}, line {number}"), object_of(line, where)


def text_in(record: dict[str, Any], where: str, *names: str) -> str:
    """The field of a record that has the first of these names. RemaskError where it has none, or it is no text."""
    name = next((name for name in names if name in record), None)
    if name is None or not isinstance(record[name], str) or not record[name]:
        there = ", ".join(map(repr, record)) or "no fields"
        raise RemaskError(f"{where}: it has {there}, and needs a text {' or '.join(map(repr, names))}: {WANTED}")
    return record[name]


def texts_of(checkpoint: Checkpoint, path: Path, limit: int) -> list[Request]:
    """Texts behind prompts, from lines with prompt and text, or context and continuation (as LAMBADA has them)."""
    found = []
    for where, record in items(path, limit):
        prompt, text = record.get("prompt", record.get("context", "")), text_in(record, where, "text", "continuation")
        found += split(checkpoint, text if text.startswith(" ") or not prompt else f" {text}", prompt)
    return found


def questions_of(checkpoint: Checkpoint, path: Path, limit: int) -> Questions:
    """Questions from lines with prompt and answers, or query and choices (as ARC has them)."""
    found = []
    for number, (where, record) in enumerate(items(path, limit)):
        prompt = record["prompt"] if "prompt" in record else f"{text_in(record, where, 'query', 'prompt')}\nAnswer:"
        answers = record.get("answers", [f" {choice}" for choice in record.get("choices", ())])
        if len(answers) < 2:
            raise RemaskError(f"{where}: it has {len(answers)} answers; a question has 2 or more: {WANTED}")
        found.append([keyed(answer_to(checkpoint, prompt, answer), number) for answer in answers])
    return found


def random_questions(family: Family, number: int) -> Questions:
    """Questions of random tokens, for a network of random weights."""
    draw = torch.Generator().manual_seed(3)

    def tokens(size: int) -> list[int]:
        return torch.randint(family.vocabulary.predicted, (size,), generator=draw).tolist()

    return [[keyed(Request(tokens(6 + i), tokens(24)), q) for i in range(4)] for q in range(number)]


def keyed(request: Request, number: int) -> Request:
    """The request with the noise of its question."""
    return Request(request.target, request.prompt, request.bytes, number, characters=request.characters)


def by_score(
    model: Transformer, family: Family, questions: Questions, draws: int, seed: int, estimator: str = "auto"
) -> tuple[list[int], int]:
    """The best answers by all draws, and the rows that were read."""
    flat = [answer for question in questions for answer in question]
    options = {"estimator": estimator, "draws": draws, "seed": seed, "device": model.device}
    found = [e for _, e in score(model, family, flat, **options)]
    best, first = [], 0
    for question in questions:
        nats = [estimate.nats for estimate in found[first : first + len(question)]]
        best.append(nats.index(min(nats)))
        first += len(question)
    return best, sum(estimate.draws for estimate in found)


def measure_ranking(
    model: Transformer, family: Family, questions: Questions, repeats: int, given: Namespace
) -> tuple[list[Row], Rounds, list[str]]:
    """The table, the times, and what has to be said about them."""
    many, full = (32, 16) if given.quick else (MANY, FULL)
    reference, _ = by_score(model, family, questions, many, seed=1000)
    every, baseline = f"score, {full} draws of every answer", f"score, at most {full} draws"
    early = {f"rank, at most {full} draws, confidence {confidence:g}": confidence for confidence in CONFIDENCES}
    found: dict[str, list[tuple[list[int], int, float]]] = {name: [] for name in (every, baseline, *early)}

    def time_score(name: str, estimator: str) -> list[float]:
        start = time.perf_counter()
        best, rows = by_score(model, family, questions, full, len(found[name]), estimator)
        found[name].append((best, rows, 0.0))
        return [(time.perf_counter() - start) / len(questions)]

    def time_rank(name: str) -> list[float]:
        start, seed = time.perf_counter(), len(found[name])
        options = {"confidence": early[name], "target": "draws", "draws": full, "seed": seed, "device": model.device}
        ranked = list(rank(model, family, questions, **options))
        settled = sum(one.settled for one in ranked) / len(ranked)
        found[name].append(([one.best[0] for one in ranked], sum(one.draws for one in ranked), settled))
        return [(time.perf_counter() - start) / len(questions)]

    variants = {
        every: partial(time_score, every, "count"),
        baseline: partial(time_score, baseline, "auto"),
        **{name: partial(time_rank, name) for name in early},
    }
    rounds = alternate(variants, repeats, lambda: peaks(given.quick))
    rows: list[Row] = []
    for name, runs in found.items():
        agreeing = [sum(a == b for a, b in zip(best, reference, strict=True)) / len(best) for best, _, _ in runs]
        rows.append(
            {
                "questions ranked by": name,
                "s a question (best)": f"{rounds.best(name):.4f}",
                "median": f"{rounds.median(name):.4f}",
                "rows a question": f"{sum(rows for _, rows, _ in runs) / len(runs) / len(questions):.1f}",
                "faster": pair(rounds.ratio(every, name), 1),
                f"same best as {many} draws": f"{sum(agreeing) / len(agreeing):.1%}",
                "settled": f"{sum(s for _, _, s in runs) / len(runs):.1%}" if name in early else "",
            }
        )
    notes = [
        f"{len(questions)} questions, each with {sum(map(len, questions)) / len(questions):.1f} answers that are "
        f"compared by the sum of nats; every run has another seed, the reference of {many} draws too; where it says at "
        f"most, all masks of a short answer are read if these are no more",
    ]
    return rows, rounds, notes
