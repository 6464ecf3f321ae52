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
from typing import Any, Concatenate, ParamSpec, TypeVar

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError, unknown
from remask.families.base import Family
from remask.options import parse_options
from remask.sampling import Canvas, Sampler, SamplingParams, State, Step, samplers, start
from remask.sampling import stream as stream_state
from remask.seeds import mix_seeds

HOLE = re.compile(r"\[MASK:(\d{1,9})\]")

Prompt = str | Sequence[int]
"""Text, or the ids themselves."""
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class GenerationRequest(SamplingParams):
    """What is to be written, and how."""

    prompt: Prompt | Sequence[Prompt] = ""
    """Text to continue, or its ids; in Python also a list of prompts, which is one batch and gives a list."""
    infill: str | None = None
    """Text with holes, such as "the [MASK:3] sat"; a hole of n is n tokens."""
    seed: int | Sequence[int] = 0  # type: ignore[assignment]
    """The same seed and prompt give the same text, whatever shares the batch; in Python also a list, one a prompt.
    Of equal prompts in one list each draws anew, unless the seeds are listed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.infill is not None and self.prompt:
            raise RemaskError("give a prompt or a text to infill, not both")

    @property
    def params(self) -> SamplingParams:
        """How each text is written."""
        return SamplingParams(**{f.name: getattr(self, f.name) for f in fields(SamplingParams) if f.name != "seed"})


@dataclass(frozen=True)
class Sample:
    """One generated text."""

    text: str
    """What was written; for infilling, the whole text with its holes filled."""
    tokens: list[int]
    """The ids written, up to the end of the text."""
    prompt: str
    evaluations: int
    """Network passes over this row; guidance takes two a call."""
    log_prob: float
    """Nats; log probability of the draws, the order of writing given."""
    ended: bool
    """Whether an end-of-text token stopped it."""


def takes_request(
    request: Callable[P, GenerationRequest],
) -> Callable[[Callable[[Checkpoint, GenerationRequest], R]], Callable[Concatenate[Checkpoint, P], R]]:
    """Gives a function of (checkpoint, request) the fields of the request as keyword arguments of its own."""

    def decorate(function: Callable[[Checkpoint, GenerationRequest], R]) -> Callable[Concatenate[Checkpoint, P], R]:
        def call(checkpoint: Checkpoint, *args: P.args, **options: P.kwargs) -> R:
            try:
                made = request(*args, **options)
            except TypeError as error:
                named = re.search(r"argument '(\w+)'", str(error))
                if named is None:
                    raise
                known = [f.name for f in fields(GenerationRequest)]
                raise unknown("option", named[1], known) from None
            return function(checkpoint, made)

        first = inspect.Parameter("checkpoint", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Checkpoint)
        own = inspect.signature(request).parameters.values()
        call.__signature__ = inspect.Signature([first, *own])  # type: ignore[attr-defined]
        call.__name__, call.__qualname__, call.__doc__ = function.__name__, function.__qualname__, function.__doc__
        call.__module__ = function.__module__
        return call

    return decorate


@takes_request(GenerationRequest)
def stream(checkpoint: Checkpoint, request: GenerationRequest) -> Iterator[Step]:
    """The steps by which texts are written: `sample` with the states between. Arguments as for `sample`."""
    state = begin(checkpoint, request)
    return stream_state(checkpoint.model, checkpoint.family, state)


@takes_request(GenerationRequest)
def sample(checkpoint: Checkpoint, request: GenerationRequest) -> Any:
    """Generates text.

    `checkpoint` is from `remask.load`; the other arguments are the fields of `GenerationRequest` and `SamplingParams`.
    Returns a `Sample`, or a list of them for a list of prompts. A text depends on its prompt and its seed, and not on
    what shares the batch.
    """
    state = begin(checkpoint, request)
    for _ in stream_state(checkpoint.model, checkpoint.family, state):
        pass
    done = finished_texts(checkpoint, state, request)
    return done[0] if prompts_of(request)[1] else done


def begin(checkpoint: Checkpoint, request: GenerationRequest) -> State:
    """The rows of a request, of which nothing is written yet."""
    family, device = checkpoint.family, checkpoint.model.device
    prompts, _ = prompts_of(request)
    rows = rows_of(checkpoint, request, prompts)
    params = replace(request.params, sampler=sampler_of(family, request.sampler))
    if request.infill is not None:
        params = replace(params, stop=False)
    return start(family, Canvas.of(rows, device), params, seeds_of(request.seed, rows))


def seeds_of(seed: int | Sequence[int], rows: Sequence[Sequence[int | None]]) -> list[int]:
    """The seed of each row's noise: of the seed given and of the row itself, not of its place in the list.

    Rows that are alike differ by how many such rows stand before them, where one seed is given for all.
    """
    if not isinstance(seed, int) and len(seed) != len(rows):
        raise RemaskError(f"{len(seed)} seeds for {len(rows)} prompts; give one seed, or one for each prompt")
    found, seen = [], dict[int, int]()
    for number, row in enumerate(rows):
        digest = int.from_bytes(hashlib.blake2b(repr(list(row)).encode(), digest_size=8).digest(), "big")
        own, copy = (seed, seen.get(digest, 0)) if isinstance(seed, int) else (seed[number], 0)
        seen[digest] = copy + 1
        found.append(mix_seeds(int(own), digest, copy))
    return found


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
    if request.infill is not None:
        (parts,) = rows_of(checkpoint, request, [""])
        ids = state.tokens[row, : len(parts)].tolist()
        holes = [i for i, part in zip(ids, parts, strict=True) if part is None]
        return Sample(decode(ids[len(checkpoint.family.bos) :]), holes, request.infill, ended=False, **about)
    given = encode_prompt(checkpoint, prompt)
    ids = state.tokens[row, len(given) : len(given) + request.length].tolist()
    vocabulary = checkpoint.family.vocabulary
    ends = [i for i, token in enumerate(ids) if token in (vocabulary.end, vocabulary.end_of_turn)]
    ended = request.stop and bool(ends)
    ids = ids[: ends[0]] if ended else ids
    return Sample(decode(ids), ids, prompt if isinstance(prompt, str) else decode(given), ended=ended, **about)


def prompts_of(request: GenerationRequest) -> tuple[list[Prompt], bool]:
    """The prompts of a request, and whether it was a single one and no list."""
    prompt: Any = request.prompt
    if isinstance(prompt, str) or (len(prompt) and isinstance(prompt[0], int)):
        return [prompt], True
    if not len(prompt):
        raise RemaskError("the list of prompts is empty")
    return list(prompt), False


def encode_prompt(checkpoint: Checkpoint, prompt: Prompt) -> list[int]:
    """What stands on the canvas before what is written. Ids stand as they are; a text gets the model's own start."""
    if isinstance(prompt, str):
        text = checkpoint.tokenizer.encode(prompt) if prompt else []
        return [*checkpoint.family.bos, *text]
    size = checkpoint.family.vocabulary.size
    for i in prompt:
        if not 0 <= i < size:
            raise RemaskError(f"id {i} of the prompt is not among the model's {size}")
    return list(prompt)


def rows_of(checkpoint: Checkpoint, request: GenerationRequest, prompts: Sequence[Prompt]) -> list[list[int | None]]:
    """Rows of ids with None at the open positions."""
    context = checkpoint.model.architecture.context
    if request.infill is not None:
        rows = [row_with_holes(checkpoint, request.infill, context)]
    else:
        if request.length > context:
            raise RemaskError(f"length is {request.length}; it must be at most the context of {context}")
        rows = [[*encode_prompt(checkpoint, p), *[None] * request.length] for p in prompts]
    for row in rows:
        if len(row) > context:
            given = sum(i is not None for i in row)
            raise RemaskError(
                f"{given} tokens of text and {len(row) - given} to write are beyond the context of {context} tokens"
            )
    return rows


def row_with_holes(checkpoint: Checkpoint, infill: str, context: int) -> list[int | None]:
    """The ids of a text with holes, None at each token of a hole."""
    row: list[int | None] = [*checkpoint.family.bos]
    pieces = HOLE.split(infill)  # text, size, text, size, ..., text
    if len(pieces) == 1:
        raise RemaskError('the text to infill has no hole; write one as "the [MASK:3] sat"')
    for i, piece in enumerate(pieces):
        if i % 2 and int(piece) < 1:
            raise RemaskError(f"[MASK:{piece}] is a hole of no tokens; give at least 1")
        if i % 2 and int(piece) > context:
            raise RemaskError(f"[MASK:{piece}] is a hole beyond the context of {context} tokens")
        row += [None] * int(piece) if i % 2 else checkpoint.tokenizer.encode(piece)
    return row


def sampler_of(family: Family, name: str | Sampler | None = None) -> Sampler:
    """A sampler from its name and its own options, as "LLaDA:late_end=true"; the family's where none is named."""
    if isinstance(name, Sampler):
        return name
    known = samplers()
    name, _, given = (name or family.sampler).partition(":")
    if name not in known:
        raise unknown("sampler", name, known)
    return known[name](**parse_options(known[name], given))
