"""The problems of a file of GSM8K, in one of two forms.

    {"question": "...", "answer": "4 - 2 = <<4-2=2>>2\nShe has 2.\n#### 2"}     JSON Lines, as published
    question||steps #### answer                                               text, as of implicit chain of thought

The first has marks of a calculator, <<4-2=2>>. Without these its solutions are those of the second form's
train_no_aug.txt (Deng et al. 2023), and the marks alone are those of its test.txt.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from remask.data.json_lines import value_of
from remask.data.streams import name_errors, open_text
from remask.errors import RemaskError

MARK = re.compile(r"<<[^<>]*>>")
BEFORE_ANSWER = "####"


@dataclass(frozen=True)
class Problem:
    """A question with its solution, all without white space at the ends."""

    question: str
    solution: str
    """The steps, as they stand in the file; "" where there are none, as in one problem of iCoT's valid.txt."""
    answer: str
    """The final answer, as it stands in the file."""
    line: int
    """Its line in the file, from 1."""
    where: str
    """File and line, for messages."""

    @property
    def steps(self) -> str:
        """The solution as one line of text, without the marks of the calculator where there is text beside them."""
        text = " ".join(MARK.sub("", self.solution).split())
        return text or " ".join(self.solution.split())

    @property
    def equations(self) -> str:
        """The marks of the calculator alone; "" where there are none, as in 95 of the published problems."""
        return " ".join(MARK.findall(self.solution))


def read_problems(path: Path, limit: int | None = None) -> list[Problem]:
    """The first `limit` problems of a file. RemaskError, with the line, for what is no problem, and for an empty file.

    A file that is named *.txt, compressed or not, is text, and any other one JSON Lines. Empty lines count as no
    problems.
    """
    if not path.is_file():
        raise RemaskError(f"there is no file of GSM8K at {str(path)!r}")
    of_line = of_text if ".txt" in path.suffixes else of_json
    found = list(islice(_problems(path, of_line), limit))
    if not found:
        raise RemaskError(f"{path} holds no problems")
    return found


def _problems(path: Path, of_line: Callable[[str, str], tuple[str, str, str]]) -> Iterator[Problem]:
    with name_errors(path), open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.isspace():
                where = f"{path}, line {number}"
                if not line.isprintable() and any("\udc80" <= c <= "\udcff" for c in line):
                    raise RemaskError(f"{where}: it is not UTF-8")
                question, solution, answer = (part.strip() for part in of_line(line, where))
                if not question or not answer:
                    raise RemaskError(f"{where}: the question or the answer is empty")
                yield Problem(question, solution, answer, number, where)


def of_json(line: str, where: str) -> tuple[str, str, str]:
    """Question, solution and answer of a line of the published form."""
    row = value_of(line, where)
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("question", "answer")):
        raise RemaskError(f'{where}: a problem is {{"question": "...", "answer": "steps\\n#### number"}}')
    return (row["question"], *halves(row["answer"], BEFORE_ANSWER, where))


def of_text(line: str, where: str) -> tuple[str, str, str]:
    """Question, solution and answer of a line of text."""
    question, rest = halves(line, "||", where)
    return (question, *halves(rest, BEFORE_ANSWER, where))


def halves(text: str, between: str, where: str) -> tuple[str, str]:
    """What stands before and behind the one `between` of a text."""
    if text.count(between) != 1:
        raise RemaskError(f"{where}: it has {text.count(between)} times {between}, and a problem has it once")
    before, _, behind = text.partition(between)
    return before, behind
