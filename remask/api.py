"""Generate with a loaded model: what `remask sample` calls.

m = remask.load("runs/x")
remask.sample(m, prompt="def ", length=64, seed=0).text
for step in remask.stream(m, infill="the [MASK:3] sat"): ...

A request, its rows and the finished texts are in `remask.generation`.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from typing import Any

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.generation.request import GenerationRequest, prompts_of, takes_request
from remask.generation.result import Sample, finished_text, finished_texts
from remask.generation.rows import begin
from remask.infilling import RANGE, with_lengths
from remask.sampling import Canvas, SamplingParams, State, Step, start
from remask.sampling import stream as stream_state
from remask.sampling.confidence import Confidence
from remask.sampling.constraints import OneOf


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
    canvas = Canvas(state.tokens, state.open, state.valid)
    kept = [[one for one in own if isinstance(one, OneOf)] for own in state.constraints]
    judged = start(family, canvas, by_rule, forced=state.tokens, constraints=kept)
    for _ in stream_state(model, family, judged):
        pass
    best = int((judged.log_prob / judged.open.sum(1)).argmax())
    found = finished_text(checkpoint, state, best, "", requests[best])
    return replace(found, evaluations=int(state.calls.sum() + judged.calls.sum()))
