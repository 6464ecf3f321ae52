"""Whether a recipe can go on from a checkpoint: its network, its family and its tokenizer; else what would work."""

from remask.checkpoints.folder import LazyCheckpoint
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families import Family
from remask.model.sizes import SizeOverrides
from remask.training.recipe import Conversion, Recipe


def check_checkpoint(recipe: Recipe, family: Family, start: LazyCheckpoint) -> None:
    """RemaskError where the network of a checkpoint is not one that the recipe can train."""
    model, shape, kind = recipe.model, start.architecture, type(family).__name__
    if recipe.architecture != SizeOverrides():
        raise RemaskError(f"{model} is a checkpoint, whose shape is what it is; architecture is for a named size")
    if recipe.length is not None and recipe.length > shape.context:
        raise RemaskError(
            f"length is {recipe.length}, beyond the context of {model} of {shape.context} tokens: give --length "
            f"{shape.context} or less"
        )
    if shape.time and family.time == "none":
        raise RemaskError(f"{model} is conditioned on time, which {kind} models do not tell")
    if family.time == "required" and not shape.time:
        raise RemaskError(f"{model} is not conditioned on time, which {kind} models have to be")
    began = (recipe.out / "run.json").exists()  # then `start` is what the run itself has published
    if recipe.conversion != Conversion() and not began and (start.family.order, family.order) != ("left", "any"):
        raise RemaskError(
            f"conversion is for autoregressive checkpoints that go on as masked ones; {model} is "
            f"{type(start.family).__name__}, to go on as {kind}"
        )
    if recipe.conversion.fresh_head and shape.tied:
        raise RemaskError(f"the head of {model} is its embedding, so conversion.fresh_head cannot draw it anew")
    if family.reads_masks and start.family.vocabulary.mask is None:
        raise RemaskError(f"{model} has no row for a mask: make one with `remask convert {model} DST --family Masked`")


def check_adapters(recipe: Recipe, family: Family, start: LazyCheckpoint | None) -> None:
    """RemaskError where adapters have no base, or one of another family, whose folder they could not be used with."""
    if start is None:
        raise RemaskError(
            f"lora.rank is {recipe.lora.rank}, and {recipe.model} is a named size: adapters need a checkpoint"
        )
    if type(start.family) is not type(family):
        raise RemaskError(
            f"lora.rank is {recipe.lora.rank}, and {recipe.model} is {type(start.family).__name__}, to go on as "
            f"{type(family).__name__}: adapters keep the family"
        )


def check_tokenizer(recipe: Recipe, family: Family, start: LazyCheckpoint, tokenizer: Tokenizer) -> None:
    """RemaskError where the data was not prepared with the tokenizer of the checkpoint."""
    model, ours, theirs = recipe.model, tokenizer.vocabulary, start.family.vocabulary
    other_mask = family.reads_masks and ours.mask != theirs.mask
    if ours.predicted > start.architecture.predicted or other_mask:
        raise RemaskError(
            f"the data was prepared with another tokenizer ({ours.size} ids, mask {ours.mask}) than that of {model} "
            f"({theirs.size} ids, mask {theirs.mask}); prepare it with --tokenizer and the checkpoint's own"
        )
    if start.tokenizer is not None and not tokenizer.agrees(start.tokenizer):
        raise RemaskError(f"the data was prepared with another tokenizer than that of {model}; prepare it with its own")
