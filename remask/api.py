"""Generate and score with a loaded model: what `remask sample` and `remask score` call.

m = remask.load("runs/x")
remask.sample(m, prompt="def ", length=64, seed=0).text
for step in remask.stream(m, infill="the [MASK:3] sat"): ...
"""

import math
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError, unknown
from remask.likelihood import Estimate, Estimator, Text
from remask.likelihood import score as score_texts
from remask.options import MOST, parse_options
from remask.sampling import Canvas, Dice, Pen, Sampler, Step, samplers
from remask.sampling.blockwise import Blockwise
from remask.sampling.guidance import guided

HOLE = re.compile(r"\[MASK:(\d{1,9})\]")


Prompt = str | Sequence[int]
"""Text, or the ids themselves."""


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


def stream(
    checkpoint: Checkpoint,
    *,
    prompt: Prompt | Sequence[Prompt] = "",
    infill: str | None = None,
    length: int = 128,
    sampler: str | Sampler | None = None,
    steps: int | None = None,
    block: int | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    guidance: float = 0.0,
    seed: int = 0,
    stop: bool = True,
) -> Iterator[Step]:
    """The steps by which a canvas fills: `sample` with the intermediate states.

    Arguments as for `sample`.
    """
    rows = _rows(checkpoint, prompt, infill, length)
    pen = Pen(temperature=temperature, top_p=top_p, top_k=top_k)
    chosen = sampler_from(checkpoint, sampler, steps, block, pen, max(row.count(None) for row in rows))
    end = checkpoint.family.vocabulary.end if stop and infill is None else None
    canvas = Canvas.of(rows, end, checkpoint.model.device)
    denoiser = guided(checkpoint.model, checkpoint.family, guidance, ~canvas.open & canvas.valid)
    yield from chosen.stream(denoiser, checkpoint.family, canvas, Dice(seed, len(rows), checkpoint.model.device))


def sample(
    checkpoint: Checkpoint, *, prompt: Prompt | Sequence[Prompt] = "", infill: str | None = None, **options: Any
) -> Any:
    """Generates text.

    Args:
        checkpoint: From `remask.load`.
        prompt: Text to continue, or its ids; a list of these is one batch, and gives a list. Results do not depend
            on the batch.
        infill: Text with holes, such as "the [MASK:3] sat"; a hole of n is n tokens.
        length: Tokens to write behind a prompt.
        sampler: Name of a sampler, with options as "LLaDA:late_end=true,remasking=random"; or one made in Python.
            By default the family's.
        steps: Steps over the whole text; by default the sampler's own number.
        block: Fill blocks of this many tokens from left to right.
        temperature: 0 writes the most probable token.
        top_p: Keep the most probable tokens up to this probability.
        top_k: Keep this many tokens; 0 keeps all.
        guidance: Weight of unsupervised classifier-free guidance.
        seed: The same seed gives the same text.
        stop: End a text at its end-of-text token.

    Returns:
        A `Sample`, or a list of them for a list of prompts.
    """
    (last,) = deque(stream(checkpoint, prompt=prompt, infill=infill, **options), maxlen=1)
    prompts, single = _prompts(prompt)
    length, stop = options.get("length", 128), options.get("stop", True)
    done = [finished(checkpoint, last, row, p, infill, length, stop) for row, p in enumerate(prompts)]
    return done[0] if single else done


def finished(
    checkpoint: Checkpoint, step: Step, row: int, prompt: Prompt, infill: str | None, length: int, stop: bool
) -> Sample:
    """One row of the last step as a `Sample`; without a tokenizer its text is empty."""
    decode = checkpoint.text.decode if checkpoint.text is not None else lambda ids: ""
    if math.isnan(float(step.log_prob[row])):
        raise RemaskError("the model predicts nan: its weights are damaged, or temperature or guidance too extreme")
    about = {"evaluations": int(step.evaluations[row]), "log_prob": float(step.log_prob[row])}
    if infill is not None:
        (parts,) = _rows(checkpoint, "", infill, length)
        ids = step.tokens[row, : len(parts)].tolist()
        holes = [i for i, part in zip(ids, parts, strict=True) if part is None]
        return Sample(decode(ids[len(checkpoint.family.bos) :]), holes, infill, ended=False, **about)
    given = _encoded(checkpoint, prompt)
    first = len(given)
    ids = step.tokens[row, first : first + length].tolist()
    vocabulary = checkpoint.family.vocabulary
    ends = [i for i, token in enumerate(ids) if token in (vocabulary.end, vocabulary.end_of_turn)] if stop else []
    ended, ids = bool(ends), ids[: ends[0]] if ends else ids
    return Sample(decode(ids), ids, prompt if isinstance(prompt, str) else decode(given), ended=ended, **about)


def _prompts(prompt: Prompt | Sequence[Prompt]) -> tuple[list[Prompt], bool]:
    """The prompts of a batch, and whether it was a single one and no list."""
    if isinstance(prompt, str) or (len(prompt) and isinstance(prompt[0], int)):
        return [prompt], True  # type: ignore[list-item]
    return list(prompt), False  # type: ignore[arg-type]


def _encoded(checkpoint: Checkpoint, prompt: Prompt) -> list[int]:
    """What stands on the canvas before what is written. Ids stand as they are; a text gets the model's opening."""
    if isinstance(prompt, str):
        text = checkpoint.tokenizer.encode(prompt) if prompt else []
        return [*checkpoint.family.bos, *text]
    size = checkpoint.family.vocabulary.size
    for i in prompt:
        if not 0 <= i < size:
            raise RemaskError(f"id {i} of the prompt is not among the model's {size}")
    return list(prompt)


def score(
    checkpoint: Checkpoint,
    *,
    text: Prompt,
    prompt: Prompt = "",
    draws: int = 128,
    estimator: Estimator = "auto",
    strata: int | None = None,
    sampler: str | Sampler | None = None,
    steps: int | None = None,
    block: int | None = None,
    temperature: float = 1.0,
    guidance: float = 0.0,
    seed: int = 0,
    show: bool = False,
) -> Estimate:
    """-log p(text | prompt): exact for an autoregressive model, else by an estimator.

    Args:
        checkpoint: From `remask.load`.
        text: What is scored, or its ids (then the prompt is ids too). One longer than the context is scored in
            pieces that do not see each other.
        prompt: What is given; its trailing spaces count as the text's, as benchmarks have it.
        draws: Network passes a text may take where the estimator is random.
        estimator: auto, count, chain, rule, llada, smdm or orders; see `remask.likelihood`.
        strata: Draws of llada and smdm that are spread evenly together (their batch size); by default at most 16.
        sampler: The rule whose exact likelihood estimator "rule" gives; Confidence by default.
        steps: Steps of that sampler; one token a step by default.
        block: Block size of that sampler.
        temperature: Of that sampler.
        guidance: Weight of classifier-free guidance.
        seed: Of the draws.
        show: Show progress on standard error.
    """
    if isinstance(text, str) != isinstance(prompt, str) and prompt:
        raise RemaskError("text and prompt are both text, or both ids")
    if isinstance(text, str):
        texts = split(checkpoint, text, str(prompt))
    else:
        given, context = _encoded(checkpoint, prompt or []), checkpoint.model.architecture.context
        texts = [Text(_encoded(checkpoint, text), given)]
        beyond = [i for i in text if i >= checkpoint.model.architecture.predicted]
        if beyond:
            raise RemaskError(f"id {beyond[0]} is never predicted, so it has no likelihood")
        if len(given) + len(text) > context:
            raise RemaskError(f"{len(given)} + {len(text)} ids are beyond the context of {context}")
    if estimator != "rule" and (sampler, steps, block, temperature) != (None, None, None, 1.0):
        raise RemaskError('sampler, steps, block and temperature are for estimator "rule": they say whose likelihood')
    pen = Pen(temperature=temperature)
    longest = max(len(t.target) for t in texts)
    rule = (
        sampler_from(checkpoint, sampler or "Confidence", steps, block, pen, longest) if estimator == "rule" else None
    )
    parts = score_texts(
        checkpoint.model,
        checkpoint.family,
        texts,
        estimator=estimator,
        draws=draws,
        strata=strata,
        sampler=rule,
        guidance=guidance,
        seed=seed,
        device=checkpoint.model.device,
        show=show,
    )
    return Estimate.total(parts)


def split(checkpoint: Checkpoint, text: str, prompt: str = "") -> list[Text]:
    """A text as what the likelihood scores: tokens given the prompt's, in pieces where it is too long."""
    tokenizer, context = checkpoint.tokenizer, checkpoint.model.architecture.context
    kept = prompt.rstrip(" ")
    text, prompt = prompt[len(kept) :] + text, kept
    opening = checkpoint.family.bos
    given, whole = [*opening, *tokenizer.encode(prompt)], [*opening, *tokenizer.encode(prompt + text)]
    target = whole[len(given) :] if whole[: len(given)] == given else tokenizer.encode(text)
    size = len(text.encode())
    if not target:
        raise RemaskError("nothing to score: the text is empty")
    if len(given) + len(target) <= context:
        return [Text(target, given, size)]
    if prompt:
        raise RemaskError(
            f"prompt and text are {len(given)} + {len(target)} tokens, and the context is {context}; "
            "only a text without a prompt is scored in pieces"
        )
    ((ids, sizes),) = tokenizer.encode_with_bytes([text])
    room = context - len(opening)
    starts = range(0, len(ids), room)
    return [Text(ids[i : i + room].tolist(), opening, int(sizes[i : i + room].sum())) for i in starts]


def _rows(
    checkpoint: Checkpoint, prompt: Prompt | Sequence[Prompt], infill: str | None, length: int
) -> list[list[int | None]]:
    """Rows of ids with None at the open positions."""
    context = checkpoint.model.architecture.context
    rows: list[list[int | None]] = []
    if infill is not None:
        if prompt:
            raise RemaskError("give a prompt or a text to infill, not both")
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
        rows = [row]
    else:
        if not 1 <= length <= context:
            raise RemaskError(f"length is {length}; it must be at least 1, and at most the context of {context}")
        prompts, _ = _prompts(prompt)
        if not prompts:
            raise RemaskError("the list of prompts is empty")
        rows = [[*_encoded(checkpoint, p), *[None] * length] for p in prompts]
    for row in rows:
        if len(row) > context:
            given = sum(i is not None for i in row)
            raise RemaskError(
                f"{given} tokens of text and {len(row) - given} to write are beyond the context of {context} tokens"
            )
    return rows


def sampler_from(
    checkpoint: Checkpoint,
    name: str | Sampler | None = None,
    steps: int | None = None,
    block: int | None = None,
    pen: Pen = Pen(),  # noqa: B008
    length: int = 1,
) -> Sampler:
    """A sampler from its name and options, as `sample` takes them; `length` tokens are to be written.

    RemaskError for an unknown name or option, and for steps where it takes none.
    """
    if isinstance(name, Sampler):
        return name
    known = samplers()
    name, _, given = (name or checkpoint.family.sampler).partition(":")
    kind = known.get(name)
    if kind is None or kind is Blockwise:
        raise unknown("sampler", name, known.keys() - {"Blockwise"})
    made = kind(pen=pen, **parse_options(kind, given))
    if block is not None and block < 1:
        raise RemaskError(f"block is {block}; it must be at least 1")
    block = None if block is None else min(block, length)
    options = {f.name for f in fields(made)}
    if block is not None and "block" in options:
        made, block = replace(made, **{"block": block}), None
    if steps is not None:
        if not 1 <= steps <= MOST:
            raise RemaskError(f"steps is {steps}; it must be at least 1, and at most {MOST}")
        share = max(1, math.ceil(steps * min(block, length) / length)) if block else steps
        if "steps" in options:
            made = replace(made, **{"steps": share})
        elif "at_once" in options:
            made = replace(made, **{"at_once": math.ceil(length / steps)})
        else:
            raise RemaskError(f"{kind.__name__} writes one token a step and takes no number of steps")
    return Blockwise(inner=made, size=block) if block else made
