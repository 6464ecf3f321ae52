"""Pre-training, from a prepared corpus to a published model.

    remask train --data data/novels --model 10M --budget.minutes 30 --out runs/first

The same command again resumes; on the CPU the weights come out as if the run had never stopped.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from remask import machine
from remask.errors import Interrupted, RemaskError
from remask.families import Family
from remask.families.rates import MaskRates
from remask.locking import locked
from remask.model.transformer import Transformer
from remask.signals import handled
from remask.terminal import progress, say
from remask.training.base import Training
from remask.training.engine import import_lightning
from remask.training.interruption import Interruption
from remask.training.plan import Plan, changed_options, decide, read_run, write_run
from remask.training.prolong import prolong
from remask.training.recipe import Recipe
from remask.training.start import Setup, set_up, starting_checkpoint
from remask.training.states import list_states, newest_state, step_of

Objective = Callable[[Transformer, Family, bool], torch.nn.Module]
"""(network, family, whether to compile) -> a module that is called with (network, batch, generator) for a `Loss`.

Its state, such as a teacher, is saved with the run's.
"""
WAIT = 300.0
"""Seconds that a process waits for the first one to plan the run."""


def train(recipe: Recipe) -> Path:
    """Trains a model of any family. Returns the published folder `out/latest`.

    RemaskError for options that do not fit together, and where the run directory holds another run; Interrupted
    after a Ctrl-C, with the run saved.
    """
    objective = recipe.adversarial.objective if recipe.adversarial.radius else None
    setup = set_up(recipe, recipe.family, starting_checkpoint(recipe.model, recipe.out))
    return carry_out(setup, objective)


def carry_out(setup: Setup, objective: Objective | None = None) -> Path:
    """Runs a recipe whose parts are opened. An objective takes the place of the family's loss."""
    recipe = setup.recipe
    machine.keep_memory()
    with locked(recipe.out, "training") if setup.rank == 0 else nullcontext():
        if not list_states(recipe.out):
            setup.fill()
        plan = settle(setup) if setup.rank == 0 else await_plan(setup)
        if plan.compile:
            setup.denoiser.compile()
        return fit(setup, plan, objective)


def settle(setup: Setup) -> Plan:
    """The plan of a run: decided now, or, where the run is there already, the one it has, if need be for another
    budget. RemaskError where the run that is there has other options."""
    recipe, found = setup.recipe, read_run(setup.recipe.out)
    if found is None:
        plan = decide(setup)
    else:
        before, plan = found
        corpus = setup.prepared.fingerprint
        if plan.corpus != corpus:
            raise RemaskError(
                f"{recipe.out} was trained on another corpus than {recipe.source} holds; choose another --out"
            )
        changed = changed_options(before, plan, recipe)
        if any(not difference.startswith("--budget.") for difference in changed):
            raise RemaskError(
                f"{recipe.out} holds a run with other options: {'; '.join(changed)}. Choose another --out"
            )
        if not changed:
            return plan
        plan = prolong(setup, plan)
    write_run(recipe, plan)
    return plan


def await_plan(setup: Setup) -> Plan:
    """The plan that the first process of the run makes. RemaskError where it makes none for this recipe."""
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        found = read_run(setup.recipe.out)
        if found is not None and not changed_options(*found, setup.recipe):
            return found[1]
        time.sleep(0.1)
    raise RemaskError(f"process {setup.rank} waited for a plan of this recipe in {setup.recipe.out}, and there is none")


def fit(setup: Setup, plan: Plan, objective: Objective | None) -> Path:
    """Trains until the plan's last step; returns at once where that was done before."""
    import_lightning()
    from remask.training.after_step import AfterStep
    from remask.training.ema import EMA
    from remask.training.log import Log
    from remask.training.module import Module

    recipe, out = setup.recipe, setup.recipe.out
    minimised = None if objective is None else objective(setup.denoiser, setup.family, plan.compile)
    module = Module(setup, plan, minimised)
    resume = newest_state(out, {name: weight.shape for name, weight in module.state_dict().items()})
    if resume is None and list_states(out):
        setup.fill()  # no state can be read, so the run begins anew
    done = step_of(resume) if resume else 0
    if done >= plan.steps and (out / "latest").exists():
        say(f"{out} is complete: {plan.steps:,} steps")
        return out / "latest"
    if setup.rank == 0:
        say(describe_run(setup, plan, minimised) + (f", resumed at step {done:,}" if done else ""))
    average = EMA(recipe.ema) if recipe.ema else None
    shown = progress("training", plan.steps, "steps", done) if setup.rank == 0 else nullcontext(lambda *_, **__: None)
    with shown as tick:
        log = Log(out, tick, recipe.log_every, plan)
        interruption = Interruption()
        after_step = AfterStep(setup, plan, average, log, interruption)
        trainer = build_trainer(setup, plan, [callback for callback in (average, log, after_step) if callback])
        with handled(interruption.ask), machine.deterministic(setup.device):
            trainer.fit(module, ckpt_path=resume, weights_only=True)
            leave_processes()
    if interruption.asked and trainer.global_step < plan.steps:
        raise Interrupted(f"stopped at step {trainer.global_step:,} of {plan.steps:,}, saved; the same command goes on")
    return out / "latest"


def build_trainer(setup: Setup, plan: Plan, callbacks: list[Any]) -> Any:
    """Lightning's Trainer: it accumulates, clips, distributes and saves; everything else is in `callbacks`."""
    import lightning
    from lightning.pytorch.loggers import TensorBoardLogger

    from remask.training.saving import AtomicIO

    recipe = setup.recipe
    trainer = lightning.Trainer(
        accelerator="gpu" if setup.device.type == "cuda" else "cpu",
        strategy=build_strategy(recipe),
        devices=recipe.devices,
        num_nodes=recipe.nodes,
        precision="bf16-mixed" if plan.bf16 else "32-true",
        max_steps=plan.steps,
        accumulate_grad_batches=recipe.accumulate,
        callbacks=callbacks,
        logger=TensorBoardLogger(recipe.out, name="", version="tensorboard"),
        plugins=[AtomicIO()],
        default_root_dir=recipe.out,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    if trainer.world_size != recipe.processes:
        raise RemaskError(f"{trainer.world_size} processes were started, not devices x nodes")
    return trainer


def build_strategy(recipe: Training) -> Any:
    """How Lightning distributes the run. A sharded one still writes whole states, each from the first process."""
    if not recipe.sharded:
        return "auto"
    from lightning.pytorch.strategies import ModelParallelStrategy

    return ModelParallelStrategy(recipe.processes, tensor_parallel_size=1, save_distributed_checkpoint=False)


def leave_processes() -> None:
    """Ends the communication between processes, whose threads may else abort the interpreter when it exits."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def describe_run(setup: Setup, plan: Plan, objective: torch.nn.Module | None = None) -> str:
    """Two lines about a run: its network, its length and its arithmetic; and how it learns."""
    shape, family, optimizer = setup.denoiser.architecture, setup.family, setup.optimizer
    peak = plan.lr or optimizer.peak
    learns = [f"AdamW {peak:g}"]
    if optimizer.kind == "muon":
        learns = [f"Muon {optimizer.muon_lr:g} for matrices, AdamW {peak:g} for the rest"]
    if shape.convolution:
        learns.append(f"convolutions over {shape.convolution} positions")
    if setup.lora.rank:
        trained = sum(weight.numel() for weight in setup.denoiser.parameters() if weight.requires_grad)
        learns.append(f"adapters of rank {setup.lora.rank} alone, {trained:,} weights")
    if objective is None and isinstance(family, MaskRates):
        learns.append(family.rates_in_words())
    compiled = "compiled" if plan.compile else "not compiled"
    if not plan.compile and setup.compile != "off" and setup.device.type == "cpu" and machine.compiler() is None:
        compiled += " (no C++ compiler was found)"
    return (
        f"{type(family).__name__} {setup.recipe.model}: {shape.non_embedding:,} parameters "
        f"({shape.parameters:,} with embeddings), {plan.steps:,} steps of {plan.tokens:,} tokens, "
        f"{'bf16' if plan.bf16 else 'fp32'}, {compiled}\n"
        f"  {', '.join(learns)}"
    )
