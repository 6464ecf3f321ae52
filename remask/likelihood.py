"""The one estimator of how probable a text is: an exact value, or a bound with its standard error.

Validation loss, `remask score` and benchmark scores all come from here.

For an autoregressive model the value is exact; others draw their own bound. For masked models there are these
estimators (`remask.estimators`), and `orders` for interpolating ones:

count   the bound; exactly k tokens masked, every k equally likely, k stratified over the draws
chain   exact -log p of the text read in one order, left to right (one network call a token)
rule    exact -log p of a sampler that chooses positions by a deterministic rule (DUEL)
auto    count, or by enumeration of all masks where those are no more than the draws
smdm    SMDM's: independent masks with stratified rates; its variance is infinite, since 1/p is not integrable, and
        so its error is understated
llada   LLaDA's: exact counts, rounded so that some are drawn more often than others; slightly biased
orders  -log of the mean of p(x | order) over random orders, one token at a time
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from remask.batch import Batch
from remask.errors import RemaskError, unknown
from remask.estimators import Estimator, Work, plain, plan, shares, stratified
from remask.families.autoregressive import Autoregressive
from remask.families.base import Denoiser, Family, cross_entropy, per_row
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.model.attention import FULL, Padded
from remask.sampling import Canvas, SamplingParams, start, stream
from remask.sampling.confidence import Confidence
from remask.sampling.guidance import guided
from remask.seeds import mix_seeds
from remask.terminal import progress

MOST = 2**17
"""Most draws that may be asked for."""


@dataclass(frozen=True)
class Estimate:
    """-log p of one text or of many, in nats."""

    nats: float
    """The value; an upper bound on -log p where `kind` is "bound"."""
    stderr: float
    """Standard error of the Monte Carlo mean; 0 where nothing was drawn. nan: one draw, no error known."""
    kind: Literal["exact", "bound"]
    tokens: int
    bytes: int = 0
    """UTF-8 bytes of the text; 0 where unknown."""
    of: str = ""
    """What distribution it is the likelihood of, where that is not the model's own."""

    @property
    def nats_per_token(self) -> float:
        """Nats per scored token."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of text; nan where the bytes are unknown."""
        return self.nats / math.log(2) / self.bytes if self.bytes else math.nan

    @property
    def bits_per_byte_stderr(self) -> float:
        """Standard error of `bits_per_byte`."""
        return self.stderr / math.log(2) / self.bytes if self.bytes else math.nan

    def __str__(self) -> str:
        sign = "=" if self.kind == "exact" else "<="
        error = "" if self.stderr == 0 else f" +- {self.bits_per_byte_stderr:.4f}"
        return f"{sign} {self.bits_per_byte:.4f}{error} bits/byte"

    @staticmethod
    def total(parts: Sequence["Estimate"]) -> "Estimate":
        """The estimate of several texts together; errors of independent draws add in squares."""
        return Estimate(
            nats=math.fsum(p.nats for p in parts),
            stderr=math.sqrt(math.fsum(p.stderr**2 for p in parts)),
            kind="exact" if all(p.kind == "exact" for p in parts) else "bound",
            tokens=sum(p.tokens for p in parts),
            bytes=sum(p.bytes for p in parts),
            of=parts[0].of if parts else "",
        )


@dataclass(frozen=True)
class Text:
    """What is to be scored: tokens, given those of a prompt."""

    target: Sequence[int]
    prompt: Sequence[int] = ()
    bytes: int = 0


@torch.inference_mode()
def score(
    denoiser: Denoiser,
    family: Family,
    texts: Sequence[Text],
    *,
    estimator: Estimator = "auto",
    draws: int = 128,
    strata: int | None = None,
    sampler: SamplingParams | None = None,
    guidance: float = 0.0,
    seed: int = 0,
    rows: int = 32,
    device: str | torch.device = "cpu",
    show: bool = False,
) -> list[Estimate]:
    """-log p of each text given its prompt. `rows` go through the network together; `show` shows progress.

    Draws of a text depend on `seed` and its place in the list alone, not on what shares its batch.
    `sampler` says how the rule of estimator "rule" writes (by default `Confidence`, one token at a time).
    """
    if any(not text.target for text in texts):
        raise RemaskError("nothing to score: a text has no tokens")
    if not 1 <= draws <= MOST:
        raise RemaskError(f"draws is {draws}; it must be at least 1, and at most {MOST}")
    name = type(family).__name__
    if estimator not in ("auto", *family.estimators):
        if estimator not in get_args(Estimator):
            raise unknown("estimator", estimator, get_args(Estimator))
        fitting = ", ".join(["auto", *family.estimators])
        raise RemaskError(f"estimator {estimator!r} does not fit {name} models; these do: {fitting}")
    if guidance and "count" not in family.estimators:
        raise RemaskError(f"guidance in scoring needs a masked model, and this one is {name}")
    if strata is not None and estimator not in ("smdm", "llada"):
        raise RemaskError(f"strata is for the estimators smdm and llada, not for {estimator!r}")
    if isinstance(family, Autoregressive):
        works = [plain(len(text.target)) for text in texts]
    elif isinstance(family, Masked):  # the estimators of any-order prediction
        if estimator == "rule":
            rule = sampler or SamplingParams(sampler=Confidence())
            seeds = [mix_seeds(seed, i) for i in range(len(texts))]
            return [
                _rule(denoiser, family, text, rule, guidance, draws, s, device)
                for text, s in zip(texts, seeds, strict=True)
            ]
        works = [plan(len(t.target), estimator, draws, mix_seeds(seed, i), strata) for i, t in enumerate(texts)]
    else:
        draw = _ordered if estimator == "orders" else _drawn
        return [draw(denoiser, family, t, draws, mix_seeds(seed, i), rows, device) for i, t in enumerate(texts)]
    values = _run(denoiser, family, list(zip(texts, works, strict=True)), guidance, rows, device, show)
    return [_gather(text, work, value) for text, work, value in zip(texts, works, values, strict=True)]


def _drawn(
    denoiser: Denoiser,
    family: Family,
    text: Text,
    draws: int,
    seed: int,
    rows: int,
    device: str | torch.device,
) -> Estimate:
    """The bound of any family, by `draws` draws of its own at stratified levels."""
    rng = torch.Generator().manual_seed(seed)
    whole = torch.tensor([*text.prompt, *text.target], device=device)
    scored = torch.arange(len(whole), device=device) >= len(text.prompt)
    means = []
    for share in shares(1 if family.exact else draws):
        values = []
        for levels in stratified(share, rng).to(device).split(rows):
            shape = (len(levels), len(whole))
            batch = Batch(whole.expand(shape), scored.expand(shape))
            values.append(family.bound(denoiser, batch, rng, levels))
        means.append(torch.cat(values).mean())
    found = finite(torch.stack(means))
    error = float(found.std() / math.sqrt(len(found))) if len(found) > 1 else math.nan
    if family.exact:
        return Estimate(float(found.mean()), 0.0, "exact", len(text.target), text.bytes)
    return Estimate(float(found.mean()), error, "bound", len(text.target), text.bytes)


def _ordered(
    denoiser: Denoiser, family: Family, text: Text, draws: int, seed: int, rows: int, device: str | torch.device
) -> Estimate:
    """-log of the mean over orders of p(x | order): a bound in the mean on -log p of writing one token at a time.

    It falls with the number of orders.
    The error is that of the mean of p, carried over to its logarithm (the delta method); too small where few orders
    carry most of the mean (Burda et al. 2016; Sahoo et al. 2025, *Esoteric Language Models*).
    """
    assert isinstance(family, Interpolating)
    rng, draws = torch.Generator().manual_seed(seed), 1 if family.exact else draws
    whole = torch.tensor([*text.prompt, *text.target], device=device)
    scored = torch.arange(len(whole), device=device) >= len(text.prompt)
    values = []
    for count in [rows] * (draws // rows) + [draws % rows] * (draws % rows > 0):
        batch = Batch(whole.expand(count, -1), scored.expand(count, -1))
        values.append(family.in_order(denoiser, batch, batch.draw((len(whole),), rng)))
    nats = torch.cat(values)
    p = (nats.min() - nats).exp()
    error = float(p.std() / p.mean() / math.sqrt(draws)) if draws > 1 else math.nan
    finite(nats)
    if family.exact:
        return Estimate(float(nats), 0.0, "exact", len(text.target), text.bytes)
    of = f"importance-weighted over {draws} orders"
    return Estimate(float(nats.min() - p.mean().log()), error, "bound", len(text.target), text.bytes, of)


def finite(values: Tensor) -> Tensor:
    """The values; RemaskError where one is nan."""
    if bool(values.isnan().any()):
        raise RemaskError("the model predicts nan: its weights are damaged, or guidance too extreme")
    return values


def _run(
    denoiser: Denoiser,
    family: Family,
    jobs: list[tuple[Text, Work]],
    guidance: float,
    rows: int,
    device: str | torch.device,
    show: bool,
) -> list[Tensor]:
    """(n,) float64 weighted sums for the copies of every text, batched across texts of like length."""
    sums = [torch.zeros(len(work.weight), dtype=torch.float64) for _, work in jobs]
    copies = [
        (len(t.prompt) + len(t.target), j, c) for j, (t, work) in enumerate(jobs) for c in range(len(work.weight))
    ]
    copies = [c for c in copies if jobs[c[1]][1].hidden is None or bool(jobs[c[1]][1].weight[c[2]].any())]
    copies.sort()
    with progress("scoring", len(copies), "rows") if show else nullcontext(lambda n: None) as tick:
        for start in range(0, len(copies), rows):
            part = copies[start : start + rows]
            value = _forward(denoiser, family, [(*jobs[j], c) for _, j, c in part], guidance, device)
            for (_, j, c), v in zip(part, value.tolist(), strict=True):
                sums[j][c] = v
            tick(len(part))
    return sums


def _forward(
    denoiser: Denoiser,
    family: Family,
    part: list[tuple[Text, Work, int]],
    guidance: float,
    device: str | torch.device,
) -> Tensor:
    """(B,) float64: the weighted sums of some copies, from one network call."""
    length = max(len(t.prompt) + len(t.target) for t, _, _ in part)
    tokens = torch.zeros(len(part), length, dtype=torch.int64)
    prompt, valid, ask = (torch.zeros(len(part), length, dtype=torch.bool) for _ in range(3))
    weight = torch.zeros(len(part), length, dtype=torch.float64)
    for row, (text, work, copy) in enumerate(part):
        first, last = len(text.prompt), len(text.prompt) + len(text.target)
        tokens[row, :last] = torch.tensor([*text.prompt, *text.target])
        prompt[row, :first], valid[row, :last] = True, True
        hidden = torch.ones(last - first, dtype=torch.bool) if work.hidden is None else work.hidden[copy]
        ask[row, first:last] = hidden
        weight[row, first:last] = work.weight[copy]
    tokens, prompt, valid, ask, weight = (x.to(device) for x in (tokens, prompt, valid, ask, weight))
    attention = (
        FULL if family.order == "left" or bool(valid.all()) else Padded(valid)
    )  # causal rows never see what is behind
    batch = Batch(tokens, valid & ~prompt, attention=attention)
    noisy = family.inputs_for(batch, ask, torch.ones(len(part), device=device))
    # a chain-rule copy reads all its masks but needs one of them
    needed = ask & (weight > 0)
    noisy = replace(noisy, ask=needed, target=noisy.target[needed[ask]])
    nats = cross_entropy(guided(denoiser, family, guidance, prompt), noisy)
    return per_row(nats.double() * weight[needed], needed).cpu()


def _gather(text: Text, work: Work, sums: Tensor) -> Estimate:
    """Value and error: groups are independent, and their means equally weighted."""
    error = 0.0
    if work.groups == 1 and work.kind == "bound":
        error = math.nan
    elif work.groups > 1 and work.kind == "bound":
        means = torch.stack([g.sum() for g in sums.tensor_split(work.groups)]) * work.groups
        error = float(means.std() / math.sqrt(work.groups))
    finite(sums)
    return Estimate(float(sums.sum()), error, work.kind, len(text.target), text.bytes, work.of)


def _rule(
    denoiser: Denoiser,
    family: Family,
    text: Text,
    rule: SamplingParams,
    guidance: float,
    draws: int,
    seed: int,
    device: str | torch.device,
) -> Estimate:
    """-log probability that this sampler writes this text (Turok et al. 2026, DUEL).

    Exact where the choice of positions is deterministic. A random order is a mixture of rules; the mean
    over `draws` orders is a bound.
    """
    sampler, name = rule.sampler, type(rule.sampler).__name__
    if sampler.rewrites:
        raise RemaskError(f"{name} writes positions more than once, so its rule has no likelihood")
    if not sampler.chooses_first:
        raise RemaskError(
            f"{name} chooses positions by what it has drawn, so its likelihood is no chain of these; "
            "Confidence with the same steps is the rule that chooses first"
        )
    copies = 1 if sampler.deterministic else draws
    whole = torch.tensor([[*text.prompt, *text.target]] * copies, device=device)
    open_ = torch.ones_like(whole, dtype=torch.bool)
    open_[:, : len(text.prompt)] = False
    canvas = Canvas(whole, open_, torch.ones_like(open_))
    params = replace(rule, guidance=guidance, stop=False)
    state = start(family, canvas, params, [mix_seeds(seed, i) for i in range(copies)], forced=whole)
    for _ in stream(denoiser, family, state):
        pass
    total = state.log_prob.cpu()
    kind: Literal["exact", "bound"] = "exact" if sampler.deterministic else "bound"
    error = float(total.std() / math.sqrt(copies)) if copies > 1 else (0.0 if kind == "exact" else math.nan)
    options = {"steps": rule.steps, "block": rule.block, "temperature": rule.temperature}
    of = ", ".join([repr(sampler), *(f"{k}={v}" for k, v in options.items() if v not in (None, 1.0))])
    return Estimate(-float(total.mean()), error, kind, len(text.target), text.bytes, of)


@torch.inference_mode()
def validate(
    denoiser: Denoiser,
    family: Family,
    batches: Iterable[tuple[int, tuple[Batch, list[int]]]],
    *,
    draws: int = 2,
    seed: int = 0,
) -> Estimate:
    """The bound (or the exact value) of numbered batches of a corpus, with the same noise every time.

    Each row is drawn `draws` times, at levels stratified over its batch. The error is that of the noise,
    not of the choice of rows. It leaves out what stratifying gains, and so errs on the large side, but for uniform
    models, whose bound has infinite variance.
    """
    parts = []
    for number, (batch, sizes) in batches:
        rng = torch.Generator().manual_seed(mix_seeds(seed, 2, number))  # apart from the noise of training
        rounds = 1 if family.exact else max(draws, 2)
        drawn = torch.stack([family.bound(denoiser, batch, rng) for _ in range(rounds)]).cpu()
        error = 0.0 if family.exact else float(drawn.var(0).sum().div(rounds).sqrt())
        kind: Literal["exact", "bound"] = "exact" if family.exact else "bound"
        parts.append(Estimate(float(drawn.mean(0).sum()), error, kind, int(batch.scored.sum()), sum(sizes)))
    if not parts:
        return Estimate(0.0, 0.0, "exact" if family.exact else "bound", 0)
    return Estimate.total(parts)
