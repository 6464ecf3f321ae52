"""The rows of tokens in which a request is written: prompts and open positions, and the state that they begin with."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.generation.request import GenerationRequest, Prompt, prompts_of
from remask.infilling import RANGE, automaton_at, row_with_holes
from remask.sampling import Canvas, State, start
from remask.sampling.constraints import Constraint, Matching, ends_of
from remask.sampling.guidance import NEGATIVE
from remask.sampling.params import USUAL_LENGTH
from remask.sampling.sampler import sampler_of
from remask.seeds import mix_seeds


def begin(checkpoint: Checkpoint, request: GenerationRequest) -> State:
    """A state with the rows of a request, in which nothing is written yet."""
    if request.infill is not None and RANGE.search(request.infill):
        raise RemaskError("a hole of open length is chosen at the end, so it cannot be watched; give its length")
    prompts, _ = prompts_of(request)
    return begin_rows(checkpoint, request, rows_of(checkpoint, request, prompts))


def begin_rows(checkpoint: Checkpoint, request: GenerationRequest, rows: Sequence[Sequence[int | None]]) -> State:
    """A state with rows of ids, in which None is written by the options of a request; each may have its own length."""
    family, device = checkpoint.family, checkpoint.model.device
    params = replace(request.params, sampler=sampler_of(family, request.sampler))
    if request.infill is not None:
        params = replace(params, stop=False)
    constraints = [constraints_on(checkpoint, request, row) for row in rows]
    state = start(family, Canvas.of(rows, device), params, seeds_of(request.seed, rows), constraints=constraints)
    if request.negative_prompt:
        state.extras[NEGATIVE] = negative_rows(checkpoint, request.negative_prompt, state)
    return state


def rows_of(checkpoint: Checkpoint, request: GenerationRequest, prompts: Sequence[Prompt]) -> list[list[int | None]]:
    """The rows of a request as ids, with None at the open positions."""
    context = checkpoint.model.architecture.context
    if request.infill is not None:
        rows = [row_with_holes(checkpoint, request.infill, context)[0]]
    else:
        if request.length is not None and request.length > context:
            raise RemaskError(f"length is {request.length}; it must be at most the context of {context}")
        given = [encode_prompt(checkpoint, prompt) for prompt in prompts]
        rows = [[*ids, *[None] * length_behind(checkpoint, request, len(ids))] for ids in given]
    for row in rows:
        if len(row) > context:
            given = sum(i is not None for i in row)
            raise RemaskError(
                f"{given} tokens of text and {len(row) - given} to write are beyond the context of {context} tokens"
            )
    return rows


def encode_prompt(checkpoint: Checkpoint, prompt: Prompt) -> list[int]:
    """The ids that stand on the canvas before the open positions: `prompt` itself if it is ids, else those of the text
    after the ids with which the model's texts begin."""
    if isinstance(prompt, str):
        text = checkpoint.tokenizer.encode(prompt) if prompt else []
        return [*checkpoint.family.bos, *text]
    size = checkpoint.family.vocabulary.size
    for i in prompt:
        if not 0 <= i < size:
            raise RemaskError(f"id {i} is not among the model's {size}")
    return list(prompt)


def length_behind(checkpoint: Checkpoint, request: GenerationRequest, given: int) -> int:
    """The number of tokens that are written behind `given` ones; RemaskError where none is named, and none is left."""
    if request.length is not None:
        return request.length
    context = checkpoint.model.architecture.context
    left = min(USUAL_LENGTH, context - given)
    if left < max(1, request.min_length):
        least = f", and min_length is {request.min_length}" if request.min_length else ""
        raise RemaskError(
            f"a prompt of {given} tokens leaves {max(left, 0)} of the context of {context} tokens{least}; give a "
            "shorter one"
        )
    return left


def constraints_on(checkpoint: Checkpoint, request: GenerationRequest, row: Sequence[int | None]) -> list[Constraint]:
    """What the text has to match that is written in a row of a request."""
    if request.infill is not None:
        return row_with_holes(checkpoint, request.infill, checkpoint.model.architecture.context)[1]
    if request.matching is None:
        return []
    columns = tuple(i for i, token in enumerate(row) if token is None)
    found = automaton_at(checkpoint, request.matching, row[: columns[0]])
    ends = ends_of(checkpoint.family)
    return [Matching(columns=columns, automaton=found, ends=ends, min_length=request.min_length)]


def negative_rows(checkpoint: Checkpoint, negative: Prompt, state: State) -> Tensor:
    """(B, L) int64, 1 + the ids of a negative prompt at the last positions of each row's prompt, and 0 elsewhere."""
    ids = encode_prompt(checkpoint, negative)
    ids = ids[len(checkpoint.family.bos) :] if isinstance(negative, str) else ids
    rows = torch.zeros_like(state.tokens)
    for row, size in enumerate((~state.open & state.valid).sum(1).tolist()):
        if len(ids) > size:
            raise RemaskError(
                f"the negative prompt has {len(ids)} tokens, and a prompt {size}; it can have no more than the prompt"
            )
        rows[row, size - len(ids) : size] = torch.tensor(ids, device=rows.device) + 1
    return rows


def seeds_of(seed: int | Sequence[int], rows: Sequence[Sequence[int | None]]) -> list[int]:
    """The seed of each row's noise. It depends on the seed given and on the row itself, not on its place in the list.

    Where one seed is given for all, equal rows are told apart by how many of them come before.
    """
    if not isinstance(seed, int) and len(seed) != len(rows):
        raise RemaskError(f"{len(seed)} seeds for {len(rows)} prompts; give one seed, or one for each prompt")
    seeds, seen = [], dict[int, int]()
    for number, row in enumerate(rows):
        digest = int.from_bytes(hashlib.blake2b(repr(list(row)).encode(), digest_size=8).digest(), "big")
        own, copy = (seed, seen.get(digest, 0)) if isinstance(seed, int) else (seed[number], 0)
        seen[digest] = copy + 1
        seeds.append(mix_seeds(int(own), digest, copy))
    return seeds
