"""Reviews with a label, from a small grammar: labelled text that every machine can make.

    python -m remask.robustness.reviews 200 --seed 1 > reviews.jsonl

A review has an odd number of clauses, each of which says of something that it was good or bad, and its label is what
most of them say. So it has more evidence than is needed, as real reviews have. What a clause is about, and how much,
says nothing about the label, but for a bias that a classifier can be misled by: some things are more often praised than
others.
"""

import argparse
import json
from collections.abc import Iterator

import numpy as np

from remask.errors import RemaskError
from remask.robustness.labelled import Labelled

LABELS = ("good", "bad")
WORDS = {
    "good": ("lovely", "superb", "charming", "brilliant", "delightful", "moving", "clever", "graceful", "splendid"),
    "bad": ("dull", "awful", "clumsy", "dreary", "tedious", "shallow", "dismal", "stale", "feeble"),
}
THINGS = (
    "plot", "cast", "music", "ending", "script", "pacing", "humour", "dialogue", "opening", "camera", "scenery",
    "costumes", "lighting", "villain", "hero", "story", "title", "sequel", "trailer", "editing",
)  # fmt: skip
"""The first half is praised `BIAS` times as often as chance would have it, and the second half as much less."""
DEGREES = ("rather", "quite", "really", "truly", "simply", "very", "somewhat", "mostly")
BIAS = 1.4
AGREEMENT = 0.8
"""The probability that a clause says what the review says; a review of which most say the opposite is drawn anew."""


def reviews(count: int, *, seed: int = 0, clauses: int = 9) -> Iterator[Labelled]:
    """`count` reviews, always the same for the same seed. RemaskError for an even number of clauses."""
    if clauses < 1 or clauses % 2 == 0:
        raise RemaskError(f"clauses is {clauses}; it must be odd, so that most of them agree")
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        label = LABELS[int(rng.integers(2))]
        said = rng.random(clauses) < AGREEMENT
        while said.sum() * 2 < clauses:
            said = rng.random(clauses) < AGREEMENT
        opposite = LABELS[1 - LABELS.index(label)]
        yield Labelled(" ".join(clause(rng, label if agrees else opposite) for agrees in said), label)


def clause(rng: np.random.Generator, says: str) -> str:
    """One clause, as "rather dull plot ."."""
    half = len(THINGS) // 2
    praised = rng.random() < (BIAS / 2 if says == "good" else 1 - BIAS / 2)
    thing = THINGS[int(rng.integers(half)) + (0 if praised else half)]
    degree, word = (words[int(rng.integers(len(words)))] for words in (DEGREES, WORDS[says]))
    return f"{degree} {word} {thing} ."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Prints labelled reviews as JSON lines.")
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for one in reviews(given.count, seed=given.seed):
        print(json.dumps({"text": one.text, "label": one.label}))
