"""Rows of zero-shot benchmarks with the fields of their data sets, where the public files lie, and tiny models."""

import json
from pathlib import Path
from typing import Any

from tables import tiny

from remask.checkpoints.folder import save
from remask.data.tokenizer import Tokenizer
from remask.families import Family

DATA = Path(__file__).parents[2] / "shared" / "data" / "zeroshot"

OWN: dict[str, list[dict[str, Any]]] = {
    "arc_easy": [
        {"question": "What melts?", "choices": {"text": ["ice", "fire"], "label": ["A", "B"]}, "answerKey": "A"},
        {"question": "Which?  ", "choices": {"text": ["x", "y z", "é"], "label": ["1", "2", "3"]}, "answerKey": "3"},
    ],
    "openbookqa": [
        {"question_stem": "Ice is", "choices": {"text": ["cold", "warm"], "label": ["A", "B"]}, "answerKey": " B"},
        {"question_stem": "A ", "choices": {"text": ["b", "c"], "label": ["A", "B"]}, "answerKey": "A"},
    ],
    "boolq": [{"passage": "Ice is cold.", "question": "is ice cold", "label": 1}],
    "piqa": [
        {"goal": "melt ice", "sol1": "heat it", "sol2": "cool it", "label": 0},
        {"goal": "Open it.\n", "sol1": "don't", "sol2": 'say "open"', "label": 1},
    ],
    "social_iqa": [
        {"context": "Al ran.", "question": "Why?", "answerA": "fun", "answerB": "hurry", "answerC": "?", "label": "2"}
    ],
    "hellaswag": [
        {
            "ctx_a": "A man [title] sits.",
            "ctx_b": "he Stands",
            "activity_label": "Sport",
            "endings": ["[step] up.", " up  and [x]down", "é", "off"],
            "label": "3",
        }
    ],
    "winogrande": [{"sentence": "Al told Bo that _ was late.", "option1": "Al", "option2": "Bo", "answer": "2"}],
    "lambada_openai": [{"text": 'He said that he had no\n\n"signs'}, {"text": "one  two"}],
    "race": [
        {
            "article": "An article.",
            "problems": "[{'question': 'It is  _  .', 'answer': 'B', 'options': ['a', 'b', 'c', 'd']}, "
            "{'question': 'Who?', 'answer': 'A', 'options': ['a1', 'b1', 'c1', 'd1']}, "
            "{'question': 'Why?', 'answer': 'D', 'options': ['w', 'x', 'y', 'z']}]",
        }
    ],
}
"""Rows with the fields of the data sets."""


def publish(folder: Path, family: Family, context: int = 64, seed: int = 0) -> Path:
    """A published folder with a tiny network of random weights, which reads bytes."""
    tokenizer = Tokenizer.bytes()
    bound = family.over(tokenizer.vocabulary)
    rows = bound.vocabulary.size
    model = tiny(rows, bound.vocabulary.predicted, seed=seed, sharpness=3.0, context=context)
    save(folder, model.state_dict(), model.architecture, bound, tokenizer, {}, "# tiny\n")
    return folder


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A file with a row on each line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def short_rows(count: int = 12) -> list[dict[str, Any]]:
    """Questions of few bytes, with three answers of 1 to 3 bytes."""
    return [
        {"query": f"Question: {number}", "choices": ["a", f"{number % 10}b", "xyz"], "gold": number % 3}
        for number in range(count)
    ]
