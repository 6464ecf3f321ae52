"""The moving average of the weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import killing
import torch
from torch import Tensor

from remask.batch import Batch
from remask.families import Denoiser, Loss
from remask.families.masked import Masked
from remask.training.states import list_states

Fit = Callable[..., Path]


@dataclass(frozen=True, kw_only=True)
class Watched(Masked):
    """Masked, remembering the weights at the start of each step."""

    seen: ClassVar[list[dict[str, Tensor]]] = []

    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        assert isinstance(denoiser, torch.nn.Module)
        self.seen.append({k: v.clone() for k, v in denoiser.state_dict().items()})
        return super().loss(denoiser, batch, rng)


def test_the_average_is_published(fit: Fit, tmp_path: Path) -> None:
    Watched.seen.clear()
    fit(tmp_path, steps=25, ema=0.8, family=Watched())
    last = torch.load(list_states(tmp_path)[0], weights_only=True)["state_dict"]
    weights = [*Watched.seen, {k.removeprefix("denoiser."): v for k, v in last.items()}]
    assert len(weights) == 26
    average = {k: v.double() for k, v in weights[0].items()}
    for step, live in enumerate(weights[1:], 1):
        decay = min(0.8, (1 + step) / (10 + step))  # a short memory at first
        average = {k: decay * v + (1 - decay) * live[k].double() for k, v in average.items()}
    published = killing.weights(tmp_path)
    assert published.keys() == average.keys()
    for name, weight in published.items():
        torch.testing.assert_close(weight.double(), average[name], rtol=1e-5, atol=1e-6)
        assert not torch.equal(weight, weights[-1][name]) or "norm" in name
