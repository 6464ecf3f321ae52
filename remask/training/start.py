"""What a recipe comes to on this machine before the first step: its data, its network, its processes."""

import os
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from remask.checkpoints.checkpoint import open_checkpoint
from remask.checkpoints.folder import LazyCheckpoint, find
from remask.data.batches import Batches, GlobalBatches, Rows
from remask.data.example_batches import ExampleRows
from remask.data.tokenizer import Tokenizer
from remask.data.tokens import Prepared, open_tokens
from remask.errors import RemaskError
from remask.families import Family
from remask.model.convolution import Convolution
from remask.model.networks import network
from remask.model.sizes import SIZES, Architecture, size
from remask.model.transformer import Initialisation, initialise
from remask.seeds import mix_seeds
from remask.terminal import say
from remask.training.adapters import LowRank, add_adapters, published_name
from remask.training.base import Training
from remask.training.compatibility import check_adapters, check_checkpoint, check_tokenizer
from remask.training.fine_tuning import (
    Conversations,
    FineTuning,
    batches_of,
    is_conversations,
    open_conversations,
    validation_of,
)
from remask.training.optim import Optimizer
from remask.training.recipe import Conversion, Recipe
from remask.training.reinforcement.prompts import Prompts
from remask.training.states import list_states


@dataclass(frozen=True)
class Validated:
    """What a run is validated on, and how often."""

    rows: Rows | ExampleRows
    number: int
    """Rows that are scored."""
    left_to_right: int
    """Rows whose likelihood from left to right is worked out after the last step."""
    every: int | None
    """Steps between validations; None: as many as the arithmetic allows."""


@dataclass(frozen=True)
class Setup:
    """A recipe with everything that it names opened. The network's weights are not filled yet."""

    recipe: Training
    """Its `length` is the row length, never None."""
    start: LazyCheckpoint | None
    """The checkpoint that the weights come from; None where they are drawn."""
    prepared: Prepared | Conversations | Prompts
    family: Family
    """Bound to the vocabulary of the network."""
    denoiser: Any
    batches: GlobalBatches
    device: torch.device
    world: int
    """Processes of the run."""
    rank: int
    """The number of this process among them."""
    validation: Validated | None = None
    """What the run is validated on; None where it is not."""
    compile: Literal["auto", "on", "off"] = "off"
    """Whether the network may be compiled, as the recipe has it."""
    lora: LowRank = field(default_factory=LowRank)
    """Low-rank adapters that are trained in place of the weights; of rank 0 where there are none."""
    initialisation: Initialisation = "smdm"
    """How fresh weights are drawn."""
    fresh_head: bool = False
    """Whether the output head of a checkpoint is drawn anew."""
    passes: float = 1.0
    """How often a step does the arithmetic of a plain training step on its rows; for counting FLOPs."""

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a step, over all processes."""
        return round(self.batches.batch * self.batches.mean_length)

    @property
    def optimizer(self) -> Optimizer:
        """The recipe's, with the rates that a run of this size has where none are given."""
        return self.recipe.optimizer.for_size(self.denoiser.architecture.width, self.tokens_per_step)

    def fill(self, denoiser: Any = None) -> None:
        """Reads the network's weights from the checkpoint, or draws them: the same in every process.

        Not those of a sharded network, which has none before it is sharded.
        """
        denoiser = self.denoiser if denoiser is None else denoiser
        if denoiser.device.type == "meta":
            return
        if self.start is None:
            initialise(denoiser, self.initialisation, _generator(self.recipe.seed))
            return
        with torch.no_grad():
            for name, weight in denoiser.named_parameters():
                if (published := published_name(name)) is not None:
                    weight.copy_(self.start.tensors[published])
            if self.converts:
                open_to_the_right(denoiser)
                if self.fresh_head:
                    fresh = network(self.denoiser.architecture)
                    initialise(fresh, self.initialisation, _generator(self.recipe.seed))
                    denoiser.lm_head.weight.copy_(fresh.lm_head.weight)

    @property
    def converts(self) -> bool:
        """Whether a network that was autoregressive goes on as one that sees both sides."""
        return self.start is not None and self.start.family.order == "left" and self.family.order != "left"

    def build_network(self) -> Any:
        """Another network like this one, on the CPU, its weights filled."""
        denoiser = network(self.denoiser.architecture)
        self.fill(denoiser)
        return denoiser


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(mix_seeds(seed, 0))


def open_to_the_right(denoiser: Any) -> None:
    """Sets the convolutions' weights of the neighbours to the right, which a causal network never used, to 0."""
    for module in denoiser.modules():
        if isinstance(module, Convolution):
            module.weight[len(module.weight) // 2 :] = 0.0


def set_up(recipe: Recipe, family: Family, start: LazyCheckpoint | None) -> Setup:
    """Opens what a recipe names. RemaskError where its parts do not fit together, before anything is written.

    `family` is that of the recipe, or of a checkpoint that is trained on in its own way.
    """
    world, rank, device = count_processes(recipe), process_rank(recipe.devices), choose_device(recipe.accelerator)
    recipe = replace(recipe, length=recipe.length or default_length(recipe, start))
    assert recipe.length is not None
    batches: GlobalBatches
    rows: Rows | ExampleRows | None
    if is_conversations(recipe.data):
        shape, family = resolve_architecture(recipe, family, start, own := tokenizer_for(recipe, start))
        most = None if start is None and recipe.architecture.context is None else shape.context
        prepared = open_conversations(recipe.data, recipe.sft, family, own, recipe.length, most)
        batches = batches_of(prepared, recipe.sft, family, recipe.length, recipe.batch, recipe.seed)
        rows = validation_of(prepared, recipe.sft, family) if recipe.validation_rows else None
    else:
        prepared = open_tokens(recipe.data)
        if recipe.sft != FineTuning():
            raise RemaskError(f"sft is for conversations, and {recipe.data} is a prepared corpus")
        shape, family = resolve_architecture(recipe, family, start, prepared.tokenizer)
        batches = Batches(Rows(prepared.train, recipe.length), recipe.batch, recipe.seed, recipe.random_length)
        rows = validation_rows(recipe, prepared)
    with torch.device("meta") if recipe.sharded else nullcontext():
        denoiser = network(shape)
    if recipe.lora.rank:
        check_adapters(recipe, family, start)
        add_adapters(denoiser, recipe.lora, mix_seeds(recipe.seed, 6))
    if recipe.sharded and family.order == "drawn" and recipe.batch < 2 * recipe.processes * recipe.accumulate:
        raise RemaskError(
            f"{type(family).__name__} models take both of their terms in every process: --strategy fsdp needs at least "
            f"2 rows in each, a batch of {2 * recipe.processes * recipe.accumulate}"
        )
    validation = None
    if rows is not None:
        validation = Validated(rows, recipe.validation_rows, recipe.left_to_right_rows, recipe.validate_every)
    return Setup(
        recipe,
        start,
        prepared,
        family,
        denoiser,
        batches,
        device,
        world,
        rank,
        validation=validation,
        compile=recipe.compile,
        lora=recipe.lora,
        initialisation=recipe.initialisation,
        fresh_head=recipe.conversion.fresh_head,
    )


def tokenizer_for(recipe: Recipe, start: LazyCheckpoint | None) -> Tokenizer:
    """The tokenizer of a run on conversations. RemaskError where there is none, or where two are named."""
    if recipe.random_length:
        raise RemaskError(f"random_length is for a prepared corpus, and {recipe.data} holds conversations")
    given = recipe.sft.tokenizer
    if start is not None and start.tokenizer is not None:
        if given is not None:
            raise RemaskError(f"sft.tokenizer is {given!r}, and {recipe.model} has a tokenizer of its own")
        return start.tokenizer
    if given is None:
        raise RemaskError(
            f"{recipe.model} has no tokenizer, and {recipe.data} holds text: give --model CHECKPOINT, or "
            "--sft.tokenizer with bytes, a tokenizer.json, or a folder with one"
        )
    own = Tokenizer.bytes() if given == "bytes" else Tokenizer.load(given)
    return own if start is None else own.over(start.family.vocabulary)


def process_rank(devices: int) -> int:
    """The number of this process among all, under torchrun, SLURM, Lightning's own launcher, or alone."""
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    if "LOCAL_RANK" in os.environ:
        return int(os.environ.get("NODE_RANK", "0")) * devices + int(os.environ["LOCAL_RANK"])
    return int(os.environ.get("SLURM_PROCID", "0"))


def count_processes(recipe: Training) -> int:
    """Processes of the run. RemaskError where a launcher started another number than the recipe says."""
    world = int(os.environ.get("WORLD_SIZE") or recipe.processes)
    if world != recipe.processes:
        raise RemaskError(
            f"{world} processes were started, and --devices {recipe.devices} x --nodes {recipe.nodes} are "
            f"{recipe.processes}: give them the same number"
        )
    return world


def choose_device(accelerator: str) -> torch.device:
    """The kind of device that `accelerator` (auto, cpu or gpu) names on this machine."""
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise RemaskError("accelerator is gpu, and torch sees none here; use cpu or auto")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def validation_rows(recipe: Recipe, prepared: Prepared) -> Rows | None:
    """The rows of the validation split; None where there are none, or none are wanted."""
    if not recipe.validation_rows or recipe.length is None:
        return None
    if len(prepared.valid) < recipe.length:
        say(f"the validation split is shorter than one row of {recipe.length} tokens: this run is not validated")
        return None
    return Rows(prepared.valid, recipe.length)


def starting_checkpoint(model: str, out: Path) -> LazyCheckpoint | None:
    """The checkpoint that `model` names, None where it names a size. A run that goes on has its own: that of `out`.

    A run without a training state begins anew, though it may have published its best weights.
    """
    if model in SIZES or not (Path(model).exists() or "/" in model):
        return None
    return open_checkpoint(out if out.is_dir() and find(out) and list_states(out) else model)


def default_length(recipe: Recipe, start: LazyCheckpoint | None) -> int:
    """The row length of a recipe that gives none: the context of its model."""
    shape = recipe.architecture.of(size(recipe.model)) if start is None else start.architecture
    return shape.context


def resolve_architecture(
    recipe: Recipe, family: Family, start: LazyCheckpoint | None, tokenizer: Tokenizer
) -> tuple[Architecture, Family]:
    """The network's shape, and the family bound to its ids. RemaskError where a checkpoint and the data do not fit."""
    if start is None:
        if recipe.conversion != Conversion():
            raise RemaskError(f"conversion is for an autoregressive checkpoint, and {recipe.model} is a named size")
        return _of_a_named_size(recipe, family, tokenizer)
    check_checkpoint(recipe, family, start)
    check_tokenizer(recipe, family, start, tokenizer)
    shape = start.architecture
    if recipe.conversion.keep_shift:
        shape = replace(shape, shifted=True)
    return shape, family.over(start.family.vocabulary)


def _of_a_named_size(recipe: Recipe, family: Family, tokenizer: Tokenizer) -> tuple[Architecture, Family]:
    """`resolve_architecture` for fresh weights."""
    vocabulary = tokenizer.vocabulary
    shape = recipe.architecture.of(size(recipe.model))
    context = recipe.architecture.context or recipe.length or shape.context
    if family.time == "required" and recipe.architecture.time is False:
        raise RemaskError(f"{type(family).__name__} models are told the time; architecture.time cannot be false")
    if shape.time and family.time == "none":
        raise RemaskError(f"{type(family).__name__} models tell no time; architecture.time cannot be true")
    shape = replace(shape, rows=vocabulary.size, predicted=vocabulary.predicted, context=context)
    return replace(shape, time=shape.time or family.time == "required"), family.over(vocabulary)
