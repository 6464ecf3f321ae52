"""The weighted -log p of texts and its gradient, from copies of which only some are in memory at a time."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from remask.batch import Batch
from remask.families import Family
from remask.families.denoiser import Noisy
from remask.sampling.network_call import without_mask
from remask.training.reinforcement.objective import Copies

TOKENS = 2**14
"""Tokens that are read with a gradient at once, unless one copy has more."""


def weighted_nats(denoiser: Any, family: Family, batch: Batch, copies: Copies, weight: Tensor) -> Tensor:
    """Scalar: the sum over the copies of weight (B,) times -log p of what is asked. Texts of weight 0 are not read."""
    needed = (weight[copies.row] != 0).nonzero()[:, 0]
    size = max(1, TOKENS // batch.tokens.shape[1])
    parts = needed.split(size) if len(needed) else ()
    if len(parts) == 1:
        return weighted_part(denoiser, family, batch, copies.at(parts[0]), weight)
    values = (weighted_part(denoiser, family, batch, copies.at(part), weight) for part in parts)
    return sum_of_parts(values, [w for w in denoiser.parameters() if w.requires_grad])


def weighted_part(denoiser: Any, family: Family, batch: Batch, copies: Copies, weight: Tensor) -> Tensor:
    """`weighted_nats` of copies that are read at once."""
    rows = replace(batch.at(copies.row), tokens=copies.tokens)
    noisy = family.inputs_for(rows, copies.hidden, copies.ask.float())
    wanted = noisy.weight > 0  # of what is hidden
    ask = noisy.ask.masked_scatter(noisy.ask, wanted)
    noisy = replace(noisy, ask=ask, target=noisy.target[wanted])
    return (weight[copies.row][ask.nonzero()[:, 0]] * nats(denoiser, family, noisy)).sum()


def nats(denoiser: Any, family: Family, noisy: Noisy) -> Tensor:
    """(N,) -log p of the targets, by the law from which a sampler draws: one without the mask, which is never drawn."""
    mask, inputs = family.vocabulary.mask, noisy.inputs
    if mask is None or mask >= family.vocabulary.predicted:
        return denoiser(inputs, ask=noisy.ask, target=noisy.target, **noisy.conditions)
    logits = without_mask(denoiser(inputs, ask=noisy.ask, **noisy.conditions), family)
    return cross_entropy(logits, noisy.target, reduction="none")


def sum_of_parts(parts: Iterator[Tensor], weights: list[torch.nn.Parameter]) -> Tensor:
    """Scalar whose value and gradient by the weights are the sums of those of the parts.

    Each part is differentiated as soon as it is there, and its graph given away; the sum is linear in the weights with
    the gradients found, so that whoever differentiates it finds those.
    """
    value = torch.zeros((), device=weights[0].device)
    gradients = [torch.zeros_like(weight) for weight in weights]
    for part in parts:
        found = torch.autograd.grad(part, weights, materialize_grads=True)
        gradients = [whole + own for whole, own in zip(gradients, found, strict=True)]
        value = value + part.detach()
    linear = torch.stack([(weight * own).sum() for weight, own in zip(weights, gradients, strict=True)]).sum()
    return linear - linear.detach() + value
