"""The thin layer between a family's loss and Lightning's Trainer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from torch import Tensor

from remask.batch import Batch
from remask.errors import RemaskError
from remask.seeds import mix_seeds
from remask.training.loader import MicroBatches
from remask.training.plan import Plan
from remask.training.sharding import fill_sharded, gather, shard
from remask.training.start import Setup

PATIENCE = 10
"""Steps in a row that may be skipped for a loss or gradient that is not finite."""


class Module(lightning.LightningModule):
    """Batch i and its noise are functions of (seed, i), so there is no state of either to resume."""

    def __init__(self, setup: Setup, plan: Plan, objective: torch.nn.Module | None = None) -> None:
        """`objective` is what is minimised in place of the family's loss."""
        super().__init__()
        self.given = setup
        self.denoiser, self.family, self.batches = setup.denoiser, setup.family, setup.batches
        self.objective = objective
        self.optimizer = replace(setup.optimizer, warmup=plan.warmup, lr=plan.lr or setup.optimizer.lr)
        self.steps, self.seed, self.micro_batches = plan.steps, setup.recipe.seed, setup.recipe.accumulate
        self.losses: list[Tensor] = []
        """Loss of each micro-batch of this step, on this process."""
        self.measured: list[dict[str, float]] = []
        """What the objective has measured besides, of each of them."""
        self.columns: tuple[str, ...] = getattr(objective, "columns", ())
        """Names of what the objective measures."""
        self.gradient_norm: Tensor | None = None
        """() of the last step, before clipping."""
        self.skipped = self.skipped_in_a_row = 0

    def configure_model(self) -> None:
        """Shards the network and fills its weights, where each process is to hold a part of it."""
        if self.given.recipe.sharded and self.denoiser.device.type == "meta":
            assert self.device_mesh is not None
            shard(self.denoiser, self.device_mesh["data_parallel"], self.given.device)
            fill_sharded(self.denoiser, self.given.build_network().state_dict() if self.given.rank == 0 else {})

    def train_dataloader(self) -> MicroBatches:
        """This process's rows, from the first micro-batch of the step that follows."""
        world, rank = self.trainer.world_size, self.trainer.global_rank
        start = self.trainer.global_step * self.micro_batches
        return MicroBatches(self.batches, self.micro_batches, world, rank, start)

    def training_step(self, numbered: tuple[int, Batch], _: int) -> Tensor:
        """Loss of this process's share of a micro-batch, which is numbered from the first step of the run."""
        step, micro = divmod(numbered[0], self.micro_batches)
        batch = replace(numbered[1], progress=step / self.steps)
        rng = torch.Generator().manual_seed(mix_seeds(self.seed, 1, step))
        minimised = self.family.loss if self.objective is None else self.objective
        # the gradients of processes and micro-batches are averaged, by DDP and by Lightning
        found = minimised(self.denoiser, batch, rng)
        loss = found.per_token(batch.global_tokens, self.trainer.world_size * self.micro_batches)
        if not micro:
            self.losses.clear()
            self.measured.clear()
        self.losses.append(loss.detach())
        self.measured.append(found.measured)
        # a loss that is not finite may still have finite gradients: spoil them, so that every process skips
        return loss * torch.where(loss.isfinite(), 1.0, float("nan"))

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None, *_: object, **__: object
    ) -> None:
        """Clips; a step whose gradient is not finite is skipped, by leaving the optimiser nothing to apply."""
        weights = [p for p in self.denoiser.parameters() if p.grad is not None]
        self.gradient_norm = gather(torch.nn.utils.clip_grad_norm_(weights, self.optimizer.clip or float("inf")))
        if self.gradient_norm.isfinite():
            self.skipped_in_a_row = 0
            return
        self.skipped += 1
        self.skipped_in_a_row += 1
        for weight in weights:
            weight.grad = None

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = self.optimizer.build(self.denoiser)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.optimizer.rate(step + 1, self.steps) / self.optimizer.peak
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        checkpoint["remask"] = {"skipped": self.skipped, "in_a_row": self.skipped_in_a_row}

    def on_load_checkpoint(self, checkpoint: dict[str, object]) -> None:
        (state,) = cast(list[dict[str, Any]], checkpoint["optimizer_states"])
        if len(state["param_groups"]) != len(self.optimizer.build(self.denoiser).param_groups):
            raise RemaskError(
                "this run was started by an earlier version of remask, whose optimiser put other weights together, and "
                "its training state does not fit; go on from its weights with --model and another --out"
            )
        counts = checkpoint["remask"]
        assert isinstance(counts, dict)
        self.skipped, self.skipped_in_a_row = counts["skipped"], counts["in_a_row"]

    def give_up_if_hopeless(self, last_good_state: Callable[[], Path | None]) -> None:
        """RemaskError once too many steps in a row were skipped; it names the newest training state."""
        if self.skipped_in_a_row < PATIENCE:
            return
        kept = last_good_state()
        raise RemaskError(
            f"{PATIENCE} steps in a row had a loss or gradient that was not finite, the last of them "
            f"{self.trainer.global_step}; "
            + (f"the last good checkpoint is {kept}" if kept else "there is no checkpoint yet")
            + ". A lower --optimizer.lr may help"
        )
