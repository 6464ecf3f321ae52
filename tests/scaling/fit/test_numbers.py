"""Numbers as tables have them."""

import math

import pytest

from remask.scaling.fit.numbers import decimal_sign, parse_number


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.4B", 1.4e9), ("300M", 3e8), ("2e18", 2e18), ("70 m", 7e7), ("12k", 12e3), ("1.5T", 1.5e12), ("3 billion", 3e9),
     ("1,234,567", 1234567), ("350,000", 350000), ("1 234 567", 1234567), ("1_000", 1000), ("1'234'567", 1234567),
     ("2.5", 2.5), (" 7 ", 7), ("1.234", 1.234)],
)  # fmt: skip
def test_counts(text: str, value: float) -> None:
    assert parse_number(text, counts=True) == value


@pytest.mark.parametrize(
    ("text", "value"), [("3,52755", 3.52755), ("1.234.567", 1234567), ("1.234,5", 1234.5), ("2,5e9", 2.5e9)]
)
def test_decimal_commas(text: str, value: float) -> None:
    assert decimal_sign([text]) == "," and parse_number(text, ",", counts=True) == value


def test_a_cell_without_a_number() -> None:
    for text in ("", " ", "nan", "NaN", "N/A", "null", "None", "-"):
        assert math.isnan(parse_number(text))


def test_what_decides_the_decimal_sign() -> None:
    assert decimal_sign(["1,234", "1.234", "7"]) == ""
    assert decimal_sign(["1,234", "0.5"]) == "." == decimal_sign(["1,234,567"])
    assert decimal_sign(["1,234", "0,123"]) == ","
    with pytest.raises(ValueError, match=r"'0\.5' has a decimal point, and '0,5' a decimal comma"):
        decimal_sign(["0.5", "0,5"])


@pytest.mark.parametrize(
    ("text", "counts", "says"),
    [("many", True, "not a number"), ("3x", True, "units are k, m"), ("3B", False, "not a number"),
     ("1,234", False, "may be a decimal comma, or separate thousands"), ("1,234M", True, "may be a decimal comma"),
     ("1.2.3", True, "not a number")],
)  # fmt: skip
def test_what_is_no_number(text: str, counts: bool, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_number(text, "", counts)
