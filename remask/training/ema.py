"""An exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import lightning
from torch import Tensor, nn

from remask.training.module import Module
from remask.training.sharding import gather, local, spread_like


class EMA(lightning.Callback):
    """An exponential moving average of the weights; it is what is published, validated and sampled."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {}
        self.steps = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        live = cast(Module, pl_module).denoiser.state_dict()
        start = self.weights or live
        self.weights = {name: spread_like(start[name].detach(), one).clone() for name, one in live.items()}

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        if trainer.global_step == self.steps:
            return
        self.steps = trainer.global_step
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))  # a short memory at first
        live = cast(Module, pl_module).denoiser.state_dict()
        for name, weight in self.weights.items():
            local(weight).lerp_(local(live[name]), 1 - decay)

    @contextmanager
    def applied(self, denoiser: nn.Module) -> Iterator[None]:
        """For a while, the network has the averaged weights."""
        live = {name: weight.clone() for name, weight in denoiser.state_dict().items()}
        denoiser.load_state_dict(self.weights)
        try:
            yield
        finally:
            denoiser.load_state_dict(live)

    def state_dict(self) -> dict[str, Any]:
        return {"weights": {name: gather(weight) for name, weight in self.weights.items()}, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.weights, self.steps = state_dict["weights"], state_dict["steps"]


def published_weights(average: EMA | None, denoiser: nn.Module) -> AbstractContextManager[None]:
    """A context in which the network has the weights that are published: their moving average, where one is kept."""
    return average.applied(denoiser) if average else nullcontext()
