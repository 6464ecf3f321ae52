"""The networks by the name that a config.json gives them, and what an architecture makes of them."""

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
    """The network of an architecture, its weights not filled."""
    (build,) = (make for kind, make in NETWORKS.values() if kind is type(a))
    return build(a)


@lru_cache(maxsize=8)
def shapes(a: Architecture) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter, a tied head not among them."""
    with torch.device("meta"):
        return {name: tuple(p.shape) for name, p in network(a).named_parameters()}
