"""How probable a text is: an exact value, or a bound with its standard error.

    for id, estimate in score(model, family, requests, draws=128): ...

Validation losses, `remask score` and benchmark scores all come from here. One file for each estimator; importing the
folder imports them.
"""

from remask.extensions import import_files
from remask.likelihood.estimate import Estimate
from remask.likelihood.estimator import Copy, Estimator, choose, estimators
from remask.likelihood.levels import LossByLevel
from remask.likelihood.loop import score
from remask.likelihood.ranking import Ranking, Target, rank
from remask.likelihood.request import Request
from remask.likelihood.token_values import TokenValues, token_values
from remask.likelihood.validation import compare_left_to_right, validate

import_files(__name__)

__all__ = [
    "Copy",
    "Estimate",
    "Estimator",
    "LossByLevel",
    "Ranking",
    "Request",
    "Target",
    "TokenValues",
    "choose",
    "compare_left_to_right",
    "estimators",
    "rank",
    "score",
    "token_values",
    "validate",
]
