"""The bound of validation rows, as training reports it."""

from collections.abc import Iterable

import torch
from torch import Tensor

from remask.batch import Batch
from remask.families import Denoiser, Family
from remask.likelihood.estimate import Estimate
from remask.likelihood.levels import LossByLevel
from remask.likelihood.loop import score
from remask.likelihood.request import Request
from remask.seeds import mix_seeds


@torch.no_grad()
def validate(
    denoiser: Denoiser,
    family: Family,
    batches: Iterable[tuple[int, tuple[Batch, list[int]]]],
    *,
    draws: int = 2,
    seed: int = 0,
    by_level: LossByLevel | None = None,
) -> Estimate:
    """The bound, or the exact value, of numbered batches of a corpus, with the same noise every time.

    Each row is drawn `draws` times, at levels stratified over its batch. The error is that of the noise, not of the
    choice of rows. It leaves out what stratifying gains, and so errs on the large side, but for uniform models, whose
    bound has infinite variance. The loss at each noise level is added to `by_level`, but for exact families.
    """
    kind, parts = "exact" if family.exact else "bound", []
    for number, (batch, sizes) in batches:
        rng = torch.Generator().manual_seed(mix_seeds(seed, 2, number))  # apart from the noise of training
        rounds = 1 if family.exact else max(draws, 2)
        drawn = torch.stack([one_round(denoiser, family, batch, rng, by_level) for _ in range(rounds)]).cpu()
        error = 0.0 if family.exact else float(drawn.var(0).sum().div(rounds).sqrt())
        parts.append(Estimate(float(drawn.mean(0).sum()), error, kind, int(batch.scored.sum()), sum(sizes)))
    return Estimate.total(parts) if parts else Estimate(0.0, 0.0, kind, 0)


def compare_left_to_right(
    denoiser: Denoiser,
    family: Family,
    rows: list[tuple[list[int], list[int], int]],
    device: torch.device | str,
    seed: int = 0,
) -> tuple[Estimate, Estimate]:
    """The bound of a few rows, and the exact likelihood of writing them from left to right with the same network.

    Their difference shows how much better the network predicts from left to right than in a random order; one that
    knew the joint distribution would have none. `rows` are ids that are given, ids that are scored, and the bytes that
    these stand for; the family is one that predicts in any order. A row of L tokens takes 2 L readings.
    """
    requests = [Request(target=ids, prompt=given, bytes=size) for given, ids, size in rows]
    draws = max(len(request.target) for request in requests)
    bounds = score(denoiser, family, requests, estimator="count", device=device, draws=draws, seed=seed)
    exact = score(denoiser, family, requests, estimator="chain", device=device)
    return Estimate.total(found for _, found in bounds), Estimate.total(found for _, found in exact)


def one_round(
    denoiser: Denoiser, family: Family, batch: Batch, rng: torch.Generator, by_level: LossByLevel | None
) -> Tensor:
    """(B,) nats: one draw of the bound of each row."""
    if family.exact:
        return family.bound(denoiser, batch, rng)
    levels = batch.levels(rng)
    nats = family.bound(denoiser, batch, rng, levels)
    if by_level is not None:
        by_level.add(levels, nats, batch.scored.sum(1))
    return nats
