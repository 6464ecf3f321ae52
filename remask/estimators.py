"""What to mask in the copies of a text, so that the weighted sums of -log p(token) estimate its bound.

`count` is ours. `smdm` and `llada` are the published estimators, kept beside it so that published numbers can be
reproduced: the first has more variance, the second a slight bias.
"""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import torch
from torch import Tensor

from remask.errors import RemaskError, unknown
from remask.families.masked import Masked

Estimator = Literal["auto", "count", "chain", "rule", "smdm", "llada", "orders"]
GROUPS = 8
"""Independent groups of stratified draws, between which the error is measured."""
STRATA = 16
"""Draws that the published estimators spread evenly together: the batch size of their scripts."""


@dataclass(frozen=True)
class Work:
    """The network's share of an estimate: what to mask in n copies of one text, and how to weigh it."""

    hidden: Tensor | None
    """(n, T) bool over the target; None for an autoregressive model."""
    weight: Tensor
    """(n, T) float64 weight of each -log p(token), or (1,) of ones."""
    groups: int
    """How many independent groups the n copies form; 0 where nothing is random."""
    kind: Literal["exact", "bound"]
    of: str = ""


def plain(length: int) -> Work:
    """Every token once: an autoregressive model."""
    return Work(None, torch.ones(1, length, dtype=torch.float64), 0, "exact")


def plan(length: int, estimator: Estimator, draws: int, seed: int, strata: int | None = None) -> Work:
    """What to mask in the copies of a text of `length` tokens, and the weights."""
    known = [name for name in get_args(Estimator) if name not in ("rule", "orders")]  # that one is run, not planned
    if estimator not in known:
        raise unknown("estimator", estimator, known)
    published = estimator in ("smdm", "llada")
    if strata is not None and not published:
        raise RemaskError(f"strata is for the estimators smdm and llada, not for {estimator!r}")
    if estimator == "chain":
        hidden = torch.ones(length, length, dtype=torch.bool).triu()  # copy i sees targets before i
        return Work(hidden, torch.eye(length, dtype=torch.float64), 0, "exact", "left to right")
    if estimator == "auto" and length < 20 and 2**length - 1 <= draws:
        return every_mask(length)
    rng = torch.Generator().manual_seed(seed)
    sizes = [strata_of(draws, strata)] * (draws // strata_of(draws, strata)) if published else shares(draws)
    uniform = torch.rand(draws, length, generator=rng)
    if estimator == "llada":
        k = torch.cat([llada_counts(int(torch.randint(1, length + 1, (), generator=rng)), length, n) for n in sizes])
        hidden = uniform.argsort(1).argsort(1) < k[:, None]
        weight = length / k
    else:
        levels = torch.cat([stratified(n, rng) for n in sizes])
        form = Masked(objective="bound", eps=0.0) if estimator == "smdm" else Masked(objective="count")
        hidden, weight = form.masks(torch.ones(draws, length, dtype=torch.bool), levels, uniform)
    share = (1 / (len(sizes) * torch.tensor(sizes))).repeat_interleave(torch.tensor(sizes)).double()
    weights = torch.nan_to_num((share * weight.double())[:, None] * hidden)
    exact = length == 1 and estimator != "smdm"
    of = {"smdm": "SMDM's estimator", "llada": "LLaDA's estimator, slightly biased"}.get(estimator, "")
    return Work(hidden, weights, len(sizes), "exact" if exact else "bound", "" if exact else of)


def shares(draws: int) -> list[int]:
    """Sizes of the independent groups of `draws` draws, as equal as they can be."""
    return [len(share) for share in torch.arange(draws).tensor_split(min(GROUPS, draws))]


def strata_of(draws: int, strata: int | None) -> int:
    """Draws that are spread together: as asked, or a divisor of `draws` that leaves two groups for the error."""
    if strata is None:
        fitting = math.gcd(draws, STRATA)
        return fitting if fitting < draws else max(1, draws // 2 if draws % 2 == 0 else 1)
    if strata < 1 or draws % strata:
        raise RemaskError(f"strata is {strata}; it must divide the {draws} draws")
    return strata


def llada_counts(k: int, length: int, n: int) -> Tensor:
    """(n,) numbers of masked tokens from 1 to `length` as LLaDA spreads them, beginning with `k`.

    Rounding half to even makes some counts up to three times as frequent as others (get_log_likelihood.py).
    """
    spread = torch.linspace(float(k), k + (n - 1) * (length / n), n).round().long()
    return (spread - 1) % length + 1


def every_mask(length: int) -> Work:
    """All 2^T - 1 masks: the bound itself, without error. Weight (1/T) (1/C(T,k)) (T/k) for k masked."""
    subsets = [s for k in range(1, length + 1) for s in combinations(range(length), k)]
    hidden = torch.zeros(len(subsets), length, dtype=torch.bool)
    for row, subset in enumerate(subsets):
        hidden[row, list(subset)] = True
    k = hidden.sum(1).tolist()
    weight = torch.tensor([1 / (math.comb(length, n) * n) for n in k], dtype=torch.float64)
    return Work(hidden, weight[:, None] * hidden, 0, "exact" if length == 1 else "bound")


def stratified(n: int, rng: torch.Generator) -> Tensor:
    """(n,) levels (u + j)/n in [0, 1): each uniform, together evenly spread."""
    u = torch.rand((), generator=rng, dtype=torch.float64)
    return ((torch.arange(n) + u) / n).float().clamp(max=1 - 2**-24)
