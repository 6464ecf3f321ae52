"""The answer that a text gives, and whether it is right: as SMDM reads it, and as `math_verify` does.

SMDM takes what stands behind the last #### up to the end of the text, brings it and the true answer into the normal
form of Minerva (Lewkowycz et al. 2022, appendix D.1), and compares the two.
"""

import re
from fractions import Fraction
from typing import Any

ANSWER = re.compile(r"#### (.*)$")
"""Without MULTILINE: an answer stands on the last line of a text."""
REPLACED = (
    ("an ", ""), ("a ", ""), (".$", "$"), ("\\$", ""), ("\\ ", ""), (" ", ""), ("mbox", "text"),
    (",\\text{and}", ","), ("\\text{and}", ","), ("\\text{m}", "\\text{}"),
)  # fmt: skip
"""What is replaced, in this order."""
REMOVED = (
    "square", "ways", "integers", "dollars", "mph", "inches", "ft", "hours", "km", "units", "\\ldots", "sue",
    "points", "feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges",
    "students", "childrentickets", "multiples", "\\text{s}", "\\text{.}", "\\text{\ns}", "\\text{}^2", "\\text{}^3",
    "\\text{\n}", "\\text{}", "\\mathrm{th}", "^\\circ", "^{\\circ}", "\\;", ",\\!", "{,}", '"', "\\dots",
)  # fmt: skip
"""Units and the like, without the spaces that are gone by then."""
REWRITTEN = (
    (r"(.*?)(\$)(.*?)(\$)(.*)", r"$\3$"),
    (r"(\\text\{)(.*?)(\})", r"\2"),
    (r"(\\textbf\{)(.*?)(\})", r"\2"),
    (r"(\\overline\{)(.*?)(\})", r"\2"),
    (r"(\\boxed\{)(.*)(\})", r"\2"),
    (r"(frac)([^{])(.)", r"frac{\2}{\3}"),
    (r"(sqrt)([^{])", r"sqrt{\2}"),
)
"""TeX that means the same: what stands in dollar signs alone, boxes removed, braces written out."""
NUMBER = re.compile(r"([-+]?)(?:(\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})|\\frac\{([-+]?\d{1,40})\}\{(\d{1,40})\})")


def answer_of(text: str) -> str:
    """What stands behind the last "#### " of the last line of a text; "" where there is none."""
    found = ANSWER.findall(text)
    return found[-1] if found else ""


def normal(answer: str) -> str:
    """The normal form of an answer, as Minerva has it."""
    answer = answer.split("=")[-1]
    for old, new in REPLACED:
        answer = answer.replace(old, new)
    for one in REMOVED:
        answer = answer.replace(one, "")
    for pattern, new in REWRITTEN:
        answer = re.sub(pattern, new, answer)
    answer = answer.replace("$", "")
    return answer.replace(",", "") if answer.replace(",", "").isdigit() else answer


def equal(one: str, other: str) -> bool:
    """Whether two answers in normal form are the same text or the same number, a decimal or a fraction.

    SMDM has sympy read both as TeX. That differs from this only for formulas, which no answer of GSM8K is.
    """
    if one == other:
        return True
    values = value_of(one), value_of(other)
    return None not in values and values[0] == values[1]


def value_of(answer: str) -> Fraction | None:
    """The value of a number; None for anything else."""
    found = NUMBER.fullmatch(answer.strip())
    if found is None:
        return None
    sign, decimal, over, under = found.groups()
    if decimal is None and not int(under):
        return None
    value = Fraction(decimal) if decimal is not None else Fraction(int(over), int(under))
    return -value if sign == "-" else value


def right(text: str, answer: str) -> bool:
    """Whether a text gives an answer, as SMDM reads it."""
    return equal(normal(answer_of(text)), normal(answer))


def math_verify() -> Any:
    """The package of this name, of the extra `math`; None where it is not installed."""
    try:
        import math_verify as package
    except ModuleNotFoundError:
        return None
    return package


def right_by_math_verify(text: str, answer: str) -> bool:
    """Whether the last number or formula of a text is the answer, as `math_verify` reads both.

    It needs neither #### nor the last line. ModuleNotFoundError where that package is not installed.
    """
    import math_verify as package

    gold = package.parse(normal(answer))
    return bool(gold) and bool(package.verify(gold, package.parse(text)))
