"""ROUGE-1, ROUGE-2 and ROUGE-L of written texts (Lin 2004), by the package rouge-score.

F-measures of words in lower case, without a stemmer, which is how the infilling of stories is reported.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from remask.errors import RemaskError
from remask.evaluation.mean import Mean

KINDS = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}


def scorer() -> Any:
    """The scorer of the package; RemaskError where it is not installed."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ModuleNotFoundError as error:
        raise RemaskError(f"ROUGE needs another package ({error}): pip install 'remask[rouge]'") from None
    return RougeScorer(list(KINDS))


def rouge(pairs: Sequence[tuple[str, str]]) -> dict[str, Mean]:
    """The mean F-measures of (true text, written text), from 0 to 1, by their names; errors are over the texts."""
    by = scorer()
    scores = [by.score(true, written) for true, written in pairs]
    found = {}
    for kind, name in KINDS.items():
        each = np.array([score[kind].fmeasure for score in scores])
        error = float(each.std(ddof=1) / math.sqrt(len(each))) if len(each) > 1 else math.nan
        found[name] = Mean(float(each.mean()) if len(each) else math.nan, error)
    return found
