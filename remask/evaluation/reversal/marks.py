"""How a written text is marked, and the errors of means over questions that several rows ask.

Several prompts ask for one thing, so rows are no independent observations: errors are between subjects. With x the
marks and g one of G subjects, the standard error of the mean is sqrt(G/(G-1) sum_g (sum_{i in g} (x_i - mean))^2) / n,
and the interval is Wilson's with as many questions as would have that error. They are no more than the rows, and no
fewer than n^2 / sum_g n_g^2 with n_g rows of each subject, which are as many as the subjects where all have equally
many rows (Kish 1965): so many there are where the marks of a subject are all the same.
"""

import math
from collections.abc import Sequence

import numpy as np

from remask.evaluation.mean import MeanWithInterval
from remask.evaluation.ngrams import bleu
from remask.evaluation.proportions import Z, wilson

MARKS = ("match", "exact", "bleu", "word_bleu")


def marks_of(text: str, wanted: str) -> dict[str, float]:
    """What a text is worth where another one is wanted, each from 0 to 1.

    match: the wanted text, without white space around it, is part of it, whatever the case: the exact match of SMDM and
    the accuracy of LLaDA's couplets. exact: it is that text, white space around it aside. bleu: BLEU-4 of characters,
    as SMDM has it, and word_bleu of words.
    """
    plain, target = text.strip(), wanted.strip()
    return {
        "match": float(target.lower() in plain.lower()),
        "exact": float(plain == target),
        "bleu": bleu(plain, target),
        "word_bleu": bleu(plain.split(), target.split()),
    }


def mean_of(values: Sequence[float], subjects: Sequence[str], share: bool = True) -> MeanWithInterval:
    """The mean of some rows with its error between subjects. `share`: values are 0 or 1, and the interval is Wilson's;
    otherwise it is 1.96 errors to each side."""
    x = np.array(values, dtype=np.float64)
    value, n = float(x.mean()), len(x)
    _, group = np.unique(np.array(subjects, dtype=object).astype(str), return_inverse=True)
    sums = np.bincount(group, weights=x - value)
    count = len(sums)
    error = math.sqrt(count / (count - 1) * float((sums**2).sum())) / n if count > 1 else math.nan
    if not share:
        return MeanWithInterval(value, error, value - Z * error, value + Z * error)
    least = n**2 / float((np.bincount(group) ** 2).sum())
    alike = value * (1 - value) / error**2 if error > 0 else least
    low, high = wilson(value, min(max(alike, least), n))
    return MeanWithInterval(value, error, low, high)
