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
from remask.sampling import Canvas, Dice, Pen, Sampler, Step, samplers
from remask.sampling.blockwise import Blockwise
from remask.sampling.guidance import guided

HOLE = re.compile(r"\[MASK:(\d{1,9})\]")


MOST = 2**16
"""Most steps that may be asked for."""


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
    prompt: str | Sequence[str] = "",
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
    chosen = _sampler(checkpoint, sampler, steps, block, pen, max(row.count(None) for row in rows))
    end = checkpoint.family.vocabulary.end if stop and infill is None else None
    canvas = Canvas.of(rows, end, checkpoint.model.device)
    denoiser = guided(checkpoint.model, checkpoint.family, guidance, ~canvas.open & canvas.valid)
    yield from chosen.stream(denoiser, checkpoint.family, canvas, Dice(seed, len(rows), checkpoint.model.device))


def sample(
    checkpoint: Checkpoint, *, prompt: str | Sequence[str] = "", infill: str | None = None, **options: Any
) -> Any:
    """Generates text.

    Args:
        checkpoint: From `remask.load`.
        prompt: Text to continue; a list is one batch, and gives a list. Results do not depend on the batch.
        infill: Text with holes, such as "the [MASK:3] sat"; a hole of n is n tokens.
        length: Tokens to write behind a prompt.
        sampler: Name of a sampler, or one made in Python; by default the family's.
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
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    length, stop = options.get("length", 128), options.get("stop", True)
    done = [finished(checkpoint, last, row, p, infill, length, stop) for row, p in enumerate(prompts)]
    return done[0] if isinstance(prompt, str) else done


def finished(
    checkpoint: Checkpoint, step: Step, row: int, prompt: str, infill: str | None, length: int, stop: bool
) -> Sample:
    """One row of the last step as a `Sample`."""
    tokenizer = checkpoint.tokenizer
    if math.isnan(float(step.log_prob[row])):
        raise RemaskError("the model predicts nan: its weights are damaged, or temperature or guidance too extreme")
    about = {"evaluations": int(step.evaluations[row]), "log_prob": float(step.log_prob[row])}
    if infill is not None:
        (parts,) = _rows(checkpoint, "", infill, length)
        ids = step.tokens[row, : len(parts)].tolist()
        holes = [i for i, part in zip(ids, parts, strict=True) if part is None]
        return Sample(tokenizer.decode(ids), holes, infill, ended=False, **about)
    first = len(tokenizer.encode(prompt))
    ids = step.tokens[row, first : first + length].tolist()
    end = checkpoint.family.vocabulary.end
    ended = stop and end in ids
    ids = ids[: ids.index(end)] if ended else ids
    return Sample(tokenizer.decode(ids), ids, prompt, ended=ended, **about)


def score(
    checkpoint: Checkpoint,
    *,
    text: str,
    prompt: str = "",
    draws: int = 128,
    estimator: Estimator = "auto",
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
        text: What is scored. One longer than the context is scored in pieces that do not see each other.
        prompt: What is given; its trailing spaces count as the text's, as benchmarks have it.
        draws: Network passes a text may take where the estimator is random.
        estimator: auto, count, iid, chain or rule; see `remask.likelihood`.
        sampler: The rule whose exact likelihood estimator "rule" gives; Confidence by default.
        steps: Steps of that sampler; one token a step by default.
        block: Block size of that sampler.
        temperature: Of that sampler.
        guidance: Weight of classifier-free guidance.
        seed: Of the draws.
        show: Show progress on standard error.
    """
    texts = split(checkpoint, text, prompt)
    if estimator != "rule" and (sampler, steps, block, temperature) != (None, None, None, 1.0):
        raise RemaskError('sampler, steps, block and temperature are for estimator "rule": they say whose likelihood')
    pen = Pen(temperature=temperature)
    longest = max(len(t.target) for t in texts)
    rule = _sampler(checkpoint, sampler or "Confidence", steps, block, pen, longest) if estimator == "rule" else None
    parts = score_texts(
        checkpoint.model,
        checkpoint.family,
        texts,
        estimator=estimator,
        draws=draws,
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
    given, whole = tokenizer.encode(prompt), tokenizer.encode(prompt + text)
    target = whole[len(given) :] if whole[: len(given)] == given else tokenizer.encode(text)
    size = len(text.encode())
    if not target:
        raise RemaskError("nothing to score: the text is empty")
    if len(given) + len(target) <= context:
        return [Text(target, given, size)]
    if given:
        raise RemaskError(
            f"prompt and text are {len(given)} + {len(target)} tokens, and the context is {context}; "
            "only a text without a prompt is scored in pieces"
        )
    ((ids, sizes),) = tokenizer.encode_with_bytes([text])
    return [
        Text(ids[i : i + context].tolist(), (), int(sizes[i : i + context].sum())) for i in range(0, len(ids), context)
    ]


def _rows(
    checkpoint: Checkpoint, prompt: str | Sequence[str], infill: str | None, length: int
) -> list[list[int | None]]:
    """Rows of ids with None at the open positions."""
    tokenizer, context = checkpoint.tokenizer, checkpoint.model.architecture.context
    rows: list[list[int | None]] = []
    if infill is not None:
        if prompt:
            raise RemaskError("give a prompt or a text to infill, not both")
        row: list[int | None] = []
        pieces = HOLE.split(infill)  # text, size, text, size, ..., text
        if len(pieces) == 1:
            raise RemaskError('the text to infill has no hole; write one as "the [MASK:3] sat"')
        for i, piece in enumerate(pieces):
            if i % 2 and int(piece) < 1:
                raise RemaskError(f"[MASK:{piece}] is a hole of no tokens; give at least 1")
            if i % 2 and int(piece) > context:
                raise RemaskError(f"[MASK:{piece}] is a hole beyond the context of {context} tokens")
            row += [None] * int(piece) if i % 2 else tokenizer.encode(piece)
        rows = [row]
    else:
        if not 1 <= length <= context:
            raise RemaskError(f"length is {length}; it must be at least 1, and at most the context of {context}")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not prompts:
            raise RemaskError("the list of prompts is empty")
        rows = [[*tokenizer.encode(p), *[None] * length] for p in prompts]
    for row in rows:
        if len(row) > context:
            given = sum(i is not None for i in row)
            raise RemaskError(
                f"{given} tokens of text and {len(row) - given} to write are beyond the context of {context} tokens"
            )
    return rows


def _sampler(
    checkpoint: Checkpoint, name: str | Sampler | None, steps: int | None, block: int | None, pen: Pen, length: int
) -> Sampler:
    """A sampler from its name and options."""
    if isinstance(name, Sampler):
        return name
    known = samplers()
    kind = known.get(name or checkpoint.family.sampler)
    if kind is None or kind is Blockwise:
        raise unknown("sampler", name, known.keys() - {"Blockwise"})
    made = kind(pen=pen)
    if block is not None and block < 1:
        raise RemaskError(f"block is {block}; it must be at least 1")
    block = None if block is None else min(block, length)
    if steps is not None:
        if not 1 <= steps <= MOST:
            raise RemaskError(f"steps is {steps}; it must be at least 1, and at most {MOST}")
        share = max(1, math.ceil(steps * min(block, length) / length)) if block else steps
        options = {f.name for f in fields(made)}
        if "steps" in options:
            made = replace(made, **{"steps": share})
        elif "at_once" in options:
            made = replace(made, **{"at_once": math.ceil(length / steps)})
        else:
            raise RemaskError(f"{kind.__name__} writes one token a step and takes no number of steps")
    return Blockwise(inner=made, size=block) if block else made
