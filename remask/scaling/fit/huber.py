"""The parametric law by the published recipe: log-sum-exp, Huber loss of log L, BFGS from a grid of starts."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from remask.scaling.fit.law import Surface
from remask.scaling.fit.points import Points
from remask.scaling.fit.surface import check

Array = NDArray[np.float64]


def huber(points: Points, delta: float = 1e-3) -> Surface:
    """The recipe of Chinchilla's third approach, as corrected by Besiroglu et al. 2024.

    The sum (not the mean) of Huber losses of log L, the constants as exponentials, from the best of a grid of starts.
    """
    check(points)
    log_n, log_d, log_l = np.log(points.n), np.log(points.d), np.log(points.loss)

    def parts(x: Array) -> Array:
        a, b, e, alpha, beta = x
        return np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])

    def value(x: Array) -> tuple[float, Array]:
        terms = parts(x)
        top = terms.max(0)
        share = np.exp(terms - top)
        total = share.sum(0)
        r = top + np.log(total) - log_l
        small = np.abs(r) <= delta
        loss = np.where(small, r**2 / 2, delta * (np.abs(r) - delta / 2)).sum()
        slope = np.where(small, r, delta * np.sign(r)) * share / total
        gradient = [
            slope[0].sum(),
            slope[1].sum(),
            slope[2].sum(),
            -(slope[0] * log_n).sum(),
            -(slope[1] * log_d).sum(),
        ]
        return float(loss) / delta**2, np.array(gradient) / delta**2

    axes = (range(0, 30, 5), range(0, 30, 5), (-1.0, 0.0, 1.0), (0.1, 0.5, 1.0), (0.1, 0.5, 1.0))
    starts = np.stack([x.ravel() for x in np.meshgrid(*map(np.asarray, axes), indexing="ij")], -1).astype(float)
    scores = [value(x)[0] for x in starts]
    tried = [
        minimize(value, starts[i], jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000})
        for i in np.argsort(scores)[:20]
    ]
    a, b, e, alpha, beta = min(tried, key=lambda found: found.fun).x
    return Surface(math.exp(e), math.exp(a), math.exp(b), float(alpha), float(beta))
