"""Where the tokens of a network call stand on the canvas, and what they see: worked out once, used in every layer."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from remask.model.attention import Attention
from remask.model.cache import Cache
from remask.model.convolution import Neighbours, find_neighbours
from remask.model.rendering import Rendered, render
from remask.model.rotary import rotary
from remask.model.sizes import Architecture
from remask.model.soft import Soft


@dataclass(frozen=True)
class Reading:
    """What the layers need to know of a call, besides its hidden states."""

    table: tuple[Tensor, Tensor]
    """Cosines and sines of the rotary positions."""
    attend: Rendered
    """The attention rule in the form of a kernel."""
    neighbours: Neighbours | None = None
    """What short convolutions combine; None in a network that has none."""
    index: Tensor | None = None
    """(B, Q) canvas positions of the tokens read; None where neither a cache nor a partial read needs them."""
    cache: Cache | None = None
    """What was kept of earlier calls."""


LAST_HIDDEN = -1
"""Where a cache keeps last hidden states, beside the inputs of the convolutions (`Convolution.slot`, from 0)."""


def locate(
    a: Architecture,
    tokens: Tensor | Soft,
    index: Tensor | None,
    attention: Attention,
    positions: Tensor | None,
    cache: Cache | None,
) -> tuple[Tensor, Reading]:
    """The rotary positions of the (B, Q) tokens of a call, and what the layers need to know of it."""
    rows, size = tokens.shape[:2]
    along = torch.arange(size, device=tokens.device)
    in_order = index is None and cache is None
    if cache is not None and index is None:
        index = along.expand(rows, size)
    if positions is None:
        positions = along if index is None else index.clamp(min=0)
    queries = along if index is None else index
    keys = None if cache is None else torch.arange(cache.extent(queries), device=tokens.device)
    attend = render(attention, rows, queries, keys, in_order=in_order)
    if cache is not None and cache.rollout is not None:
        cache.rollout.begin(queries)
        attend = replace(attend, rollout=cache.rollout)
    neighbours = None
    if a.convolution:
        # keys of a cache are known by their canvas positions alone, so neighbours are counted on the canvas there
        places = positions if cache is None else queries
        neighbours = find_neighbours(attention, a.convolution, rows, queries, keys, places, attend.mask)
    return positions, Reading(rotary(a, positions), attend, neighbours, index, cache)
