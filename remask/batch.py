"""The batch that the data loader hands to a family: clean rows of tokens, and their place in the global batch."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from remask.model.attention import FULL, Attention, Segments
from remask.uniforms import uniforms


@dataclass(frozen=True)
class Batch:
    """Clean rows of tokens, and their place in the global batch."""

    tokens: Tensor
    """(B, L) int64, clean."""
    scored: Tensor
    """(B, L) bool; False on prompts and padding: never noised, never in a loss."""
    segments: Tensor | None = None
    """(B, L) int64 number of the piece a position belongs to; pieces do not see each other."""
    attention: Attention = FULL
    """A rule that applies in addition to the family's own, such as `Padded`."""
    weights: Tensor | None = None
    """(B, L) float32 weight of each token in the loss, besides that of its noise; None: 1 for all."""
    offset: int = 0
    """Index of the first row in the global batch, of which this is one process's share."""
    global_rows: int | None = None
    """Rows of the global batch; None: these rows are the whole batch."""
    global_tokens: int | None = None
    """Scored tokens of the global batch; None: these rows are the whole batch."""
    progress: float = 1.0
    """Share of the training that is done, for objectives that change during training."""

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return replace(
            self,
            tokens=self.tokens.to(device),
            scored=self.scored.to(device),
            segments=None if self.segments is None else self.segments.to(device),
            attention=self.attention.to(device),
            weights=None if self.weights is None else self.weights.to(device),
        )

    def at(self, index: Tensor) -> "Batch":
        """The rows `index`, (n,). Noise must be drawn before: afterwards `draw` would give that of the first rows."""
        return replace(
            self,
            tokens=self.tokens[index],
            scored=self.scored[index],
            segments=None if self.segments is None else self.segments[index],
            attention=self.attention.rows(index),
            weights=None if self.weights is None else self.weights[index],
        )

    def draw(self, per_row: tuple[int, ...], rng: "Noise", dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniforms in [0, 1) of shape (B, *per_row): this share of what the global batch draws.

        Every process draws for the whole global batch from the same generator and keeps its own
        rows. So noise differs between processes, and does not depend on how many there are.
        """
        rows = self.tokens.shape[0]
        if isinstance(rng, RowNoise):
            return rng.draw(per_row).to(dtype).clamp(max=1 - torch.finfo(dtype).eps / 2).to(self.tokens.device)
        every = torch.rand(self.global_rows or rows, *per_row, generator=rng, device=rng.device, dtype=dtype)
        return every[self.offset : self.offset + rows].to(self.tokens.device)

    def levels(self, rng: "Noise") -> Tensor:
        """(B,) noise levels in [0, 1), stratified over the global batch, in random order.

        u_j = (u + j) / n for a random order of the n rows: each level is uniform, together they
        cover the unit interval evenly (Kingma et al. 2021, appendix I), and no process is left
        with a narrow band of them.
        """
        if isinstance(rng, RowNoise):
            return self.draw((), rng)
        rows = self.tokens.shape[0]
        return strata(self.global_rows or rows, rng)[self.offset : self.offset + rows].to(self.tokens.device)

    def weigh(self, weight: Tensor) -> Tensor:
        """(B,) weights of the rows, or (B, L) of the positions already -> (B, L), those of the tokens included."""
        weight = weight if weight.ndim == 2 else weight[:, None].expand(self.tokens.shape)
        return weight if self.weights is None else weight * self.weights

    def starts(self) -> Tensor:
        """(B, L) bool, True where a text begins: the first position of a row, or of a segment."""
        first = torch.zeros_like(self.scored)
        first[:, 0] = True
        if self.segments is not None:
            first[:, 1:] = self.segments[:, 1:] != self.segments[:, :-1]
        return first

    def positions(self) -> Tensor | None:
        """(B, L) rotary positions that start anew in each segment; None without segments."""
        if self.segments is None:
            return None
        steps = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        return steps - torch.where(self.starts(), steps, 0).cummax(1).values

    def visible(self, own: Attention) -> Attention:
        """The family's own attention rule, narrowed by the segments and padding of these rows."""
        seen = own & self.attention
        return seen if self.segments is None else seen & Segments(self.segments)


@dataclass
class RowNoise:
    """Noise of rows that each have a seed of their own: it does not depend on what shares the batch, nor on padding."""

    seeds: Tensor
    """(B,) int64."""
    draws: int = 0
    """How often the rows have drawn so far."""

    def draw(self, per_row: tuple[int, ...]) -> Tensor:
        """(B, *per_row) float64 in [0, 1). A longer row begins with the numbers of a shorter one."""
        numbers = uniforms(self.seeds, torch.full_like(self.seeds, self.draws), math.prod(per_row))
        self.draws += 1
        return numbers.view(len(self.seeds), *per_row)


Noise = torch.Generator | RowNoise
"""Where noise comes from: one generator for the global batch, or a seed for each row."""


def strata(n: int, rng: torch.Generator) -> Tensor:
    """(n,) levels (u + j)/n in [0, 1), in random order."""
    offset = torch.rand((), generator=rng, device=rng.device, dtype=torch.float64)
    order = torch.randperm(n, generator=rng, device=rng.device)
    return ((order + offset) / n).float().clamp(max=1 - 2**-24)
