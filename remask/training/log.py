"""What a run says of itself: metrics.csv, TensorBoard events, and the progress bar."""

import csv
import math
import os
import time
from pathlib import Path
from typing import Any, cast

import lightning
import torch

from remask import machine
from remask.likelihood import Estimate
from remask.training.module import Module


class Log(lightning.Callback):
    """metrics.csv, TensorBoard events, and the progress bar."""

    COLUMNS: tuple[str, ...] = (
        "step",
        "tokens",
        "flops_6n",
        "seconds",
        "loss",
        "lr",
        "gradient_norm",
        "skipped",
        "valid_nats_per_token",
        "valid_bits_per_byte",
        "valid_stderr",
        "valid_kind",
    )

    def __init__(self, out: Path, tick: Any, every: int, plan: dict[str, Any]) -> None:
        self.out, self.tick, self.every = out, tick, every
        self.tokens, self.flops_6n, self.flops = plan["tokens"], plan["flops_6n"], plan["flops"]
        self.bf16, self.peak = plan["bf16"], 0.0
        self.sum, self.count, self.seconds = 0.0, 0, 0.0
        self.shown: dict[str, Any] = {}
        self.pace = 0.0
        """Seconds a step, smoothed."""
        self._last, self._since = -1, time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.peak = machine.peak(pl_module.device, self.bf16)
        self._last = trainer.global_step
        self.start_clock()
        if trainer.is_global_zero:
            self._rewind(trainer.global_step)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        module, step = cast(Module, pl_module), trainer.global_step
        if step == self._last:
            return
        self._last = step
        spent = time.monotonic() - self._since
        self.seconds += spent
        self.pace = spent if not self.pace else 0.8 * self.pace + 0.2 * spent
        part = torch.stack(module.losses).mean()
        module.losses.clear()
        loss = float(trainer.strategy.reduce(part, reduce_op="mean"))
        if math.isfinite(loss):
            self.sum, self.count = self.sum + loss, self.count + 1
        self.shown |= {"loss": self.loss, "tok/s": int(self.tokens / self.pace)}
        if self.peak:
            self.shown["peak"] = f"{self.flops / self.pace / self.peak:.0%}"
        if module.skipped:
            self.shown["skipped"] = module.skipped
        if trainer.is_global_zero:
            self.tick(1, **self.shown)

    def start_clock(self) -> None:
        """The next step's time begins: validating and saving are not the training's."""
        self._since = time.monotonic()

    @property
    def loss(self) -> float:
        """Mean since the last row, of the steps that were not skipped."""
        return self.sum / self.count if self.count else math.nan

    def write(self, trainer: lightning.Trainer, module: Module, found: Estimate | None) -> None:
        """Adds a row where one is due: every so many steps, with each validation, and at the end."""
        step = trainer.global_step
        if found is not None:
            self.shown["valid"] = str(found)
            self.peak = max(self.peak, machine.peak(module.device, self.bf16, seconds=0.1))
        if step % self.every == 0 or found is not None or step >= module.steps:
            if trainer.is_global_zero:
                self._write(trainer, module, step, found)
            self.sum, self.count = 0.0, 0

    def _write(self, trainer: lightning.Trainer, module: Module, step: int, found: Estimate | None) -> None:
        row: dict[str, Any] = {
            "step": step,
            "tokens": int(step * self.tokens),
            "flops_6n": step * self.flops_6n,
            "seconds": round(self.seconds, 3),
            "loss": self.loss,
            "lr": module.optimizer.rate(step, module.steps),
            "gradient_norm": module.gradient_norm,
            "skipped": module.skipped,
        }
        if found is not None:
            row |= {
                "valid_nats_per_token": found.nats_per_token,
                "valid_bits_per_byte": found.bits_per_byte,
                "valid_stderr": found.bits_per_byte_stderr,
                "valid_kind": found.kind,
            }
        path = self.out / "metrics.csv"
        fresh = not path.exists()
        with open(path, "a", newline="") as file:
            writer = csv.DictWriter(file, self.COLUMNS)
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in row.items() if isinstance(v, int | float)}, step)

    def _rewind(self, step: int) -> None:
        """Drops the rows of steps that will be run again."""
        path = self.out / "metrics.csv"
        if not path.exists():
            return
        with open(path, newline="") as file:
            rows = [r for r in csv.DictReader(file) if (r.get("step") or "").isdigit() and int(r["step"]) <= step]
        fresh = path.with_suffix(".tmp")
        with open(fresh, "w", newline="") as file:
            writer = csv.DictWriter(file, self.COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(fresh, path)

    def state_dict(self) -> dict[str, Any]:
        return {"sum": self.sum, "count": self.count, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.sum, self.count, self.seconds = (state_dict[k] for k in ("sum", "count", "seconds"))
