"""The law as a function."""

import math

import numpy as np
import pytest

from remask.scaling.fit.law import Surface
from tests.scaling.made import TRUTH


def test_the_best_of_a_surface_is_its_minimum() -> None:
    c = 3e20
    n, d, loss = TRUTH.best(c)
    sizes = np.geomspace(n / 10, n * 10, 4001)
    assert loss == pytest.approx(float(TRUTH(sizes, c / 6 / sizes).min()), rel=1e-6) and 6 * n * d == pytest.approx(c)
    grown = math.log(TRUTH.best(10 * c)[0] / n) / math.log(10)
    assert grown == pytest.approx(TRUTH.size_exponent) == pytest.approx(0.3658 / (0.3478 + 0.3658))


def test_a_surface_knows_its_best_size_exponent() -> None:
    law = Surface(1.0, 100.0, 300.0, 0.3, 0.2)
    small, large = law.best(1e18)[0], law.best(1e20)[0]
    assert np.log(large / small) / np.log(100) == pytest.approx(law.size_exponent) == 0.4
