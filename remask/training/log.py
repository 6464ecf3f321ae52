"""What a run says of itself: metrics.csv, TensorBoard events, and the progress bar."""

import csv
import io
import math
import time
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from torch import Tensor

from remask import machine
from remask.files import write_atomically
from remask.likelihood import Estimate, LossByLevel
from remask.likelihood.levels import middles
from remask.training.module import Module
from remask.training.plan import Plan


class Log(lightning.Callback):
    """metrics.csv, TensorBoard events, and the progress bar.

    The loss is summed on the device, and read only when a row is due.
    """

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
        *(f"valid_nats_at_{level:.2f}" for level in middles()),
    )

    def __init__(self, out: Path, tick: Any, every: int, plan: Plan) -> None:
        self.out, self.tick, self.every, self.plan = out, tick, every, plan
        self.peak = 0.0
        """FLOP/s of a large matrix product on this machine."""
        self.total: Tensor | float = 0.0
        """() float64, the sum of the losses since the last row, of the steps that were not skipped."""
        self.count = 0
        """How many they are."""
        self.measured: dict[str, float] = {}
        """Sums of what the objective has measured, over the same steps."""
        self.columns = self.COLUMNS
        self.skipped = 0
        """Skipped steps of the run up to the last one."""
        self.seconds = 0.0
        """Time of all steps of the run, without validating and saving."""
        self.pace = 0.0
        """Seconds a step, smoothed."""
        self.shown: dict[str, Any] = {}
        self._last, self._since = -1, time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.peak = machine.peak(pl_module.device, self.plan.bf16)
        self._last, self.skipped = trainer.global_step, cast(Module, pl_module).skipped
        self.columns = self.COLUMNS + cast(Module, pl_module).columns
        self.start_clock()
        if trainer.is_global_zero:
            self._rewind(trainer.global_step)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        module, step = cast(Module, pl_module), trainer.global_step
        if step == self._last:
            return  # in the middle of an accumulated step
        self._last = step
        spent = time.monotonic() - self._since
        self.seconds += spent
        self.pace = spent if not self.pace else 0.8 * self.pace + 0.2 * spent
        if module.skipped == self.skipped:
            self.total = self.total + torch.stack(module.losses).mean().double()
            for name in module.columns:
                mean = sum(one[name] for one in module.measured) / len(module.measured)
                self.measured[name] = self.measured.get(name, 0.0) + mean
            self.count += 1
        self.skipped = module.skipped
        if trainer.is_global_zero:
            self.tick(1, **self.shown)

    def start_clock(self) -> None:
        """The time of the next step begins: validating and saving are not training."""
        self._since = time.monotonic()

    def write_if_due(
        self, trainer: lightning.Trainer, module: Module, found: Estimate | None, by_level: LossByLevel
    ) -> None:
        """Adds a row every so many steps, with each validation, and at the end."""
        step = trainer.global_step
        if step % self.every and found is None and step < module.steps:
            return
        mean = torch.as_tensor(self.total, dtype=torch.float64, device=module.device) / max(1, self.count)
        loss = float(trainer.strategy.reduce(mean, reduce_op="mean")) if self.count else math.nan
        sums = torch.tensor([self.measured.get(name, 0.0) for name in module.columns], dtype=torch.float64)
        means = trainer.strategy.reduce((sums / max(1, self.count)).to(module.device), reduce_op="mean").tolist()
        measured = dict(zip(module.columns, means, strict=True)) if self.count else {}
        self.total, self.count, self.measured = 0.0, 0, {}
        self._show(module, loss, measured, found)
        if trainer.is_global_zero:
            self._write(trainer, module, loss, measured, found, by_level)

    def _show(self, module: Module, loss: float, measured: dict[str, float], found: Estimate | None) -> None:
        """What stands beside the progress bar from now on."""
        self.shown |= {"loss": loss, **dict(list(measured.items())[:1]), "tok/s": int(self.plan.tokens / self.pace)}
        if found is not None:
            self.shown["valid"] = str(found)
            self.peak = max(self.peak, machine.peak(module.device, self.plan.bf16, seconds=0.02))
        if self.peak:
            self.shown["peak"] = f"{self.plan.flops / self.pace / self.peak:.0%}"
        if module.skipped:
            self.shown["skipped"] = module.skipped

    def _write(
        self,
        trainer: lightning.Trainer,
        module: Module,
        loss: float,
        measured: dict[str, float],
        found: Estimate | None,
        by_level: LossByLevel,
    ) -> None:
        """Adds the row of the last step to metrics.csv, and to the loggers."""
        step = trainer.global_step
        row: dict[str, Any] = {
            "step": step,
            "tokens": int(step * self.plan.tokens),
            "flops_6n": step * self.plan.flops_6n,
            "seconds": round(self.seconds, 3),
            "loss": loss,
            "lr": module.optimizer.rate(step, module.steps),
            "gradient_norm": math.nan if module.gradient_norm is None else float(module.gradient_norm),
            "skipped": module.skipped,
            **measured,
        }
        if found is not None:
            row |= {
                "valid_nats_per_token": found.nats_per_token,
                "valid_bits_per_byte": found.bits_per_byte,
                "valid_stderr": found.bits_per_byte_stderr,
                "valid_kind": found.kind,
            }
            levels = zip(middles(), by_level.means(), strict=True)
            row |= {f"valid_nats_at_{level:.2f}": nats for level, nats in levels if not math.isnan(nats)}
        path = self.out / "metrics.csv"
        fresh = not path.exists()
        with open(path, "a", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
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
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        return {
            "sum": float(self.total),
            "count": self.count,
            "seconds": self.seconds,
            "measured": dict(self.measured),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.total, self.count, self.seconds = (state_dict[k] for k in ("sum", "count", "seconds"))
        self.measured = dict(state_dict.get("measured", {}))
