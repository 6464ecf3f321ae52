"""Learning from preferences, from a trained model to one that finds the better of two replies the more probable.

    remask prefer runs/chat --data pairs.jsonl --budget.epochs 1 --out runs/preferred

The same command again resumes; on the CPU the weights come out as if the run had never stopped.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from remask.checkpoints.checkpoint import open_checkpoint
from remask.checkpoints.folder import LazyCheckpoint, find
from remask.errors import RemaskError
from remask.model.networks import network
from remask.seeds import mix_seeds
from remask.training.adapters import LowRank, add_adapters
from remask.training.adversarial import Adversarial
from remask.training.base import Training
from remask.training.fine_tuning import FineTuning, layout_for
from remask.training.optim import Budget, Optimizer
from remask.training.preference.held_out import HELD_OUT, measure_held_out
from remask.training.preference.loss import PreferenceLoss
from remask.training.preference.objective import PreferenceObjective, objective_of
from remask.training.preference.pairs import PairBatches, PairReading, open_pairs
from remask.training.run import carry_out
from remask.training.start import Setup, choose_device, count_processes, process_rank
from remask.training.states import list_states


@dataclass(frozen=True, kw_only=True)
class Preferences(Training):
    """The recipe of a training on preferences: family, shape and first weights are those of the checkpoint `model`,
    which is also the reference."""

    listed_first: ClassVar[tuple[str, ...]] = ("model", "data", "objective", "out")
    progress_matters: ClassVar[bool] = False

    model: str
    """Checkpoint to start from, of any family: also the reference, which stays as it is."""
    data: Path
    """Pairs of replies: a .jsonl file, or a folder of them, of rows with prompt, chosen and rejected, as texts or as
    chats."""
    objective: str = "DPO"
    """DPO or IPO, with options as DPO:beta=0.1,draws=8."""
    sft: PairReading = field(default_factory=PairReading)
    """How the rows are read."""
    adversarial: Adversarial = field(default_factory=Adversarial)
    """Training under perturbed embeddings of the prompts; with IPO and a weight of 1 this is C-AdvIPO."""
    lora: LowRank = field(default_factory=LowRank)
    """Adapters, which alone are trained; beside the merged weights they are published in latest/adapter."""
    budget: Budget = field(default_factory=Budget)
    """How much to train: epochs or steps."""
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(
            kind="adamw", lr=1e-5, weight_decay=0.0, floor=1.0, schedule="wsd", decay=0.01
        )
    )
    """AdamW at a learning rate that stays, after the warm-up, so that a finished run can be given more steps."""
    length: int | None = None
    """Most tokens of a prompt with its reply; by default the context of the model."""
    batch: int = 32
    """Pairs of a step, over all processes and accumulated micro-batches."""
    validation_pairs: int = 256
    """Held-out pairs whose margins are measured after the last step; 0 for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_at_least("validation_pairs", 0)
        if any(value is not None for name, value in vars(self.budget).items() if name not in ("epochs", "steps")):
            raise RemaskError("preferences take a budget of epochs or steps: give --budget.epochs or --budget.steps")
        if self.adversarial.away:
            raise RemaskError(
                f"adversarial.away is {self.adversarial.away}; it must be 0 here, where the rejected reply is what is "
                "turned away from"
            )

    @property
    def source(self) -> str:
        return str(self.data)

    @property
    def preference(self) -> PreferenceObjective:
        """The objective."""
        return objective_of(self.objective)


def prefer(recipe: Preferences) -> Path:
    """Trains a model to prefer the chosen replies. Returns the published folder `out/latest`.

    RemaskError for options that do not fit together, a row that cannot be used, by file and line, and where the run
    directory holds another run; Interrupted after a Ctrl-C, with the run saved.
    """
    out = recipe.out
    if recipe.budget.epochs is None and recipe.budget.steps is None:
        raise RemaskError("give a budget: --budget.epochs or --budget.steps")
    start = open_checkpoint(out if out.is_dir() and find(out) and list_states(out) else recipe.model)
    setup = set_up(recipe, start)
    minimised = PreferenceLoss(
        recipe.preference, setup.family, network(start.architecture), recipe.adversarial, recipe.lora
    )
    found = carry_out(setup, lambda *_: minimised)
    trained = minimised.known  # else all steps were there already
    if setup.rank == 0 and recipe.validation_pairs and (trained or not (out / HELD_OUT).exists()):
        measure_held_out(setup, recipe.validation_pairs, minimised, found)
    return found


def command(recipe: Preferences) -> None:
    """`remask prefer`: the recipe is its options."""
    prefer(recipe)


def set_up(recipe: Preferences, start: LazyCheckpoint) -> Setup:
    """Opens what a recipe names. RemaskError where its parts do not fit together, before anything is written."""
    family, shape, tokenizer = start.family, start.architecture, start.tokenizer
    if tokenizer is None:
        raise RemaskError(f"{recipe.model} came without a tokenizer, and {recipe.data} holds text")
    if recipe.length is not None and recipe.length > shape.context:
        raise RemaskError(f"length is {recipe.length}, beyond the context of {recipe.model} of {shape.context} tokens")
    recipe = replace(recipe, length=recipe.length or shape.context)
    world, rank, device = count_processes(recipe), process_rank(recipe.devices), choose_device(recipe.accelerator)
    pairs = open_pairs(recipe.data, recipe.sft, family, tokenizer, recipe.length or 0, shape.context)
    layout = layout_for(FineTuning(padding="none"), family, tokenizer)
    batches = PairBatches(pairs.train, recipe.batch, recipe.seed, layout)
    denoiser, times = network(shape), passes(recipe, family.exact)
    if recipe.lora.rank:
        add_adapters(denoiser, recipe.lora, mix_seeds(recipe.seed, 6))
    return Setup(recipe, start, pairs, family, denoiser, batches, device, world, rank, lora=recipe.lora, passes=times)


def passes(recipe: Preferences, exact: bool) -> float:
    """How often a step does the arithmetic of a plain training step on its rows."""
    draws, hard = 1 if exact else recipe.preference.draws, recipe.adversarial
    steps = hard.steps + (hard.weight < 1) if hard.radius else 0
    return draws * (1 + steps + 1 / 3)  # the reference is read without gradients, a third of a step
