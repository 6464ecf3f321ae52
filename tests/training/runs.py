"""What the tests of training share: a run that is stopped in a step, and readings of run directories."""

import csv
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import killing
import pytest
import torch

import remask
from remask.batch import Batch
from remask.checkpoints.checkpoint import open_checkpoint
from remask.errors import Interrupted
from remask.families import Denoiser, Loss
from remask.families.masked import Masked
from remask.training.states import list_states


@dataclass(frozen=True, kw_only=True)
class Stopping(Masked):
    """Masked, with a Ctrl-C in the middle of a step."""

    left: ClassVar[int | None] = None
    """How many steps until the signal comes."""
    seed: ClassVar[int] = -1
    """Of the last step's noise, by which a step is known from the micro-batches of one."""

    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        if Stopping.left is not None and rng.initial_seed() != Stopping.seed:
            Stopping.seed, Stopping.left = rng.initial_seed(), Stopping.left - 1
            if not Stopping.left:
                Stopping.left = None
                signal.raise_signal(signal.SIGINT)
        return super().loss(denoiser, batch, rng)


@contextmanager
def stopped_at(step: int, start: int = 0) -> Iterator[None]:
    """A run that goes on from step `start` gets a Ctrl-C in `step`."""
    Stopping.left = step - start
    try:
        with pytest.raises(Interrupted, match=rf"stopped at step {step} of .*the same command goes on"):
            yield
    finally:
        Stopping.left = None


def metrics(out: Path) -> list[dict[str, str]]:
    with open(out / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def column(out: Path, name: str) -> list[float]:
    return [float(row[name]) for row in metrics(out) if row[name]]


def assert_same_run(one: Path, two: Path) -> None:
    """Weights, optimiser, average and schedule of the last training state, and the published weights."""
    assert killing.same(killing.weights(one), killing.weights(two))
    a, b = (torch.load(list_states(out)[0], weights_only=True) for out in (one, two))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "remask"):
        torch.testing.assert_close(a[part], b[part], rtol=0, atol=0)


def assert_adapted(base: Path, out: Path, targets: set[str]) -> None:
    """The merged weights of a run differ from those of its base in these layers alone, and its adapters make them."""
    before, after = open_checkpoint(base).tensors, open_checkpoint(out).tensors
    assert {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])} == targets
    apart = remask.load(out / "adapter", device="cpu").model.state_dict()
    for name in after:
        torch.testing.assert_close(apart[name], after[name])


def wait_for(what: Callable[[], bool], process: Any, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert process.exitcode is None and time.monotonic() < until
        time.sleep(0.005)


def losses(out: Path) -> list[float]:
    return [float(x) for x in column(out, "loss") if x]
