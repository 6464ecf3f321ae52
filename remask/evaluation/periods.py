"""Perplexity by date: how much worse a model predicts documents of later times than those of its training.

    remask perplexity runs/masked runs/ar abstracts.jsonl --by date --reference 2008:2012

Nie et al. 2025, "Scaling up Masked Diffusion Models on Text", section 7.2, measure it between two corpora. The value of
a period is the nats of its documents over their tokens, or over their bytes where the models have different
tokenizers. The change is the difference of two such values: that of a period and that of the reference, so that e to
its power is the ratio of the perplexities.

Errors are a bootstrap over documents: the documents of every period are drawn anew with replacement, the same ones for
all models, so that the difference between two models is paired. What the noise of a bound adds is in them, since each
document has noise of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.evaluation.dated import LENGTHS, Period, dated_texts
from remask.evaluation.passages import Passage, words_in
from remask.evaluation.perplexity import WindowRequests, exp, of_documents, window_size
from remask.likelihood import Estimator
from remask.likelihood import score as score_requests
from remask.sampling import Sampler
from remask.scoring import estimator_of

RESAMPLES = 1000


@dataclass(frozen=True)
class OfPeriod:
    """A model on the documents of a period."""

    run: str
    period: str
    documents: int
    tokens: int
    bytes: int
    kind: str
    """exact, or bound."""
    nats: float
    """Per token, or per byte."""
    nats_error: float
    change: float
    """Nats more than in the reference."""
    change_error: float
    beside_first: float
    """By how much the change exceeds that of the first model; 0 for the first."""
    beside_first_error: float

    @property
    def perplexity(self) -> float:
        """e to the power of the nats."""
        return exp(self.nats)


@dataclass(frozen=True)
class ByPeriod:
    """Several models on all periods."""

    unit: Literal["token", "byte"]
    reference: tuple[str, ...]
    """The periods of the reference."""
    rows: tuple[OfPeriod, ...]
    """By run, then by period; the first of each run, "reference", is that of all of its periods together."""

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        rows = [asdict(row) | {"perplexity": row.perplexity} for row in self.rows]
        return {"unit": self.unit, "reference": list(self.reference), "resamples": RESAMPLES, "rows": rows}

    def __str__(self) -> str:
        runs = list(dict.fromkeys(row.run for row in self.rows))
        span = self.reference[0] if len(self.reference) == 1 else f"{self.reference[0]} to {self.reference[-1]}"
        lines = [f"nats per {self.unit}; the reference is {span}; errors by {RESAMPLES:,} bootstraps over documents"]
        for run in runs:
            own = [row for row in self.rows if row.run == run]
            sign = "=" if own[0].kind == "exact" else "<="
            lines += ["", f"{run} ({own[0].kind})", f"  {'period':<10} documents  perplexity {'':10}change"]
            for row in own:
                line = f"  {row.period:<10} {row.documents:>9,}  {sign} {row.perplexity:<8.4g}"
                line += f" {row.nats:.4f} +- {row.nats_error:.4f}"
                if row.period != "reference":
                    line += f"  {row.change:+.4f} +- {row.change_error:.4f}"
                    if run != runs[0]:
                        line += f", {row.beside_first:+.4f} +- {row.beside_first_error:.4f} more than {runs[0]}"
                lines.append(line)
        return "\n".join(lines)


@dataclass(frozen=True)
class Measured:
    """A model on all documents."""

    nats: list[float]
    tokens: list[int]
    bytes: list[int]
    kind: str


def perplexity_by(
    checkpoints: Mapping[str, Checkpoint],
    source: str | Path,
    by: str,
    *,
    period: Period = "year",
    reference: str | None = None,
    stride: int | None = None,
    context: int | None = None,
    field: str = "text",
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
) -> ByPeriod:
    """Perplexity of dated documents by period, of several models, and its change since the reference.

    Args:
        checkpoints: Models by the names that the result gives them.
        source: JSON Lines, each an object with a text and a date.
        by: The field of the date: YYYY, YYYY-MM or YYYY-MM-DD and anything behind it, or a year as a number.
        period: What is counted together.
        reference: The first and the last period of the reference, as 2008:2012, or a single one; by default the first.
        stride, context, field, draws, estimator, strata, sampler, steps, block, temperature, guidance, seed: As in
            `remask.perplexity`.
        show: Show progress on standard error.

    Raises:
        RemaskError: a document has no text or no date, with its line; or no document is of the reference.
    """
    texts, dates = zip(*dated_texts(Path(source), by, field, LENGTHS[period]), strict=True)
    periods = sorted(set(dates))
    chosen = reference_of(periods, reference)
    found = []
    for checkpoint in checkpoints.values():
        how = estimator_of(
            checkpoint.family, estimator, sampler, steps, block, temperature,
            draws=draws, strata=strata, guidance=guidance, seed=seed,
        )  # fmt: skip
        found.append(measured(checkpoint, texts, how, context, stride, show))
    first = next(iter(checkpoints.values()))
    alike = all(first.tokenizer.agrees(one.tokenizer) for one in checkpoints.values())
    sizes = np.array([one.tokens if alike else one.bytes for one in found], dtype=np.float64)
    shares = changes(np.array([one.nats for one in found]), sizes, np.array(dates), periods, chosen, seed)
    rows = [
        OfPeriod(run, name, *counted(one, dates, chosen if name == "reference" else [name]), one.kind, *values)
        for run, one, of_run in zip(checkpoints, found, shares, strict=True)
        for name, values in zip(["reference", *periods], of_run, strict=True)
    ]
    return ByPeriod("token" if alike else "byte", tuple(chosen), tuple(rows))


def measured(
    checkpoint: Checkpoint,
    texts: Sequence[str],
    estimator: Estimator,
    context: int | None,
    stride: int | None,
    show: bool,
) -> Measured:
    """The nats of each document, by rolling windows."""
    size, step = window_size(checkpoint, context, stride)
    passages = []
    for text in texts:
        ((ids, sizes),) = checkpoint.tokenizer.encode_with_bytes([text])
        passages.append(Passage(ids, sizes, words_in(text), len(text.encode())))
    requests = WindowRequests(passages, checkpoint.family.bos, size - len(checkpoint.family.bos), step)
    model, family = checkpoint.model, checkpoint.family
    scores = score_requests(model, family, requests, estimator=estimator, device=model.device, show=show)
    found = of_documents(scores, requests)
    kind = "exact" if all(one.kind == "exact" for one in found) else "bound"
    return Measured([one.nats for one in found], [len(p.ids) for p in passages], [p.bytes for p in passages], kind)


def reference_of(periods: Sequence[str], reference: str | None) -> list[str]:
    """The periods of the reference."""
    if reference is None:
        return [periods[0]]
    first, _, last = (part.strip() for part in reference.partition(":"))
    found = [one for one in periods if first <= one <= (last or first)]
    if not found:
        raise RemaskError(
            f"reference is {reference!r}: no document is of it; the periods are {periods[0]} to {periods[-1]}, "
            f"and a reference is written {periods[0]}:{periods[-1]}"
        )
    return found


def counted(found: Measured, dates: Sequence[str], periods: Sequence[str]) -> tuple[int, int, int]:
    """Documents, tokens and bytes of some periods."""
    own = [i for i, date in enumerate(dates) if date in periods]
    return len(own), sum(found.tokens[i] for i in own), sum(found.bytes[i] for i in own)


def changes(
    nats: NDArray[np.float64],
    sizes: NDArray[np.float64],
    dates: NDArray[Any],
    periods: Sequence[str],
    reference: Sequence[str],
    seed: int,
) -> list[list[tuple[float, ...]]]:
    """For each model, of the reference and of each period: nats, their error, the change, its error, and the change
    beyond that of the first model with its error.

    `nats` and `sizes` are (models, documents). A bootstrap weighs each document by how often it was drawn. Errors are
    nan where periods have a single document.
    """
    rng = np.random.default_rng([seed, 17])
    of = {name: np.flatnonzero(dates == name) for name in periods}
    weights = np.ones((RESAMPLES + 1, len(dates)))  # the first row is the data themselves
    for places in of.values():
        weights[1:, places] = rng.multinomial(len(places), np.full(len(places), 1 / len(places)), RESAMPLES)
    groups = [np.concatenate([of[name] for name in reference]), *of.values()]
    ratios = [
        [weights[:, places] @ own[places] / (weights[:, places] @ size[places]) for places in groups]
        for own, size in zip(nats, sizes, strict=True)
    ]
    value = np.array(ratios)  # (models, groups, 1 + RESAMPLES)
    single = [all(len(of[name]) == 1 for name in names) for names in (reference, *([name] for name in periods))]
    value[:, single, 1:] = np.nan  # a single document, drawn again and again, shows no error
    change = value - value[:, :1]
    beside = change - change[:1]
    parts = [x for table in (value, change, beside) for x in (table[..., 0], table[..., 1:].std(-1, ddof=1))]
    return [[tuple(float(part[i, j]) for part in parts) for j in range(len(groups))] for i in range(len(nats))]
