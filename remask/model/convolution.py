"""Short depthwise convolutions over the neighbours of a position, as far as the attention rule lets it see them.

On a row of masks all queries of attention are alike, so heads that look at neighbours are found late, and a network
learns little beyond unigrams until then. A convolution gives every position its neighbours from the first step:

    y_i = x_i + sum over offsets o != 0, |o| <= R, of w_o * x_(i + o), where position i may see position i + o.

Neighbours are counted on the text, not in the order in which the network reads: of a permuted row, or of a clean and a
noisy copy of it, the neighbour is the copy that the rule shows. So a causal network sees those to the left, and none
sees across segments.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from remask.model.attention import Attention, Causal, Full
from remask.model.cache import Cache
from remask.model.eager import ShortConvolution, by_blocks


@dataclass(frozen=True)
class Neighbours:
    """Which inputs the convolutions of a call combine; the same in every layer."""

    causal: bool = False
    """Whether only those to the left, where `at` is None."""
    at: Tensor | None = None
    """(B, Q, 2 R) int64, where in the inputs at hand the neighbour of each offset stands; -1 for none. None: the
    inputs are in the order of the text and see each other, or only those to the left."""


def find_neighbours(
    rule: Attention,
    width: int,
    rows: int,
    queries: Tensor,
    keys: Tensor | None,
    places: Tensor,
    mask: Tensor | None = None,
) -> Neighbours:
    """The neighbours of each query.

    Arguments:
        rule: which position may see which.
        width: 2 R + 1, positions that the convolution covers.
        rows: B.
        queries: positions of the tokens that are read, as the rule counts them, (Q,) or (B, Q); -1 for a hole.
        keys: positions of the keys, (K,), also on the text; None: the keys are the tokens that are read.
        places: positions on the text of the tokens that are read, (Q,) or (B, Q).
        mask: the mask of the rule, (B or 1, 1, Q, K), where it is at hand.
    """
    if places is queries and queries.ndim == 1 and keys is None and isinstance(rule, Full | Causal):
        return Neighbours(causal=isinstance(rule, Causal))
    seen = rule.mask(rows, queries, keys) if mask is None else mask
    apart = (places if keys is None else keys)[..., None, :] - places[..., :, None]  # (Q, K) or (B, Q, K)
    found = []
    for offset in offsets(width):
        is_neighbour = apart == offset if seen is None else (apart == offset) & seen[:, 0]
        there, at = is_neighbour.byte().max(-1)
        found.append(torch.where(there.bool(), at, -1))
    at = torch.stack(found, -1)
    if queries.ndim == 2:
        at = at.masked_fill((queries < 0)[..., None], -1)
    return Neighbours(at=at.expand(rows, -1, -1))


def offsets(width: int) -> list[int]:
    """-R to R without 0."""
    return [offset for offset in range(-(width // 2), width // 2 + 1) if offset]


class Convolution(nn.Module):
    """A depthwise convolution of the neighbours, which is added to its input."""

    def __init__(self, width: int, channels: int, slot: int) -> None:
        """`slot` is the number under which a cache keeps the inputs of this convolution."""
        super().__init__()
        self.slot = slot
        self.weight = nn.Parameter(torch.empty(width - 1, channels))
        """One row for each offset from -R to R, without 0."""

    def forward(
        self, x: Tensor, neighbours: Neighbours | None, index: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """(B, Q, D) -> (B, Q, D). With a cache, `index` (B, Q) are the canvas positions of the inputs."""
        assert neighbours is not None
        reach = len(self.weight) // 2
        if neighbours.at is None and by_blocks(x):
            return ShortConvolution.apply(x, self.weight, neighbours.causal)
        weight = self.weight.to(x.dtype)
        if neighbours.at is None:
            size = x.shape[1]
            padded = nn.functional.pad(x, (0, 0, reach, 0 if neighbours.causal else reach))
            y = x
            for number, offset in enumerate(offsets(2 * reach + 1)):
                if offset < 0 or not neighbours.causal:
                    y = y + weight[number] * padded[:, reach + offset : reach + offset + size]
            return y
        known = x if cache is None or index is None else cache.update_hidden(self.slot, index, x)
        y, places, there = x, neighbours.at.clamp(min=0), neighbours.at >= 0
        for number in range(2 * reach):
            y = y + weight[number] * (pick(known, places[..., number]) * there[..., number, None])
        return y


def pick(x: Tensor, at: Tensor) -> Tensor:
    """(B, K, D) and places (B, Q) -> (B, Q, D): by the operation whose backward pass is fast, in training."""
    row = torch.arange(len(x), device=x.device)[:, None]
    if not x.requires_grad:  # the memory of a cache is not copied
        return x[row, at]
    return x.flatten(0, 1).index_select(0, (row * x.shape[1] + at).flatten()).view(*at.shape, x.shape[2])
