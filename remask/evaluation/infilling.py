"""Infilling with known answers: code, as the files of HumanEval-infilling, and sentences of stories.

Code is graded by exact match, sentences by ROUGE too.

A model that fills masks sees the text on both sides and is given the number of tokens of the true middle. Its
autoregressive twin writes as many tokens from left to right, and sees only the text before. Code is run with its tests
only when that is asked for (`execution.py`).
"""

import csv
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from remask.checkpoints.checkpoint import Checkpoint
from remask.data.json_lines import value_of
from remask.data.streams import name_errors, open_text
from remask.errors import RemaskError
from remask.evaluation.execution import check_sandbox, pass_all
from remask.evaluation.mean import Mean
from remask.evaluation.rouge import rouge, scorer
from remask.evaluation.stories import Item, sentences_removed, story_item
from remask.sampling import Canvas, Sampler, SamplingParams, start, stream
from remask.sampling.sampler import sampler_of
from remask.seeds import mix_seeds
from remask.terminal import progress, say

FIELDS = ("task_id", "prompt", "canonical_solution", "suffix")


@dataclass(frozen=True)
class Infilled:
    """What a model wrote into the holes."""

    completions: dict[str, str]
    """The text of each hole, by task."""
    right: int
    """Holes that were filled with the true text; white space at its end does not count."""
    left_out: tuple[str, ...]
    """Tasks whose text does not fit into the context, or whose hole is empty, as a few of the random spans are."""
    sees_suffix: bool
    """Whether the model saw the text behind the hole."""
    passed: int | None = None
    """Programs that pass their tests; None where none was run."""
    rouge: dict[str, Mean] | None = None
    """ROUGE-1, ROUGE-2 and ROUGE-L of sentences, mean F-measures; None of code."""

    @property
    def exact_match(self) -> float:
        """The share of the holes that were filled with the true text; nan where none was filled."""
        return self.right / len(self.completions) if self.completions else math.nan

    @property
    def exact_match_stderr(self) -> float:
        """The binomial standard error of `exact_match`, over the choice of the tasks."""
        return self._stderr(self.exact_match)

    @property
    def pass_rate(self) -> float:
        """The share of the filled holes whose program passes its tests: pass@1; nan where none was run."""
        return math.nan if self.passed is None else self.passed / len(self.completions)

    @property
    def pass_rate_stderr(self) -> float:
        """The binomial standard error of `pass_rate`."""
        return self._stderr(self.pass_rate)

    def _stderr(self, share: float) -> float:
        return math.sqrt(share * (1 - share) / len(self.completions)) if self.completions else math.nan

    def __str__(self) -> str:
        seen = "both sides of the hole are seen" if self.sees_suffix else "only the text before the hole is seen"
        share = f"exact match {self.exact_match:.4f} +- {self.exact_match_stderr:.4f}"
        out = f"; {len(self.left_out)} beyond the context, or with an empty hole, are left out" if self.left_out else ""
        like = "".join(f"{name} {of.value:.4f} +- {of.error:.4f}, " for name, of in (self.rouge or {}).items())
        if self.passed is not None:
            like += f"pass@1 {self.pass_rate:.4f} +- {self.pass_rate_stderr:.4f}, "
        return f"{like}{share} ({self.right} of {len(self.completions)} tasks{out}); {seen}, and its length is given"


def read_items(path: str | Path, limit: int | None = None, sentences: str = "3") -> list[Item]:
    """The items of a JSON Lines file, or a .csv file of stories, compressed or not: the first `limit` of them.

    A story of five sentences loses those of `sentences`. RemaskError names file and line.
    """
    removed = sentences_removed(sentences)
    if limit is not None and limit < 1:
        raise RemaskError(f"limit is {limit}; it must be at least 1")
    path = Path(path)
    if not path.is_file():
        raise RemaskError(f"no file of tasks at {str(path)!r}")
    items: dict[str, Item] = {}
    with name_errors(path), open_text(path) as file:
        for number, record in islice(rows(file, path), limit):
            item = item_of(record, f"{path}, line {number}", removed)
            if item.task in items:
                raise RemaskError(
                    f"{path}, line {number}: a row before it is {item.task!r} too; give each its own name"
                )
            items[item.task] = item
    if not items:
        raise RemaskError(f"{path} holds no tasks")
    return list(items.values())


def rows(file: TextIO, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file, with their lines."""
    if ".csv" in path.suffixes:
        csv.field_size_limit(sys.maxsize)  # by default a text of 128 KiB is refused
        table = csv.DictReader(file)
        try:
            yield from ((table.line_num, {name or "": value for name, value in row.items()}) for row in table)
        except csv.Error as error:
            raise RemaskError(f"{path}, line {table.line_num + 1}: {error}") from None
        return
    for number, line in enumerate(file, 1):
        if line.strip():
            record = value_of(line, f"{path}, line {number}")
            yield number, record if isinstance(record, dict) else {}


def item_of(record: dict[str, Any], where: str, removed: tuple[int, int]) -> Item:
    """One row as an item."""
    story = story_item(record, removed, where)
    if story is not None:
        return story
    for name in FIELDS:
        if not isinstance(record.get(name), str):
            raise RemaskError(
                f"{where}: the field {name!r} must be a text; the fields are {', '.join(FIELDS)}, or those of stories: "
                "text and sentence, or sentence1 to sentence5"
            )
    tests, entry = record.get("test"), record.get("entry_point")
    both = isinstance(tests, str) and isinstance(entry, str)
    return Item(*(record[name] for name in FIELDS), tests=f"{tests}\ncheck({entry})" if both else None)


def infill(
    checkpoint: Checkpoint,
    items: Sequence[Item],
    *,
    sampler: str | Sampler | None = None,
    steps: int | None = None,
    temperature: float = 0.0,
    guidance: float = 0.0,
    seed: int = 0,
    batch: int = 16,
    execute: bool = False,
    show: bool = False,
) -> Infilled:
    """Fills the hole of each item.

    Args:
        checkpoint: From `remask.load`.
        items: From `read_items`.
        sampler: How it is written: by default `Confidence` for models that write in any order, else the family's own.
        steps: Steps for each hole; by default one token a step, where the sampler takes steps.
        temperature: 0 writes the most probable tokens.
        guidance: Weight of classifier-free guidance.
        seed: With the number of an item, the seed of its noise, whatever shares its batch.
        batch: Items that are written together.
        execute: Run each program with its tests, in a sandbox.
        show: Show progress on standard error.

    Raises:
        RemaskError: something is out of range, or programs are to be run that have no tests, or without a sandbox.
    """
    if batch < 1:
        raise RemaskError(f"batch is {batch}; it must be at least 1")
    if any(item.prose for item in items):
        scorer()  # which says that a package is missing before the work, not after it
    if execute:
        check_sandbox()
        if show:
            say("programs that a model wrote are run in a sandbox (bubblewrap); a virtual machine is safer still")
        for item in items:
            if item.tests is None:
                raise RemaskError(f"{item.task} has no program of tests to run: the fields are test and entry_point")
    family, context = checkpoint.family, checkpoint.model.architecture.context
    own = sampler_of(family, sampler or ("Confidence" if family.order == "any" else None))
    params = SamplingParams(sampler=own, steps=steps, temperature=temperature, guidance=guidance, stop=False)
    every = [row_of(checkpoint, item) for item in items]
    fitting = [i for i, row in enumerate(every) if None in row and len(row) <= context]
    order = sorted(fitting, key=lambda i: len(every[i]))  # so that little of a batch is padding
    texts: dict[int, str] = {}
    with progress("infilling", len(order), "tasks") if show else nullcontext(lambda n: None) as tick:
        for first in range(0, len(order), batch):
            part = order[first : first + batch]
            seeds = [mix_seeds(seed, i) for i in part]
            texts |= zip(part, written(checkpoint, [every[i] for i in part], params, seeds), strict=True)
            tick(len(part))
    right = sum(texts[i].rstrip() == items[i].middle.rstrip() for i in fitting)
    left_out = tuple(item.task for i, item in enumerate(items) if i not in texts)
    prose = [(items[i].middle, texts[i]) for i in fitting if items[i].prose]
    like = rouge(prose) if prose else None
    passed = None
    if execute and fitting:
        programs = [f"{items[i].before}{texts[i]}{items[i].after}\n{items[i].tests}" for i in fitting]
        with progress("running", len(programs), "programs") if show else nullcontext(lambda n: None) as tick:
            passed = sum(pass_all(programs, tick))
    return Infilled({items[i].task: texts[i] for i in fitting}, right, left_out, not family.exact, passed, like)


def row_of(checkpoint: Checkpoint, item: Item) -> list[int | None]:
    """The ids of an item, with None for each token of its hole, which has as many as the true middle."""
    encode = checkpoint.tokenizer.encode
    row = [*checkpoint.family.bos, *encode(item.before), *[None] * len(encode(item.middle))]
    return row if checkpoint.family.exact else [*row, *encode(item.after)]


def written(
    checkpoint: Checkpoint, rows: Sequence[Sequence[int | None]], params: SamplingParams, seeds: Sequence[int]
) -> list[str]:
    """The texts of the holes of some rows, which are written as one batch."""
    canvas = Canvas.of(rows, checkpoint.model.device)
    state = start(checkpoint.family, canvas, params, seeds)
    for _ in stream(checkpoint.model, checkpoint.family, state):
        pass
    return [
        checkpoint.tokenizer.decode([int(i) for i, there in zip(ids, row, strict=False) if there is None])
        for ids, row in zip(state.tokens.tolist(), rows, strict=True)
    ]
