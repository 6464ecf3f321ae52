"""Numbers as people write them in tables: 1.4B, 300M, 2e18, 1,234,567, 1 234 567, and 3,52 with a decimal comma."""

import math
import re
from collections.abc import Iterable
from typing import Literal

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "bn": 1e9, "g": 1e9, "t": 1e12}
UNITS |= {"thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
EMPTY = {"", "nan", "na", "n/a", "#n/a", "null", "none", "-", "--", "?"}
"""What stands in a cell for no number, in any case."""
Decimal = Literal[".", ",", ""]
"""The decimal sign of a table; empty where nothing in it tells."""

NUMBER = re.compile(r"([+-]?[\d.,]+(?:e[+-]?\d+)?)([a-z]*)", re.IGNORECASE)
SPACES = re.compile(r"(?<=\d)[\s_'\u2019](?=\d{3})")  # as thousands separators
GROUPED = {sign: re.compile(rf"[+-]?[1-9]\d{{0,2}}(\{sign}\d{{3}})+") for sign in ".,"}


def decimal_sign(cells: Iterable[str]) -> Decimal:
    """The sign that must be a decimal one in some cell. ValueError, naming two cells, where both must."""
    found: dict[str, str] = {}
    for text in cells:
        if match := NUMBER.fullmatch(_compact(text)):
            for sign in _evidence(match[1]):
                found.setdefault(sign, text)
    if len(found) == 2:
        raise ValueError(f"{found['.']!r} has a decimal point, and {found[',']!r} a decimal comma")
    return "." if "." in found else "," if "," in found else ""


def _evidence(digits: str) -> str:
    """The sign, if any, that can only be the decimal one of this number."""
    points, commas = digits.count("."), digits.count(",")
    if points and commas:
        return "." if digits.rindex(".") > digits.rindex(",") else ","
    for sign, other, count in ((".", ",", points), (",", ".", commas)):
        if count > 1:
            return other
        if count == 1 and not GROUPED[sign].fullmatch(digits):
            return sign
    return ""


def parse_number(text: str, decimal: Decimal = "", counts: bool = False) -> float:
    """The number in a cell; nan for a cell that is empty or says so.

    `counts` allows units such as B and M, and takes 1,234 for a thousand and more where nothing in the table tells.
    ValueError for anything else, and for a number that may be read in two ways.
    """
    compact = _compact(text)
    if compact.lower() in EMPTY:
        return math.nan
    match = NUMBER.fullmatch(compact)
    if match is None:
        return _float(compact, text)  # inf
    digits, unit = match[1], match[2].lower()
    if unit not in (UNITS if counts else ("",)):
        raise ValueError(f"{text[:40]!r}, not a number" + (f" (units are {', '.join(UNITS)[2:]})" if counts else ""))
    if not decimal and GROUPED[","].fullmatch(digits):
        if unit or not counts:
            raise ValueError(f"{text!r}, whose comma may be a decimal comma, or separate thousands")
        decimal = "."
    thousands = "." if decimal == "," else ","
    whole, point, rest = digits.partition(decimal or ".")
    if thousands in rest or (thousands in whole and not GROUPED[thousands].fullmatch(whole)):
        raise ValueError(f"{text[:40]!r}, not a number")
    return _float(whole.replace(thousands, "") + ("." if point else "") + rest, text) * UNITS[unit]


def _float(plain: str, text: str) -> float:
    try:
        return float(plain)
    except ValueError:
        raise ValueError(f"{text[:40]!r}, not a number") from None


def _compact(text: str) -> str:
    """A cell without the spaces around its number, within its thousands, and before its unit."""
    text = SPACES.sub("", text.strip())
    return re.sub(r"(?<=\d)\s+(?=[A-Za-z]+$)", "", text)
