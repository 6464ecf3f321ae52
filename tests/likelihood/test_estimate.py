"""The numbers that are printed."""

import math
from dataclasses import replace

import pytest

from remask.likelihood import Estimate


def test_bits_per_byte() -> None:
    found = Estimate(nats=math.log(2) * 24, stderr=math.log(2) * 3, kind="bound", tokens=4, bytes=12)
    assert found.bits_per_byte == pytest.approx(2)
    assert found.bits_per_byte_stderr == pytest.approx(0.25)
    assert found.nats_per_token == pytest.approx(math.log(2) * 6)
    assert str(found) == "<= 2.0000 +- 0.2500 bits/byte"
    assert str(replace(found, kind="exact", stderr=0.0)) == "= 2.0000 bits/byte"
    assert math.isnan(replace(found, bytes=0).bits_per_byte)


def test_totals() -> None:
    a = Estimate(1.0, 0.3, "exact", 2, 5, "x")
    b = Estimate(2.5, 0.4, "bound", 3, 6, "x")
    assert Estimate.total([a, b]) == Estimate(3.5, 0.5, "bound", 5, 11, "x")
    assert Estimate.total([a, a]).kind == "exact"


def test_an_unknown_error_is_shown() -> None:
    """A Monte Carlo value is never printed as if it had no error."""
    shown = str(Estimate(1.0, math.nan, "bound", 1, 1))
    assert "nan" in shown or "+-" in shown
