"""Texts with holes, such as "the [MASK:3] sat", "the [MASK:2-5] sat" or "in [MASK:2|[0-9]+] years".

`[MASK:3]` is a hole of 3 tokens, and `[MASK:2-5]` one of 2 to 5, of which the most probable number is taken.
`[MASK:3|EXPRESSION]` is one whose text matches a regular expression. It ends at the bracket that closes it: brackets
inside the expression come in pairs, and one that stands for itself is written `\\[` or `\\]`.

Where a tokenizer begins words and numbers with their space, a model has hardly ever read a space alone before one. So a
space before a hole is written as the beginning of the hole's first token, unless the hole has an expression.
"""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.sampling.constraints import Constraint, Matching, OneOf
from remask.sampling.expressions import Automaton, automaton

HOLE = re.compile(r"\[MASK:(\d+)([\]|])", re.ASCII)
RANGE = re.compile(r"\[MASK:(\d+)-(\d+)(?=[\]|])", re.ASCII)
MOST = 64
"""Texts of different lengths that are tried for the holes whose length is open."""


@dataclass(frozen=True)
class Hole:
    """A part of a text that is to be written."""

    size: int
    """Tokens."""
    expression: str | None = None
    """What its text matches; None: anything."""


def row_with_holes(checkpoint: Checkpoint, infill: str, context: int) -> tuple[list[int | None], list[Constraint]]:
    """The ids of a text with holes, with None for each token of a hole, and what the holes have to match.

    `context` is the number of tokens that the network can read. RemaskError where there is no hole, or one is empty,
    too large, not closed, or has an expression that cannot be used.
    """
    row: list[int | None] = [*checkpoint.family.bos]
    constraints: list[Constraint] = []
    parts = list(parts_of(infill, context))
    if not any(isinstance(part, Hole) for part in parts):
        raise RemaskError('the text to infill has no hole; write one as "the [MASK:3] sat"')
    for part, behind in zip(parts, [*parts[1:], None], strict=True):
        if isinstance(part, str):
            inside = len(row) > len(checkpoint.family.bos)
            joined = isinstance(behind, Hole) and behind.expression is None and part.endswith(" ")
            spaced = first_with_space(checkpoint) if joined and (inside or part.strip()) else None
            part = part if spaced is None else part[:-1]
            row += checkpoint.tokenizer.encode(part, behind=inside) if part else []
            if spaced is not None:
                constraints.append(OneOf(columns=(len(row),), ids=spaced))
            continue
        if part.expression is not None:
            columns = tuple(range(len(row), len(row) + part.size))
            constraints.append(Matching(columns=columns, automaton=automaton_at(checkpoint, part.expression, row)))
        row += [None] * part.size
    return row, constraints


def first_with_space(checkpoint: Checkpoint) -> NDArray[np.bool_] | None:
    """(V,) the tokens of a model that begin with a space; None where words or numbers do not, or all is revised."""
    return None if checkpoint.family.order == "all" else checkpoint.tokenizer.spaced


def automaton_at(checkpoint: Checkpoint, expression: str, before: Sequence[int | None]) -> Automaton:
    """The automaton of an expression over the tokens of a model, behind the ids of a row; None is one to be written."""
    tokenizer = checkpoint.tokenizer
    first = all(i is not None and not any(tokenizer.texts[i : i + 1]) for i in before)  # only special tokens
    return automaton(expression, tokenizer.texts, tokenizer.first_texts if first else None)


def parts_of(infill: str, context: int) -> Iterator[str | Hole]:
    """The texts and the holes of a text with holes, in order."""
    place = 0
    while (found := HOLE.search(infill, place)) is not None:
        yield infill[place : found.start()]
        place, expression = found.end(), None
        if found[2] == "|":
            place = closing_bracket(infill, found.end())
            expression = infill[found.end() : place - 1]
        yield Hole(size_of(found[1], context), expression)
    yield infill[place:]


def closing_bracket(infill: str, place: int) -> int:
    """The place behind the bracket that closes the hole whose expression begins at `place`."""
    depth = 1
    for sign in re.finditer(r"\\.|[\[\]]", infill[place:], re.DOTALL):
        depth += {"[": 1, "]": -1}.get(sign[0], 0)
        if depth == 0:
            return place + sign.end()
    begun = infill[infill.rindex("[MASK:", 0, place) :][:40]
    raise RemaskError(f"the hole {begun!r} is not closed; a bracket that stands for itself is written \\[ or \\]")


def size_of(digits: str, context: int) -> int:
    """The number of tokens of a hole. RemaskError where it is none, or more than the context."""
    size = int(digits) if len(digits) < 10 else context + 1
    if size < 1:
        raise RemaskError(f"[MASK:{digits}] is a hole of no tokens; give at least 1")
    if size > context:
        raise RemaskError(f"[MASK:{digits[:20]}] is a hole beyond the context of {context} tokens")
    return size


def with_lengths(infill: str, context: int) -> list[str]:
    """The text with every combination of lengths for the holes that leave theirs open, as `[MASK:2-5]` does.

    RemaskError where a hole allows no length, or there are more than `MOST` combinations.
    """
    ranges = list(RANGE.finditer(infill))
    sizes = [(size_of(found[1], context), size_of(found[2], context)) for found in ranges]
    for found, (least, most) in zip(ranges, sizes, strict=True):
        if least > most:
            raise RemaskError(f"{found[0]}] is a hole of no length; write the smaller number first")
    count = math.prod(most - least + 1 for least, most in sizes)
    if count > MOST:
        raise RemaskError(f"the holes have {count} combinations of lengths; at most {MOST} are tried")
    texts = []
    for lengths in itertools.product(*(range(least, most + 1) for least, most in sizes)):
        left = iter(lengths)
        texts.append(RANGE.sub(lambda _, left=left: f"[MASK:{next(left)}", infill))
    return texts
