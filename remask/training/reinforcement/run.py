"""Reinforcement learning with computed rewards, from a trained model to one that is right more often.

    remask reinforce runs/first --tasks [Countdown] --budget.steps 200 --out runs/reinforced

The same command again resumes; on the CPU the weights come out as if the run had never stopped.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from remask.checkpoints.checkpoint import open_checkpoint
from remask.checkpoints.folder import LazyCheckpoint, find
from remask.errors import RemaskError
from remask.model.networks import network
from remask.plots import reward_curve
from remask.seeds import mix_seeds
from remask.tasks import gsm8k
from remask.tasks.base import task_of
from remask.training.adapters import LowRank, add_adapters
from remask.training.base import Training
from remask.training.optim import Budget, Optimizer
from remask.training.reinforcement.objective import PolicyObjective, objective_of
from remask.training.reinforcement.policy import Policy, Reward, right
from remask.training.reinforcement.prompts import Prompts
from remask.training.run import carry_out
from remask.training.start import Setup, choose_device, count_processes, process_rank
from remask.training.states import list_states


@dataclass(frozen=True, kw_only=True)
class Reinforcement(Training):
    """The recipe of reinforcement: family, shape and first weights are those of the checkpoint `model`."""

    listed_first: ClassVar[tuple[str, ...]] = ("model", "tasks", "objective", "out")
    progress_matters: ClassVar[bool] = False

    model: str
    """Checkpoint to start from: a masked or an autoregressive model."""
    tasks: list[str] = field(default_factory=list)
    """Tasks whose questions are asked, in turns, as [Sudoku:holes=4,Sort]; one with two options is quoted, as
    ["Countdown:numbers=3,largest=10"]. [gsm8k:train.jsonl] are the word problems of a file, with template=0 to 2 for
    one of the prompts. A right answer has reward 1."""
    objective: str = "JustGRPO"
    """JustGRPO (exact likelihood from left to right) or WD1 (one reading), with options as JustGRPO:group=16."""
    budget: Budget = field(default_factory=Budget)
    """How much to train: steps."""
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(
            kind="adamw", lr=1e-4, weight_decay=0.0, floor=1.0, schedule="wsd", decay=0.01
        )
    )
    """AdamW at a learning rate that stays, after the warm-up, so that a finished run can be given more steps."""
    lora: LowRank = field(default_factory=LowRank)
    """Low-rank adapters, which are trained in place of the weights of the checkpoint."""
    length: int | None = None
    """Tokens that are written behind each prompt; by default those of the longest answer known, and one for the end of
    the text."""
    batch: int = 64
    """Texts of a step, over all processes and accumulated micro-batches: groups of texts with the same prompt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(value is not None for name, value in vars(self.budget).items() if name != "steps"):
            raise RemaskError("reinforcement takes a budget of steps: give --budget.steps")
        share = self.batch // (self.processes * self.accumulate)
        if share % self.policy.group:
            raise RemaskError(
                f"batch is {self.batch}, of which {share} texts are written at once; that must be a multiple of the "
                f"group of {self.policy.group} texts of a prompt (--objective {type(self.policy).__name__}:group=N)"
            )

    @property
    def source(self) -> str:
        return "task:" + "+".join(self.tasks)

    @property
    def policy(self) -> PolicyObjective:
        """The objective."""
        return objective_of(self.objective)


def reinforce(recipe: Reinforcement, reward: Reward = right) -> Path:
    """Trains a model by the rewards of texts that it writes. Returns the published folder `out/latest`.

    `reward(task, example, text)` is a number for each text; by default 1 for a right answer. It is not kept with the
    recipe: a run that goes on must be given the same. RemaskError where it raises, with the prompt and the text; the
    run is then saved as it stands.
    """
    out = recipe.out
    if not recipe.tasks:
        raise RemaskError("tasks is empty; name one, as [Countdown]")
    if recipe.budget.steps is None:
        raise RemaskError("give a budget: --budget.steps")
    start = open_checkpoint(out if out.is_dir() and find(out) and list_states(out) else recipe.model)
    setup = set_up(recipe, start)
    found = carry_out(setup, lambda *_: Policy(recipe.policy, setup.family, setup.prepared.tokenizer, reward))
    if setup.rank == 0:
        reward_curve({out.name: out}, out / "reward.png")
    return found


def command(recipe: Reinforcement) -> None:
    """`remask reinforce`: the recipe is its options."""
    reinforce(recipe)


def set_up(recipe: Reinforcement, start: LazyCheckpoint) -> Setup:
    """Opens what a recipe names. RemaskError where its parts do not fit together, before anything is written."""
    family, shape, policy = start.family, start.architecture, recipe.policy
    policy.check(family)
    if start.tokenizer is None:
        raise RemaskError(f"{recipe.model} came without a tokenizer, and tasks are asked in words")
    world, rank, device = count_processes(recipe), process_rank(recipe.devices), choose_device(recipe.accelerator)
    prompts = Prompts(
        [gsm8k.asked(name) if gsm8k.is_named(name) else task_of(name) for name in recipe.tasks],
        start.tokenizer,
        family,
        batch=recipe.batch,
        group=policy.group,
        room=recipe.length,
        context=shape.context,
        seed=recipe.seed,
    )
    recipe = replace(recipe, length=prompts.room)
    passes, denoiser = policy.passes(family, prompts.room), network(shape)
    if recipe.lora.rank:
        add_adapters(denoiser, recipe.lora, mix_seeds(recipe.seed, 6))
    return Setup(
        recipe, start, prompts, family, denoiser, prompts, device, world, rank, lora=recipe.lora, passes=passes
    )
