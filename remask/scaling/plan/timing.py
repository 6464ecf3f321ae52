"""How long the steps of a study will take on this machine."""

import json
import math
from dataclasses import replace

import torch

from remask import machine
from remask.batch import Batch
from remask.families import Family, describe
from remask.model.sizes import Architecture
from remask.model.transformer import Transformer, initialise
from remask.scaling.plan.ladder import nearest_size
from remask.training.optim import Kind, Optimizer
from remask.training.timing import seconds_per_step

LARGEST = 3e7
"""Parameters without embeddings of the largest network that is timed; larger ones are as fast for each FLOP."""


class Speeds:
    """Seconds of a step: two sizes of each family are timed, and others follow by the power of their FLOPs."""

    def __init__(self, length: int, batch: int, optimizer: Kind = "adamw") -> None:
        self.length, self.batch = length, batch
        self.optimizer: Kind = optimizer
        self._known: dict[str, list[tuple[float, float]]] = {}

    def seconds(self, family: Family, shape: Architecture) -> float:
        """Seconds of one training step of a network."""
        near = nearest_size(LARGEST)
        if replace(shape, time=False).non_embedding > near.non_embedding:
            sizes = {k: getattr(near, k) for k in ("layers", "width", "heads", "kv_heads", "head_width", "ffn")}
            small = replace(shape, **sizes)
            return self.seconds(family, small) * family.flops(shape, self.length) / family.flops(small, self.length)
        name = json.dumps(describe(family))
        flops = family.flops(shape, self.length) * self.length * self.batch
        known = self._known.setdefault(name, [])
        if len(known) < 2 or not known[0][0] / 4 < flops < 4 * known[-1][0]:
            known.append((flops, measure(family, shape, self.batch, self.optimizer)))
            known.sort()
        if len(known) == 1:
            return known[0][1] * flops / known[0][0]
        (x, a), (y, b) = known[0], known[-1]
        power = math.log(b / a) / math.log(y / x) if y > 1.01 * x else 1.0
        return a * (flops / x) ** min(1.0, max(0.2, power))


def measure(family: Family, shape: Architecture, batch: int, optimizer: Kind = "adamw") -> float:
    """Seconds of a training step on random tokens, not compiled."""
    model, random = Transformer(shape), torch.Generator().manual_seed(0)
    initialise(model, "smdm", random)
    tokens = torch.randint(0, shape.predicted, (batch, shape.context), generator=random)
    rows = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    return seconds_per_step(model, family, rows, Optimizer(kind=optimizer, lr=1e-3), bf16=machine.fast_bf16("cpu"))
