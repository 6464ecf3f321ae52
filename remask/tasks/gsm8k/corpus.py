"""GSM8K as a corpus, and as rows for fine-tuning: `gsm8k:FILE[,KEY=VALUE,...]`.

remask prepare gsm8k:train.jsonl --out data/gsm8k               documents, each a problem with its solution
remask rows gsm8k:train.jsonl --out rows.jsonl                  SMDM's two instances of each problem
remask rows gsm8k:train.jsonl,passes=1,template=1 --out rows.jsonl
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from remask.data.reading import Document, Omissions
from remask.errors import RemaskError
from remask.options import parse_options
from remask.tasks.gsm8k.problems import Problem, read_problems
from remask.tasks.gsm8k.wording import WORDINGS, Passes, Wording, document, instances, steps_of
from remask.terminal import say

PREFIX = "gsm8k:"


@dataclass(frozen=True, kw_only=True)
class GSM8K:
    """How the problems of GSM8K are put into words."""

    template: int | None = None
    """Which of the prompts; by default the problems take turns."""
    equations: bool = False
    """Whether the steps are the equations that the published file marks, without the text around them."""
    passes: Passes = 2
    """Of rows. 2: the steps, and then the answer behind them, each in a row of its own, as SMDM; 1: both in one row."""

    def __post_init__(self) -> None:
        if self.template is not None and not 0 <= self.template < len(WORDINGS):
            raise RemaskError(f"template={self.template}: GSM8K has templates 0 to {len(WORDINGS) - 1}")

    def wording(self, number: int) -> Wording:
        """The prompt of problem `number`."""
        return WORDINGS[number % len(WORDINGS) if self.template is None else self.template]

    def problems(self, path: Path, omissions: Omissions) -> list[Problem]:
        """The problems of a file. Those without steps, or without marked `equations`, are left out and noted."""
        found, what = [], "equations marked <<1+2=3>>" if self.equations else "steps"
        for problem in read_problems(path):
            if steps_of(problem, self.equations):
                found.append(problem)
            else:
                omissions.add(f"problems without {what}", problem.where)
        if not found:
            raise RemaskError(f"{path} has no {what}" + ("; leave equations out" if self.equations else ""))
        return found


def file_of(source: str) -> Path:
    """The file of `gsm8k:FILE,...`."""
    return Path(source.removeprefix(PREFIX).partition(",")[0])


def documents(source: str, omissions: Omissions) -> Iterator[Document]:
    """The documents of `gsm8k:FILE,...`. RemaskError for wrong options, and for what is no problem."""
    form = GSM8K(**parse_options(GSM8K, source.partition(",")[2]))
    path = file_of(source)
    for number, problem in enumerate(form.problems(path, omissions)):
        yield Document(document(problem, form.wording(number), form.equations), f"{path.name}#{problem.line}")


def rows_of(problems: list[Problem], form: GSM8K) -> Iterator[dict[str, str]]:
    """The rows of some problems, {"prompt": ..., "completion": ...}."""
    for number, problem in enumerate(problems):
        for prompt, completion in instances(problem, form.wording(number), form.passes, form.equations):
            yield {"prompt": prompt, "completion": completion}


def rows(source: str) -> tuple[list[dict[str, str]], str]:
    """The rows of `gsm8k:FILE,...`, {"prompt": ..., "completion": ...}, and what they are in words.

    RemaskError for wrong options, and for what is no problem; problems without steps are left out and said.
    """
    form, omissions = GSM8K(**parse_options(GSM8K, source.partition(",")[2])), Omissions()
    problems = form.problems(file_of(source), omissions)
    for line in omissions.lines():
        say(line)
    found = list(rows_of(problems, form))
    return found, f"{len(found):,} rows of {len(problems):,} problems"
