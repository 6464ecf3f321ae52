"""Where a run begins: at a named size with fresh weights, or at a checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from remask.checkpoints.checkpoint import open_checkpoint
from remask.checkpoints.folder import LazyCheckpoint, find
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families import Family
from remask.model.networks import network
from remask.model.sizes import SIZES, Architecture, SizeOverrides, size
from remask.model.transformer import Initialisation, initialise
from remask.seeds import mix_seeds


def starting_checkpoint(model: str, out: Path) -> LazyCheckpoint | None:
    """The checkpoint that `model` names, None where it names a size. A run that goes on has its own: that of `out`."""
    if model in SIZES or not (Path(model).exists() or "/" in model):
        return None
    return open_checkpoint(out if out.is_dir() and find(out) else model)


def resolve_architecture(
    found: LazyCheckpoint | None, model: str, family: Family, tokenizer: Tokenizer, changes: SizeOverrides, length: int
) -> tuple[Architecture, Family]:
    """The network's shape and the family over its ids. RemaskError where a checkpoint and the data do not fit."""
    vocabulary = tokenizer.vocabulary
    if found is None:
        shape = changes.of(size(model))
        context = changes.context or length
        if family.timed and changes.time is False:
            raise RemaskError(f"{type(family).__name__} models are told the time; architecture.time cannot be false")
        if shape.time and not family.tells_time:
            raise RemaskError(f"{type(family).__name__} models tell no time; architecture.time cannot be true")
        shape = replace(shape, rows=vocabulary.size, predicted=vocabulary.predicted, context=context)
        return replace(shape, time=shape.time or family.timed), family.over(vocabulary)
    if changes != SizeOverrides():
        raise RemaskError(f"{model} is a checkpoint, whose shape is what it is; architecture is for a named size")
    a, theirs = found.architecture, found.family.vocabulary
    if length > a.context:
        raise RemaskError(f"length is {length}, and the context of {model} {a.context}")
    if a.time and not family.tells_time:
        raise RemaskError(f"{model} is conditioned on time, which {type(family).__name__} models do not tell")
    if family.timed and not a.time:
        raise RemaskError(f"{model} is not conditioned on time, which {type(family).__name__} models have to be")
    if family.reads_masks and theirs.mask is None:
        raise RemaskError(f"{model} has no row for a mask: make one with `remask convert {model} DST --family Masked`")
    if vocabulary.predicted > a.predicted or (family.reads_masks and vocabulary.mask != theirs.mask):
        raise RemaskError(
            f"the data was prepared with another tokenizer ({vocabulary.size} ids, mask {vocabulary.mask}) than that "
            f"of {model} ({theirs.size} ids, mask {theirs.mask}); prepare it with --tokenizer and the checkpoint's own"
        )
    if found.tokenizer is not None and not tokenizer.agrees(found.tokenizer):
        raise RemaskError(f"the data was prepared with another tokenizer than that of {model}; prepare it with its own")
    return a, family.over(theirs)


def build_network(found: LazyCheckpoint | None, shape: Architecture, rule: Initialisation, seed: int) -> Any:
    """The network, its weights drawn or read."""
    model = network(shape)
    if found is None:
        initialise(model, rule, torch.Generator().manual_seed(mix_seeds(seed, 0)))
        return model
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(found.tensors[name])
    return model
