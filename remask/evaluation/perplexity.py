"""Perplexity of a long text or of many: `remask perplexity` and `remask.perplexity`.

    m = remask.load("runs/x")
    remask.perplexity(m, "test.txt", stride=256).token_perplexity

Windows roll over each document, and every token is scored exactly once. For a masked model the value of a window is the
bound on its new tokens given the earlier ones in it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import Interrupted, RemaskError
from remask.evaluation.passages import Detokenize, Passage, passages_of
from remask.evaluation.windows import rolling_windows
from remask.likelihood import Estimate, Request
from remask.likelihood import score as score_requests
from remask.sampling import Sampler
from remask.scoring import estimator_of

MEASURES = ("nats_per_token", "token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")


@dataclass(frozen=True)
class Perplexity:
    """-log p of some documents, and what it is per token, word and byte."""

    estimate: Estimate
    """Nats of all tokens together, with their Monte Carlo error; exact or a bound."""
    words: int
    """Words of the text, as lm-evaluation-harness counts them."""
    bytes: int
    """UTF-8 bytes of the text as it stands in the file."""
    documents: int
    windows: int
    context: int
    """The most tokens that a window has, special ones in front of the text among them."""
    stride: int
    """New tokens of a window, but for the first of a document."""

    @property
    def nats_per_token(self) -> float:
        return self.estimate.nats_per_token

    @property
    def token_perplexity(self) -> float:
        return exp(self.estimate.nats_per_token)

    @property
    def word_perplexity(self) -> float:
        return exp(self.estimate.nats / self.words)

    @property
    def byte_perplexity(self) -> float:
        return exp(self.estimate.nats / self.bytes)

    @property
    def bits_per_byte(self) -> float:
        return self.estimate.nats / self.bytes / math.log(2)

    def stderr_of(self, measure: str) -> float:
        """Standard error of one of `MEASURES`; for a perplexity, carried over from the nats (the delta method)."""
        unit = {"word_perplexity": self.words, "byte_perplexity": self.bytes, "bits_per_byte": self.bytes}
        nats = self.estimate.stderr / unit.get(measure, self.estimate.tokens)
        if measure.endswith("perplexity"):
            return getattr(self, measure) * nats if nats else 0.0
        return nats / math.log(2) if measure == "bits_per_byte" else nats

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        named = {name: getattr(self, name) for name in MEASURES}
        spread = {f"{name}_stderr": self.stderr_of(name) for name in MEASURES}
        return vars(self.estimate) | {k: v for k, v in vars(self).items() if k != "estimate"} | named | spread

    def __str__(self) -> str:
        of = f", {self.estimate.of}" if self.estimate.of else ""
        sign = "=" if self.estimate.kind == "exact" else "<="
        lines = [
            f"{self.estimate.tokens:,} tokens, {self.words:,} words, {self.bytes:,} bytes; documents: "
            f"{self.documents:,}, windows: {self.windows:,} of {self.context}, stride {self.stride} "
            f"({self.estimate.kind}{of})"
        ]
        for measure in MEASURES:
            value, spread = getattr(self, measure), self.stderr_of(measure)
            shown = "" if spread == 0 else f" +- {spread:.2g}"
            lines.append(f"{measure.replace('_', ' '):>16} {sign} {value:.6g}{shown}")
        return "\n".join(lines)


def perplexity(
    checkpoint: Checkpoint,
    source: str,
    *,
    stride: int | None = None,
    context: int | None = None,
    split: Literal["valid", "train"] = "valid",
    field: str = "text",
    separator: str | None = None,
    detokenize: Detokenize = "none",
    max_bytes: int | None = None,
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
) -> Perplexity:
    """Perplexity of a text or a corpus by rolling windows, in which each token is scored exactly once.

    The first window of a document scores as many tokens as fit into the context, each later one `stride` more, given
    the tokens before them that fit beside them: `context - stride`, and more in the last.

    Args:
        checkpoint: From `remask.load`.
        source: Any text that `remask prepare` reads, such as a .txt or .jsonl file, whose documents do not see each
            other; or a prepared folder, whose tokens are one long row, end-of-text tokens included, as in training.
        stride: New tokens of each window; by default the whole context, so that no token is read twice.
        context: Tokens of a window; by default the context of the model.
        split: Of a prepared folder: valid or train.
        field: Field of a JSON record, or column of a table, that holds the text.
        separator: What separates the documents of a text file; by default lines of <|endoftext|>, else the file is one
            document.
        detokenize: wikitext turns a file of WikiText into plain text, each article a document, as the task `wikitext`
            of lm-evaluation-harness does; words and bytes are those of the file.
        max_bytes: Measure no more than the first so many bytes.
        draws: As in `score`, for each window; so are all further arguments.
        estimator, strata, sampler, steps, block, temperature, guidance, seed: As in `score`.
        show: Show progress on standard error.

    An interrupted call writes nothing: it raises `Interrupted`, whose message holds the value of the windows done.
    """
    bos = checkpoint.family.bos
    size, step = window_size(checkpoint, context, stride)
    how = estimator_of(
        checkpoint.family, estimator, sampler, steps, block, temperature,
        draws=draws, strata=strata, guidance=guidance, seed=seed,
    )  # fmt: skip
    passages = list(
        passages_of(
            source, checkpoint.tokenizer, split=split, field=field, separator=separator, detokenizer=detokenize,
            max_bytes=max_bytes,
        )
    )  # fmt: skip
    if not any(passage.bytes for passage in passages):
        raise RemaskError(f"{source} has no text, so it has no perplexity")
    requests = WindowRequests(passages, bos, size - len(bos), step)
    model, family = checkpoint.model, checkpoint.family
    scores = score_requests(model, family, requests, estimator=how, device=model.device, show=show)
    found = total_of(scores, sum(len(passage.ids) for passage in passages))
    words, in_file = sum(passage.words for passage in passages), sum(passage.bytes for passage in passages)
    return Perplexity(found, words, in_file, len(passages), len(requests), size, step)


def window_size(checkpoint: Checkpoint, context: int | None, stride: int | None) -> tuple[int, int]:
    """Context and stride; RemaskError where they are out of range."""
    most, special = checkpoint.model.architecture.context, len(checkpoint.family.bos)
    size = most if context is None else context
    if not special < size <= most:
        raise RemaskError(f"context is {size}; it must be from {special + 1} to {most}, the context of the model")
    step = size - special if stride is None else stride
    if not 1 <= step <= size - special:
        raise RemaskError(f"stride is {step}; it must be from 1 to {size - special}, the tokens of a window")
    return size, step


class WindowRequests(Sequence[Request]):
    """The windows of all passages; a request is made when it is asked for."""

    def __init__(self, passages: Sequence[Passage], bos: list[int], room: int, stride: int) -> None:
        self.passages, self.bos = passages, bos
        self.windows = [
            (number, window)
            for number, passage in enumerate(passages)
            for window in rolling_windows(len(passage.ids), room, stride)
        ]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, i: int) -> Request:  # type: ignore[override]
        number, window = self.windows[i]
        passage = self.passages[number]
        return Request(
            target=passage.ids[window.scored : window.end].tolist(),
            prompt=[*self.bos, *passage.ids[window.first : window.scored].tolist()],
            bytes=int(passage.sizes[window.scored : window.end].sum()),
            # by its place, so that equal windows draw anew: a total adds up their errors as independent
            noise_key=f"document {number}, token {window.scored}",
        )


def total_of(scores: Iterator[tuple[Any, Estimate]], tokens: int) -> Estimate:
    """The windows together. `Interrupted`, with the value of those done so far, where the user stops it."""
    parts: list[Estimate] = []
    try:
        for _, estimate in scores:
            parts.append(estimate)
    except KeyboardInterrupt:
        if not parts:
            raise
        found = Estimate.total(parts)
        sign, spread = "=" if found.kind == "exact" else "<=", found.stderr / found.tokens
        value = f"{sign} {found.nats_per_token:.4f}" + (f" +- {spread:.4f}" if spread else "")
        raise Interrupted(
            f"interrupted after {found.tokens:,} of {tokens:,} tokens, with {value} nats per token; nothing is kept, "
            "and the same command begins anew"
        ) from None
    return Estimate.total(parts)


def of_documents(scores: Iterator[tuple[Any, Estimate]], requests: WindowRequests) -> list[Estimate]:
    """The windows of each passage together."""
    parts: list[list[Estimate]] = [[] for _ in requests.passages]
    for (number, _), (_, estimate) in zip(requests.windows, scores, strict=True):
        parts[number].append(estimate)
    return [Estimate.total(own) for own in parts]


def exp(nats: float) -> float:
    """e to the power of some nats; infinite where that is beyond a float."""
    return math.exp(nats) if nats < 700 else math.inf
