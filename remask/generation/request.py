"""What is to be written: the arguments of `remask.sample` and `remask.stream`."""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Concatenate, ParamSpec, TypeVar

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError, unknown
from remask.sampling import SamplingParams

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


def prompts_of(request: GenerationRequest) -> tuple[list[Prompt], bool]:
    """The prompts of a request, and whether it holds a single prompt instead of a list."""
    prompt: Any = request.prompt
    if isinstance(prompt, str) or (len(prompt) and isinstance(prompt[0], int)):
        return [prompt], True
    if not len(prompt):
        raise RemaskError("the list of prompts is empty")
    return list(prompt), False
