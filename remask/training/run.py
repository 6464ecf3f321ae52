"""Pre-training, from a prepared corpus to a published model.

    remask train --data data/novels --model 10M --budget.minutes 30 --out runs/first

Rerunning the command resumes; on the CPU the weights come out as if it had never stopped.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from remask import machine
from remask.checkpoints.folder import LazyCheckpoint
from remask.data.batches import Batches, Rows
from remask.data.tokens import open_tokens
from remask.errors import Interrupted, RemaskError
from remask.families import Family
from remask.families.masked import Masked
from remask.locking import locked
from remask.model.sizes import SizeOverrides
from remask.model.transformer import Initialisation, Transformer
from remask.signals import handled
from remask.terminal import progress, say
from remask.training.optim import Budget, Optimizer
from remask.training.plan import check, plain, process_rank, resolve
from remask.training.start import build_network, resolve_architecture, starting_checkpoint

Objective = Callable[[Transformer, Family, bool], torch.nn.Module]
"""(network, family, whether to compile) -> a module that is called with (network, batch, generator) for a scalar.

Its state, such as a teacher, is saved with the run's.
"""


def train(
    data: Path,
    out: Path,
    family: Family = Masked(),  # noqa: B008
    model: str = "tiny",
    architecture: SizeOverrides = SizeOverrides(),  # noqa: B008
    budget: Budget = Budget(),  # noqa: B008
    optimizer: Optimizer = Optimizer(),  # noqa: B008
    length: int = 256,
    batch: int = 32,
    accumulate: int = 1,
    random_length: float = 0.0,
    initialisation: Initialisation = "smdm",
    ema: float = 0.0,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    compile: Literal["auto", "on", "off"] = "auto",
    seed: int = 0,
    validation_rows: int = 64,
    validate_every: int | None = None,
    save_every: int | None = None,
    log_every: int = 10,
    devices: int = 1,
    nodes: int = 1,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
) -> Path:
    """Pre-trains a model of any family.

    Args:
        data: Folder made by `remask prepare`.
        out: Run directory. Where it holds a run with the same options, that run goes on.
        family: Masked, Uniform, Interpolating or Autoregressive, with its options.
        model: Named size, such as tiny, 10M, 85M, 1028M, LLaDA-8B; or a checkpoint to start from.
        architecture: Changes to the named size. The context is the row length unless given.
        budget: How much to train; one of flops, tokens, steps, minutes.
        optimizer: AdamW and its schedule.
        length: Tokens in a row.
        batch: Rows of a step, over all processes and accumulated micro-batches.
        accumulate: Micro-batches in a step.
        random_length: Share of rows cut in two pieces at a random place, so that short texts are learnt too.
        initialisation: smdm or normal.
        ema: Decay of the moving average of the weights that is published; 0 publishes the weights themselves.
        precision: bf16 autocast or fp32; auto takes bf16 where the processor is fast at it.
        compile: Compile the network; auto does for runs long enough to repay it.
        seed: Of weights, order and noise.
        validation_rows: Rows of the validation split that are scored; 0 for none.
        validate_every: Steps between validations; a twentieth of the run by default.
        save_every: Steps between checkpoints; a twentieth of the run by default.
        log_every: Steps between rows of metrics.csv.
        devices: Processes on each node.
        nodes: Nodes.
        accelerator: cpu, gpu, or whichever is there.

    Returns:
        The published folder `out/latest`.
    """
    return launch({k: v for k, v in locals().items() if k != "out"}, out)


def launch(
    options: dict[str, Any],
    out: Path,
    objective: Objective | None = None,
    start: LazyCheckpoint | None = None,
    verb: set[str] | None = None,
) -> Path:
    """The run that the arguments of `train` describe, or one with another objective than the family's loss.

    `start` is the checkpoint it begins with, where that is open already; `verb` names the options of a command of
    its own.
    """
    data, model, family, length = (options[name] for name in ("data", "model", "family", "length"))
    world = int(os.environ.get("WORLD_SIZE") or options["devices"] * options["nodes"])
    rank = process_rank(options["devices"])
    check(options, world)
    prepared = open_tokens(data)
    tokenizer = prepared.tokenizer
    start = starting_checkpoint(model, out) if start is None else start
    shape, family = resolve_architecture(start, model, family, tokenizer, options["architecture"], length)
    rows = Rows(prepared.train, length)
    wanted = options["validation_rows"]
    validation = Rows(prepared.valid, length) if wanted and len(prepared.valid) >= length else None
    if validation is None and wanted:
        say(f"the validation split is shorter than one row of {length} tokens: this run is not validated")
    batches = Batches(rows, options["batch"], options["seed"], options["random_length"])
    gpu = options["accelerator"] == "gpu" or (options["accelerator"] == "auto" and torch.cuda.is_available())
    if gpu and not torch.cuda.is_available():
        raise RemaskError("accelerator is gpu, and torch sees none here; use cpu or auto")
    device = torch.device("cuda" if gpu else "cpu")
    machine.keep_memory()

    denoiser = build_network(start, shape, options["initialisation"], options["seed"])
    with locked(out, "training") if rank == 0 else nullcontext():
        plan = resolve(
            out, options, prepared.manifest["fingerprint"], denoiser, family, batches, world, device, rank, verb
        )
        if plan["compile"]:
            denoiser.compile()
        return _fit(out, options, plan, denoiser, family, batches, validation, tokenizer, device, objective)


def _fit(
    out: Path,
    options: dict[str, Any],
    plan: dict[str, Any],
    denoiser: Transformer,
    family: Family,
    batches: Batches,
    validation: Rows | None,
    tokenizer: Any,
    device: torch.device,
    objective: Objective | None,
) -> Path:
    """The run itself."""
    import logging
    import warnings

    import lightning
    from lightning.pytorch.loggers import TensorBoardLogger

    warnings.filterwarnings("ignore", module="lightning")
    for name in ("lightning.pytorch", "lightning.fabric"):  # which set their own level when imported
        logging.getLogger(name).setLevel(logging.ERROR)

    from remask.training.callbacks import EMA, AtomicIO, CheckpointCallback, newest_whole
    from remask.training.log import Log
    from remask.training.module import Module
    from remask.training.states import step_of

    steps = plan["steps"]
    part = max(1, steps // 20)
    minimised = None if objective is None else objective(denoiser, family, plan["compile"])
    module = Module(denoiser, family, batches, options["optimizer"], steps, options["seed"], minimised)
    module.micro = options["accumulate"]
    resume = newest_whole(out, module)
    done = step_of(resume) if resume else 0
    if done >= steps and (out / "latest").exists():
        say(f"{out} is complete: {steps:,} steps")
        return out / "latest"
    average = EMA(options["ema"]) if options["ema"] else None
    about = {
        "data": options["data"].name,
        "steps": steps,
        "tokens_a_step": plan["tokens"],
        "parameters": replace(denoiser.architecture, time=False).non_embedding,
        "reads": family.reads,
        "unique_tokens": len(batches.rows) * batches.rows.length,
        "flops_6n": steps * plan["flops_6n"],
        "options": plain({k: v for k, v in options.items() if k != "data"}),
    }
    say(
        f"{type(family).__name__} {options['model']}: {denoiser.architecture.non_embedding:,} parameters "
        f"({denoiser.architecture.parameters:,} with embeddings), {steps:,} steps of {plan['tokens']:,} tokens, "
        f"{'bf16' if plan['bf16'] else 'fp32'}, {'compiled' if plan['compile'] else 'not compiled'}"
        + (f", resumed at step {done:,}" if done else "")
    )
    with progress("training", steps, "steps", done) as tick:
        log = Log(out, tick, options["log_every"], plan)
        keeper = CheckpointCallback(
            out,
            validation,
            tokenizer,
            about,
            options["save_every"] or part,
            options["validate_every"] or part,
            options["validation_rows"],
            min(32, batches.batch),
            average,
            log,
        )
        trainer = lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=options["devices"],
            num_nodes=options["nodes"],
            precision="bf16-mixed" if plan["bf16"] else "32-true",
            max_steps=steps,
            accumulate_grad_batches=options["accumulate"],
            callbacks=[c for c in (average, log, keeper) if c],
            logger=TensorBoardLogger(out, name="", version="tensorboard"),
            plugins=[AtomicIO()],
            default_root_dir=out,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        if trainer.world_size != options["devices"] * options["nodes"]:
            raise RemaskError(f"{trainer.world_size} processes were started, not devices x nodes")
        with handled(_stopping(keeper)), deterministic(device):
            trainer.fit(module, StepCounter(done * options["accumulate"]), ckpt_path=resume, weights_only=True)
    if keeper.asked_to_stop and trainer.global_step < steps:
        raise Interrupted(f"stopped at step {trainer.global_step:,} of {steps:,}, saved; the same command goes on")
    return out / "latest"


class StepCounter:
    """The loader: it only counts micro-batches, from the one to go on with; what each reads is a function of it.

    Without a length, since Lightning would take that for the end of an epoch and begin anew.
    """

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On the CPU, compiled kernels add up in a fixed order, as eager ones do; else no run could be repeated."""
    from torch.utils import deterministic as settings

    before = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory  # type: ignore[attr-defined]
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        settings.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        settings.fill_uninitialized_memory = before[1]  # type: ignore[attr-defined]


def _stopping(keeper: Any) -> Callable[[], None]:
    """Ctrl-C and SIGTERM end the run after the step, saved. A second one ends it at once."""

    def stop() -> None:
        if keeper.asked_to_stop:
            raise KeyboardInterrupt
        keeper.asked_to_stop = True
        say("\nstopping after this step; once more to stop at once, without saving")

    return stop
