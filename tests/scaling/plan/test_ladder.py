"""Networks of any size."""

import numpy as np
import pytest

from remask.errors import RemaskError
from remask.model.sizes import size
from remask.scaling.plan.ladder import ladder, nearest_size
from remask.training.optim import Budget


def test_the_ladder_rises_and_finds_sizes() -> None:
    counts = [a.non_embedding for a in ladder()]
    assert counts == sorted(counts)
    few = {a.width: a.heads for a in ladder() if a.width <= 128}
    assert list(few.values()) == sorted(few.values()) and set(few) >= {16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128}
    assert all(a.head_width % 2 == 0 and a.heads * a.head_width == a.width for a in ladder())
    for n in np.geomspace(1e5, 1e10, 30):
        shape = nearest_size(float(n))
        assert abs(np.log(shape.non_embedding / n)) < 0.16
        assert 0.25 < shape.width / shape.layers / 64 < 1.5 and shape.width == shape.heads * shape.head_width
    with pytest.raises(RemaskError, match="10 parameters is not on the ladder, which goes from"):
        nearest_size(10)


def test_published_step_counts() -> None:
    """SMDM: int(C/(6 N batch length)); scaling-dllms: int(C/flops/256/3) with the forward FLOPs of one row."""
    known = (("170M", 10e18, 18710), ("170M", 100e18, 187107), ("170M", 6e18, 11226), ("1028M", 100e18, 30932),
             ("19M", 10e18, 168366), ("336M", 100e18, 94727), ("472M", 100e18, 67363))  # fmt: skip
    for name, c, steps in known:
        assert Budget(flops=c).resolve(size(name).non_embedding, 256, 2048, lambda: 0.0) == pytest.approx(steps, abs=1)
    for c, forward, steps in ((6e18, 5.3026e10, 147333), (6e18, 4.4941e11, 17383), (1e20, 6.8054e12, 19133)):
        assert int(c / forward / 256 / 3) == pytest.approx(steps, abs=1)
