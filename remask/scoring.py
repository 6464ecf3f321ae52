"""Scores a text with a loaded model: what `remask score`, `remask.score` and `remask.score_tokens` call.

m = remask.load("runs/x")
remask.score(m, text="import os", draws=128, seed=0).bits_per_byte
remask.score_tokens(m, text="import os", estimator="chain").nats
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from remask.api import Prompt, encode_prompt, sampler_of
from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.families import Family
from remask.likelihood import Estimate, Request, choose, token_values
from remask.likelihood import score as score_requests
from remask.sampling import Sampler, SamplingParams


def score(
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
) -> Estimate:
    """-log p(text | prompt): exact for an autoregressive model, otherwise by an estimator.

    Args:
        checkpoint: From `remask.load`.
        text: What is scored, or its ids (then the prompt is ids too). A text longer than the context is scored in
            pieces that do not see each other.
        prompt: What is given; its trailing spaces count as the text's, as benchmarks have it.
        draws: Noisy copies of a text, where the estimator is random.
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
    options = estimator_options(
        checkpoint.family, estimator, draws=draws, strata=strata, sampler=sampler, steps=steps, block=block,
        temperature=temperature, guidance=guidance, seed=seed,
    )  # fmt: skip
    scores = score_requests(
        checkpoint.model,
        checkpoint.family,
        requests,
        device=checkpoint.model.device,
        show=show,
        **options,
    )
    return Estimate.total(estimate for _, estimate in scores)


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
    options = estimator_options(
        checkpoint.family, estimator, draws=draws, strata=strata, sampler=sampler, steps=steps, block=block,
        temperature=temperature, guidance=guidance, seed=seed,
    )  # fmt: skip
    how = choose(checkpoint.family, options.pop("estimator"), **options)
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


def estimator_options(
    family: Family,
    estimator: str,
    *,
    draws: int,
    strata: int | None,
    sampler: str | Sampler | None,
    steps: int | None,
    block: int | None,
    temperature: float,
    guidance: float,
    seed: int,
) -> dict[str, Any]:
    """The estimator and its options, as `remask.likelihood.score` takes them; the arguments are those of `score`."""
    options = {"estimator": estimator, "draws": draws, "strata": strata, "guidance": guidance, "seed": seed}
    if estimator == "rule":
        rule = sampler_of(family, sampler or "Confidence")
        options["params"] = SamplingParams(sampler=rule, steps=steps, block=block, temperature=temperature)
    elif (sampler, steps, block, temperature) != (None, None, None, 1.0):
        raise RemaskError('sampler, steps, block and temperature are for estimator "rule": they say whose likelihood')
    return options


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
