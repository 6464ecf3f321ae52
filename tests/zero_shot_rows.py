"""Rows of zero-shot benchmarks with the fields of their data sets, and where the public files lie."""

from pathlib import Path
from typing import Any

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
