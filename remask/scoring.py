"""Scores a text with a loaded model: what `remask score`, `remask.score` and `remask.score_tokens` call.

m = remask.load("runs/x")
remask.score(m, text="import os", draws=128, seed=0).bits_per_byte
remask.score_tokens(m, text="import os", estimator="chain").nats
"""

import itertools
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.families.base import Family
from remask.generation.request import Prompt
from remask.generation.rows import encode_prompt
from remask.likelihood import Estimate, Estimator, Ranking, Request, Target, choose, token_values
from remask.likelihood import rank as rank_requests
from remask.likelihood import score as score_requests
from remask.sampling import Sampler, SamplingParams
from remask.sampling.sampler import sampler_of


def score(
    checkpoint: Checkpoint,
    *,
    text: Prompt,
    prompt: Prompt = "",
    draws: int = 128,
    error: float | None = None,
    estimator: str = "auto",
    strata: int | None = None,
    sampler: str | Sampler | None = None,
    steps: int | None = None,
    block: int | None = None,
    temperature: float = 1.0,
    guidance: float = 0.0,
    seed: int = 0,
    show: bool = False,
) -> Estimate:
    """-log p(text | prompt): exact for an autoregressive model, otherwise by an estimator.

    Args:
        checkpoint: From `remask.load`.
        text: What is scored, or its ids (then the prompt is ids too). A text longer than the context is scored in
            pieces that do not see each other.
        prompt: What is given; its trailing spaces count as the text's, as benchmarks have it.
        draws: Noisy copies of a text, where the estimator is random.
        error: Standard error, in nats, at which the draws end; by default all are made. A text in n pieces ends where
            each of them has this error divided by the square root of n.
        estimator: auto, or one that the family names: exact, enumeration, count, chain, rule, smdm, llada, draws or
            orders; see docs/likelihood.md.
        strata: Draws of smdm and llada that are spread evenly together (their batch size); by default at most 16.
        sampler: The sampler whose exact likelihood the estimator "rule" gives; Confidence by default.
        steps: Steps of that sampler; one token a step by default.
        block: Block size of that sampler.
        temperature: Temperature of that sampler.
        guidance: Weight of classifier-free guidance.
        seed: Seed of the noise, which also depends on the text and the prompt.
        show: Show progress on standard error.
    """
    requests = requests_of(checkpoint, text, prompt)
    kind = estimator_of(
        checkpoint.family, estimator, sampler, steps, block, temperature,
        draws=draws, strata=strata, guidance=guidance, seed=seed,
    )  # fmt: skip
    model, family = checkpoint.model, checkpoint.family
    each = error and error / math.sqrt(len(requests))
    scores = score_requests(model, family, requests, estimator=kind, device=model.device, show=show, error=each)
    return Estimate.total(estimate for _, estimate in scores)


def score_texts(
    checkpoint: Checkpoint,
    texts: Iterable[tuple[str, str]],
    *,
    estimator: Estimator,
    error: float | None = None,
    show: bool = False,
) -> Iterator[Estimate]:
    """-log p(text | prompt) of many (prompt, text), in their order, which share the network's calls.

    They are read as they are needed. `error` is that of a request, so of each piece of a text longer than the context.
    """
    pieces: deque[int] = deque()

    def requests() -> Iterator[Request]:
        for prompt, text in texts:
            parts = split(checkpoint, text, prompt)
            pieces.append(len(parts))
            yield from parts

    model, family = checkpoint.model, checkpoint.family
    scores = score_requests(model, family, requests(), estimator=estimator, device=model.device, show=show, error=error)
    for _, first in scores:
        rest = itertools.islice(scores, pieces.popleft() - 1)
        yield Estimate.total([first, *(estimate for _, estimate in rest)])


def rank_texts(
    checkpoint: Checkpoint,
    questions: Iterable[tuple[str, Sequence[str]]],
    *,
    estimator: Estimator,
    confidence: float = 0.95,
    by: Sequence[str] = ("sum",),
    target: Target = "bound",
    show: bool = False,
) -> Iterator[Ranking]:
    """The most probable answer to each (prompt, answers), in their order; see `remask.likelihood.rank`."""
    model, family = checkpoint.model, checkpoint.family
    asked = ([answer_to(checkpoint, prompt, answer) for answer in answers] for prompt, answers in questions)
    how: dict[str, Any] = {"confidence": confidence, "by": by, "target": target, "device": model.device, "show": show}
    return rank_requests(model, family, asked, estimator=estimator, **how)


def answer_to(checkpoint: Checkpoint, prompt: str, answer: str) -> Request:
    """The request of an answer. RemaskError where it is longer than the context."""
    parts = split(checkpoint, answer, prompt)
    if len(parts) > 1:
        raise RemaskError(f"an answer is longer than the context of {checkpoint.model.architecture.context} tokens")
    return replace(parts[0], characters=len(answer))


def estimator_of(
    family: Family,
    estimator: str = "auto",
    sampler: str | Sampler | None = None,
    steps: int | None = None,
    block: int | None = None,
    temperature: float = 1.0,
    **options: Any,
) -> Estimator:
    """The estimator that is asked for. RemaskError where it does not fit, or lacks one of the options."""
    if estimator == "rule":
        rule = sampler_of(family, sampler or "Confidence")
        options["params"] = SamplingParams(sampler=rule, steps=steps, block=block, temperature=temperature)
    elif (sampler, steps, block, temperature) != (None, None, None, 1.0):
        raise RemaskError('sampler, steps, block and temperature are for estimator "rule": they say whose likelihood')
    return choose(family, estimator, **options)


@dataclass(frozen=True)
class TokenScores:
    """-log p of a text, and the part of each of its tokens."""

    estimate: Estimate
    """What `score` gives with the same arguments."""
    tokens: list[int]
    """The ids of the text."""
    texts: list[str]
    """What to show for each token; of a character of several tokens, the last one has it."""
    nats: list[float]
    """Nats of each token, which sum to `estimate.nats`."""
    stderr: list[float]
    """Monte Carlo error of each value; 0 where it is exact. Those of two tokens are not independent."""


def score_tokens(
    checkpoint: Checkpoint,
    *,
    text: Prompt,
    prompt: Prompt = "",
    draws: int = 128,
    estimator: str = "auto",
    strata: int | None = None,
    sampler: str | Sampler | None = None,
    steps: int | None = None,
    block: int | None = None,
    temperature: float = 1.0,
    guidance: float = 0.0,
    seed: int = 0,
    show: bool = False,
) -> TokenScores:
    """-log p of each token of a text, by the arguments of `score`; the values sum to its estimate.

    With `exact` (autoregressive) and `chain` (masked) a token's value is -log p given all before it; with `rule` that
    at the moment when the sampler writes it; with the bounds of masked models it is the mean over all orders of
    writing, with its error. The estimators `draws` and `orders` are no sum over tokens, so they raise RemaskError.
    """
    how = estimator_of(
        checkpoint.family, estimator, sampler, steps, block, temperature,
        draws=draws, strata=strata, guidance=guidance, seed=seed,
    )  # fmt: skip
    model, family, requests = checkpoint.model, checkpoint.family, requests_of(checkpoint, text, prompt)
    parts = [token_values(model, family, one, how, device=model.device, show=show) for one in requests]
    ids = [int(i) for request in requests for i in request.target]
    return TokenScores(
        Estimate.total(part.estimate for part in parts),
        ids,
        checkpoint.text.pieces(ids) if checkpoint.text is not None else [str(i) for i in ids],
        [nats for part in parts for nats in part.nats],
        [error for part in parts for error in part.stderr],
    )


def requests_of(checkpoint: Checkpoint, text: Prompt, prompt: Prompt) -> list[Request]:
    """A text, or ids, as requests: one, or several where a text is longer than the context."""
    if isinstance(text, str) != isinstance(prompt, str) and prompt:
        raise RemaskError("text and prompt are both text, or both ids")
    return split(checkpoint, text, str(prompt)) if isinstance(text, str) else [of_ids(checkpoint, text, prompt)]


def of_ids(checkpoint: Checkpoint, ids: Prompt, prompt: Prompt) -> Request:
    """The request of a text that is given by its ids. RemaskError for ids that are never predicted, or too many."""
    architecture = checkpoint.model.architecture
    given, target = encode_prompt(checkpoint, prompt or []), encode_prompt(checkpoint, ids)
    beyond = [i for i in target if i >= architecture.predicted]
    if beyond:
        raise RemaskError(f"id {beyond[0]} is never predicted, so it has no likelihood")
    if len(given) + len(target) > architecture.context:
        raise RemaskError(f"{len(given)} + {len(target)} ids are beyond the context of {architecture.context}")
    return Request(target, given)


def split(checkpoint: Checkpoint, text: str, prompt: str = "") -> list[Request]:
    """A text as requests: its tokens given the prompt's, in pieces where it is longer than the context."""
    tokenizer, context = checkpoint.tokenizer, checkpoint.model.architecture.context
    kept = prompt.rstrip(" ")
    text, prompt = prompt[len(kept) :] + text, kept
    bos = checkpoint.family.bos
    given, whole = [*bos, *tokenizer.encode(prompt)], [*bos, *tokenizer.encode(prompt + text)]
    target = whole[len(given) :] if whole[: len(given)] == given else tokenizer.encode(text)
    size = len(text.encode())
    if not target:
        raise RemaskError("nothing to score: the text is empty")
    if len(given) + len(target) <= context:
        return [Request(target, given, size)]
    if prompt:
        raise RemaskError(
            f"prompt and text are {len(given)} + {len(target)} tokens, and the context is {context}; "
            "only a text without a prompt is scored in pieces"
        )
    ((ids, sizes),) = tokenizer.encode_with_bytes([text])
    room = context - len(bos)
    pieces, seen = [], Counter[tuple[int, ...]]()
    for i in range(0, len(ids), room):
        piece = tuple(ids[i : i + room].tolist())
        # of equal pieces each draws anew: a total adds up their errors as independent
        key = f"{piece} again, {seen[piece]}" if seen[piece] else None
        pieces.append(Request(piece, bos, int(sizes[i : i + room].sum()), noise_key=key))
        seen[piece] += 1
    return pieces
