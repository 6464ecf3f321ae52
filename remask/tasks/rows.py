"""A task as rows of a prompt and its completion, from which a model learns the answers alone.

    remask rows task:Sudoku,holes=6,documents=20000 --out sudoku.jsonl
    remask rows gsm8k:train.jsonl --out gsm8k.jsonl

In a packed corpus questions are noised as often as answers, and rows begin and end anywhere. Here each question has a
line of its own, as {"prompt": "Sudoku: 1 _ ...", "completion": " 1 2 ..."}.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from remask.errors import RemaskError
from remask.files import write_atomically
from remask.tasks import gsm8k
from remask.tasks.corpus import PREFIX, TaskCorpus, parse

SUFFIX = ".jsonl"


@dataclass(frozen=True)
class Written:
    """What was written."""

    source: str
    path: Path
    what: str
    """What the rows are."""
    trains: bool
    """Whether they are of a training split, and not of one that is held out."""

    def __str__(self) -> str:
        """What the file holds, and the commands that train on it."""
        lines = [f"written to {self.path}: {self.what}"]
        if self.trains:
            lines.append(f"for a tokenizer: remask prepare {self.source} --vocab-size 512 --out {self.path.stem}")
        return "\n".join(lines)


def write_rows(source: str, out: Path) -> Written:
    """Writes questions of tasks with their answers, a line each.

    Args:
        source: task:NAME[+NAME...][,KEY=VALUE,...], as for `remask prepare`: documents, seed and split beside the
            options of the tasks; split=valid are questions for validation, which no training rows hold. Or
            gsm8k:FILE[,template=0,passes=2,equations=false], of GSM8K's train.jsonl or a text file of implicit chain of
            thought: passes=2 are SMDM's two instances of each problem, the question with its steps and both of them
            with the answer, and passes=1 is one row with both; template is a prompt from 0 to 2, and by default the
            problems take turns; equations=true takes only the marked equations for steps.
        out: File to write, named *.jsonl.

    Raises:
        RemaskError: there is no such task or option, a task has no question to ask, a problem is none, or `out` holds
            something else.
    """
    if not source.startswith((PREFIX, gsm8k.PREFIX)):
        raise RemaskError(
            f"{source} is no task: rows of questions and answers are of {PREFIX}NAME[,KEY=VALUE,...] or of "
            f"{gsm8k.PREFIX}FILE"
        )
    if out.suffix != SUFFIX:
        raise RemaskError(f"out is {str(out)!r}; it is a file named *{SUFFIX}")
    if source.startswith(gsm8k.PREFIX):
        rows, what = gsm8k.rows(source)
        lines, trains = [json.dumps(row, ensure_ascii=False) for row in rows], True
    else:
        corpus = parse(source)
        lines, trains = list(lines_of(corpus)), corpus.split == "train"
        what = f"{corpus.documents:,} questions of the {corpus.split} split"
    text = "".join(f"{line}\n" for line in lines)
    if out.exists():
        if not out.is_file() or out.read_bytes() != text.encode():
            raise RemaskError(f"{out} holds something else; choose another --out")
    else:
        write_atomically(out, text)
    return Written(source, out, what, trains)


def lines_of(corpus: TaskCorpus) -> Iterator[str]:
    """The lines of the file."""
    for _, example in corpus.examples():
        yield json.dumps({"prompt": example.prompt, "completion": example.answer}, ensure_ascii=False)
