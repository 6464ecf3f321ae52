"""Shares of right answers: their errors and intervals, which hold near 0 and 1 too."""

import math

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054
"""Of a two-sided interval of 95 %."""


def binomial_error(right: float, questions: int) -> float:
    """The standard error of a share of right answers.

    Two right and two wrong answers are added first (Agresti and Coull 1998), so that 0 or all of them right does not
    look certain.
    """
    share = (right + 2) / (questions + 4)
    return math.sqrt(share * (1 - share) / (questions + 4))


def mean_error(marks: NDArray[np.float64]) -> float:
    """The standard error of the mean of (questions,) marks from 0 to 1; the binomial one where all are equal."""
    n = len(marks)
    spread = float(marks.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return spread or binomial_error(float(marks.sum()), n)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share among n independent observations (Wilson 1927)."""
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))  # rounding aside
