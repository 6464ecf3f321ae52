"""The quality of texts that a model wrote: `remask quality` and `remask.quality`.

    remask sample runs/x --count 64 --json > samples.json
    remask quality samples.json real.txt --judge runs/ar

No number alone tells how good texts are. A judge likes repetition, so its NLL always stands beside the token entropy;
distinct n-grams and self-BLEU show how much texts repeat themselves and each other; and real text of the same size
beside them shows what is usual. `remask frontier` compares models over temperatures at equal entropy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.evaluation.judging import Quality, judge_texts
from remask.evaluation.ngrams import distinct, self_bleu

ORDERS = (1, 2, 3, 4)
"""The n-grams that are counted."""


@dataclass(frozen=True)
class TextQuality:
    """What is measured of a set of texts. Words are what stands between white space."""

    texts: int
    words: float
    """Mean words of a text."""
    distinct: dict[int, float]
    """Different n-grams of words over all of them, for n from 1 to 4."""
    self_bleu: float
    """Mean BLEU-4 of each text with the others as references, from 0 to 1."""
    judged: Quality | None
    """The judge's nats per token, and the token entropy of the texts."""
    cut: int
    """Texts that were longer than the judge's context, of which it read only the first part."""

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        ratios = {f"distinct_{n}": ratio for n, ratio in self.distinct.items()}
        judged = {} if self.judged is None else vars(self.judged) | {"cut": self.cut}
        return {"texts": self.texts, "words": self.words, **ratios, "self_bleu": self.self_bleu, **judged}


def quality(texts: Sequence[str], judge: Checkpoint | None = None) -> TextQuality:
    """The quality of at least two texts.

    Args:
        texts: The texts. Those without words count in `self_bleu` as unlike all others, and are not judged.
        judge: An autoregressive model, which reads each text with its own tokenizer; without one there is neither NLL
            nor entropy.

    RemaskError where there are fewer than two texts with words, or the judge is not autoregressive.
    """
    rows = [text.split() for text in texts]
    if sum(map(bool, rows)) < 2:
        raise RemaskError(f"there are {sum(map(bool, rows))} texts with words; at least two are compared")
    judged, cut = None, 0
    if judge is not None:
        if not judge.family.exact:
            name = type(judge.family).__name__
            raise RemaskError(f"the judge is a {name} model; its likelihood must be exact: give an autoregressive one")
        ids = [judge.tokenizer.encode(text) for text, row in zip(texts, rows, strict=True) if row]
        context = judge.model.architecture.context
        cut = sum(len(row) > context for row in ids)
        judged = judge_texts(judge, [row[:context] for row in ids])
    mean = math.fsum(map(len, rows)) / len(rows)
    return TextQuality(len(rows), mean, {n: distinct(rows, n) for n in ORDERS}, self_bleu(rows), judged, cut)


def table(found: dict[str, TextQuality]) -> str:
    """One line for each set of texts, by name."""
    judged = any(one.judged for one in found.values())
    head = ["", "texts", "words", *(f"distinct-{n}" for n in ORDERS), "self-BLEU"]
    rows = [[*head, "judge nats/token", "token entropy"] if judged else head]
    for name, one in found.items():
        row = [name, str(one.texts), f"{one.words:.1f}", *(f"{one.distinct[n]:.4f}" for n in ORDERS)]
        row.append(f"{one.self_bleu:.4f}")
        if one.judged is not None:
            row.append(f"{one.judged.nll:.4f} +- {one.judged.nll_error:.4f}")
            row.append(f"{one.judged.entropy:.4f} +- {one.judged.entropy_error:.4f}")
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    cut = sum(one.cut for one in found.values())
    note = [f"{cut} texts were longer than the judge's context, and judged by their first part"] if cut else []
    return "\n".join([*lines, *note])
