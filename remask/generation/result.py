"""What was written: the rows of a state as texts."""

import math
from dataclasses import dataclass

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.generation.request import GenerationRequest, Prompt, prompts_of
from remask.generation.rows import encode_prompt, rows_of
from remask.sampling import State, Step
from remask.sampling.caching import policy_of


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
