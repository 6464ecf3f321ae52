"""Runs that follow a law, made up for the tests of its fits."""

import numpy as np

from remask.scaling.fit.points import Points
from remask.scaling.fit.published import CHINCHILLA_CORRECTED
from remask.scaling.fit.surface import Surface

TRUTH = CHINCHILLA_CORRECTED


def runs(law: Surface = TRUTH, noise: float = 0.0, seed: int = 0, relative: bool = False, wide: float = 8.0) -> Points:
    """Seven budgets of seven sizes around the best one."""
    rng, rows = np.random.default_rng(seed), []
    for c in np.geomspace(1e18, 1e21, 7):
        for ratio in np.geomspace(1 / wide, wide, 7):
            n = law.best(c)[0] * ratio
            loss = float(law(n, c / 6 / n))
            rows.append({"n": n, "d": c / 6 / n, "loss": loss + noise * rng.normal() * (loss if relative else 1.0)})
    return Points.of_rows(rows)
