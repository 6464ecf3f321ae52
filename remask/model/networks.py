"""The networks by the names that config.json gives them: how one is built, and the shapes of its parameters."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from remask.model.dit import DiT, DiTArchitecture
from remask.model.sizes import Architecture
from remask.model.transformer import Transformer

NETWORKS: dict[str, tuple[type[Architecture], Callable[[Any], nn.Module]]] = {
    "Transformer": (Architecture, Transformer),
    "DiT": (DiTArchitecture, DiT),
}


def network(a: Architecture) -> Any:
    """Builds the network of an architecture without initialising its weights."""
    (build,) = (make for kind, make in NETWORKS.values() if kind is type(a))
    return build(a)


@lru_cache(maxsize=8)
def shapes(a: Architecture) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter; a tied head is not listed a second time."""
    with torch.device("meta"):
        return {name: tuple(p.shape) for name, p in network(a).named_parameters()}
