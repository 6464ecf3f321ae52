"""Generate and score with a loaded model: what `remask sample` and `remask score` call.

m = remask.load("runs/x")
remask.sample(m, prompt="def ", length=64, seed=0).text
for step in remask.stream(m, infill="the [MASK:3] sat"): ...
"""

import hashlib
import inspect
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError, unknown
from remask.families.base import Family
from remask.infilling import RANGE, automaton_at, row_with_holes, with_lengths
from remask.options import parse_options
from remask.sampling import Canvas, Sampler, SamplingParams, State, Step, samplers, start
from remask.sampling import stream as stream_state
from remask.sampling.caching import policy_of
from remask.sampling.confidence import Confidence
from remask.sampling.constraints import Constraint, Matching, ends_of
from remask.sampling.guidance import NEGATIVE
from remask.sampling.params import USUAL_LENGTH
from remask.seeds import mix_seeds

Prompt = str | Sequence[int]
"""A text, or its ids."""
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class GenerationRequest(SamplingParams):
    """The arguments of `sample` and `stream`: what to write, and the options of `SamplingParams`."""

    prompt: Prompt | Sequence[Prompt] = ""
    """Text to continue, or its ids; in Python also a list of prompts, which is one batch and gives a list."""
    negative_prompt: Prompt = ""
    """With guidance: the text that the second branch reads in place of the prompt, from which the result moves away; no
    longer than the prompt. By default it reads masks."""
    infill: str | None = None
    """Text with holes, such as "the [MASK:3] sat"; a hole of n is n tokens, one of 2-5 takes the most probable number.
    The text of [MASK:3|EXPRESSION] matches a regular expression."""
    seed: int | Sequence[int] = 0  # type: ignore[assignment]
    """The same seed and prompt give the same text, whatever else is in the batch. In Python also a list with a seed for
    each prompt. With a single seed, equal prompts of one list get different texts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.infill is not None and self.prompt:
            raise RemaskError("give a prompt or a text to infill, not both")
        if self.negative_prompt and (not self.guidance or self.infill is not None):
            raise RemaskError("negative_prompt goes with guidance, and with a prompt")
        if self.infill is not None and (self.matching is not None or self.min_length):
            raise RemaskError("matching and min_length are for a continuation; a hole is written [MASK:3|EXPRESSION]")
        if self.infill is not None and self.expand not in (None, "none"):
            raise RemaskError("expand is for a continuation; a hole of open length is written [MASK:2-5]")

    @property
    def params(self) -> SamplingParams:
        """The options by which each text is written."""
        return SamplingParams(**{f.name: getattr(self, f.name) for f in fields(SamplingParams) if f.name != "seed"})


@dataclass(frozen=True)
class Sample:
    """One generated text."""

    text: str
    """The text after the prompt; for infilling, the whole text with its holes filled."""
    tokens: list[int]
    """The ids that were written, up to the end of the text."""
    prompt: str
    """The prompt or, for infilling, the text with holes."""
    evaluations: int
    """Network passes over this row; with guidance each call makes two."""
    log_prob: float
    """Log-probability of the tokens drawn, given the order in which they were written, in nats."""
    ended: bool
    """Whether an end-of-text token stopped it."""
    approximate: bool
    """Whether an approximate cache or a window was used, so that the text may differ from what the sampler writes
    without."""


def takes_request(
    request: Callable[P, GenerationRequest],
) -> Callable[[Callable[[Checkpoint, GenerationRequest], R]], Callable[Concatenate[Checkpoint, P], R]]:
    """Makes of a function of (checkpoint, request) one whose keyword arguments are the fields of the request."""

    def decorate(function: Callable[[Checkpoint, GenerationRequest], R]) -> Callable[Concatenate[Checkpoint, P], R]:
        def call(checkpoint: Checkpoint, *args: P.args, **options: P.kwargs) -> R:
            try:
                parsed = request(*args, **options)
            except TypeError as error:
                named = re.search(r"argument '(\w+)'", str(error))
                if named is None:
                    raise
                known = [f.name for f in fields(GenerationRequest)]
                raise unknown("option", named[1], known) from None
            return function(checkpoint, parsed)

        first = inspect.Parameter("checkpoint", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Checkpoint)
        own = inspect.signature(request).parameters.values()
        call.__signature__ = inspect.Signature([first, *own])  # type: ignore[attr-defined]
        call.__name__, call.__qualname__, call.__doc__ = function.__name__, function.__qualname__, function.__doc__
        call.__module__ = function.__module__
        return call

    return decorate


@takes_request(GenerationRequest)
def stream(checkpoint: Checkpoint, request: GenerationRequest) -> Iterator[Step]:
    """Generates text as `sample` does, with the same arguments, and yields each step."""
    state = begin(checkpoint, request)
    return stream_state(checkpoint.model, checkpoint.family, state)


@takes_request(GenerationRequest)
def sample(checkpoint: Checkpoint, request: GenerationRequest) -> Any:
    """Generates text.

    `checkpoint` is from `remask.load`; the other arguments are the fields of `GenerationRequest` and `SamplingParams`.
    Returns a `Sample`, or a list of them for a list of prompts. A text depends on its prompt, options and seed, and not
    on what else is in the batch.
    """
    if request.infill is not None and RANGE.search(request.infill):
        return of_best_lengths(checkpoint, request, request.infill)
    state = begin(checkpoint, request)
    for _ in stream_state(checkpoint.model, checkpoint.family, state):
        pass
    done = finished_texts(checkpoint, state, request)
    return done[0] if prompts_of(request)[1] else done


def of_best_lengths(checkpoint: Checkpoint, request: GenerationRequest, infill: str) -> Sample:
    """Fills holes whose length is open: all lengths are written as one batch, and the one is taken whose tokens have
    the highest mean log-probability when they are written one at a time, the most certain first, at temperature 1."""
    model, family = checkpoint.model, checkpoint.family
    if family.order != "any":
        name = type(family).__name__
        raise RemaskError(f"a hole of open length is for models that fill masks in any order, and this one is {name}")
    requests, states, refused = [], [], []
    for text in with_lengths(infill, model.architecture.context):
        one = replace(request, infill=text)
        try:  # an expression may have no match of some lengths
            states.append(begin(checkpoint, one))
            requests.append(one)
        except RemaskError as error:
            refused.append(error)
    if not states:
        raise refused[0]
    state = reduce(State.join, states)
    for _ in stream_state(model, family, state):
        pass
    by_rule = SamplingParams(sampler=Confidence(), guidance=request.guidance, stop=False)
    judged = start(family, Canvas(state.tokens, state.open, state.valid), by_rule, forced=state.tokens)
    for _ in stream_state(model, family, judged):
        pass
    best = int((judged.log_prob / judged.open.sum(1)).argmax())
    found = finished_text(checkpoint, state, best, "", requests[best])
    return replace(found, evaluations=int(state.calls.sum() + judged.calls.sum()))


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


def finished_texts(checkpoint: Checkpoint, state: State | Step, request: GenerationRequest) -> list[Sample]:
    """The rows of a state, or of a last step, as samples; without a tokenizer their text is empty."""
    prompts, _ = prompts_of(request)
    return [finished_text(checkpoint, state, row, text, request) for row, text in enumerate(prompts)]


def finished_text(
    checkpoint: Checkpoint, state: State | Step, row: int, prompt: Prompt, request: GenerationRequest
) -> Sample:
    """One row as a `Sample`."""
    decode = checkpoint.text.decode if checkpoint.text is not None else lambda ids: ""
    if math.isnan(float(state.log_prob[row])):
        raise RemaskError("the model predicts nan: its weights are damaged, or temperature or guidance too extreme")
    about = {"evaluations": int(state.calls[row]), "log_prob": float(state.log_prob[row])}
    about |= {"approximate": policy_of(request.cache) is not None or request.window is not None}
    if request.infill is not None:
        (parts,) = rows_of(checkpoint, request, [""])
        ids = state.tokens[row, : len(parts)].tolist()
        holes = [i for i, part in zip(ids, parts, strict=True) if part is None]
        return Sample(decode(ids[len(checkpoint.family.bos) :]), holes, request.infill, ended=False, **about)
    given = encode_prompt(checkpoint, prompt)
    ids = state.tokens[row, len(given) : int(state.valid[row].sum())].tolist()
    vocabulary = checkpoint.family.vocabulary
    ends = [i for i, token in enumerate(ids) if token in (vocabulary.end, vocabulary.end_of_turn)]
    ended = request.stop and bool(ends)
    ids = ids[: ends[0]] if ended else ids
    before = prompt if isinstance(prompt, str) else decode(given)
    text = checkpoint.text.decode_behind(ids) if checkpoint.text is not None and before else decode(ids)
    return Sample(text, ids, before, ended=ended, **about)


def prompts_of(request: GenerationRequest) -> tuple[list[Prompt], bool]:
    """The prompts of a request, and whether it holds a single prompt instead of a list."""
    prompt: Any = request.prompt
    if isinstance(prompt, str) or (len(prompt) and isinstance(prompt[0], int)):
        return [prompt], True
    if not len(prompt):
        raise RemaskError("the list of prompts is empty")
    return list(prompt), False


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


def sampler_of(family: Family, name: str | Sampler | None = None) -> Sampler:
    """A sampler from its name and options, such as "LLaDA:late_end=true"; by default that of the family."""
    if isinstance(name, Sampler):
        return name
    known = samplers()
    name, _, given = (name or family.sampler).partition(":")
    if name not in known:
        raise unknown("sampler", name, known)
    return known[name](**parse_options(known[name], given))
