"""The bound of validation rows, as training reports it."""

from collections.abc import Iterable

import torch

from remask.batch import Batch
from remask.families import Denoiser, Family
from remask.likelihood.estimate import Estimate
from remask.seeds import mix_seeds


@torch.inference_mode()
def validate(
    denoiser: Denoiser,
    family: Family,
    batches: Iterable[tuple[int, tuple[Batch, list[int]]]],
    *,
    draws: int = 2,
    seed: int = 0,
) -> Estimate:
    """The bound, or the exact value, of numbered batches of a corpus, with the same noise every time.

    Each row is drawn `draws` times, at levels stratified over its batch. The error is that of the noise, not of the
    choice of rows. It leaves out what stratifying gains, and so errs on the large side, but for uniform models, whose
    bound has infinite variance.
    """
    kind, parts = "exact" if family.exact else "bound", []
    for number, (batch, sizes) in batches:
        rng = torch.Generator().manual_seed(mix_seeds(seed, 2, number))  # apart from the noise of training
        rounds = 1 if family.exact else max(draws, 2)
        drawn = torch.stack([family.bound(denoiser, batch, rng) for _ in range(rounds)]).cpu()
        error = 0.0 if family.exact else float(drawn.var(0).sum().div(rounds).sqrt())
        parts.append(Estimate(float(drawn.mean(0).sum()), error, kind, int(batch.scored.sum()), sum(sizes)))
    return Estimate.total(parts) if parts else Estimate(0.0, 0.0, kind, 0)
