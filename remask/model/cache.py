"""Keys and values of positions that will not change, kept between forwards."""

from torch import Tensor


class Cache:
    """A growing key-value cache of causal attention, preallocated for `length` positions.

    One pair of (B, G, length, d) tensors per layer; `used` positions are filled. `append` writes the
    new positions behind them and returns all that is filled. The model advances `used` once per
    forward, after its last layer.
    """

    def __init__(self, layers: int, length: int) -> None:
        self.length = length
        self.used = 0
        self._pairs: list[tuple[Tensor, Tensor] | None] = [None] * layers

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Stores (B, G, Q, d) keys and values of a layer; returns those of all positions so far."""
        pair = self._pairs[layer]
        if pair is None:
            shape = (k.shape[0], k.shape[1], self.length, k.shape[3])
            pair = self._pairs[layer] = (k.new_empty(shape), v.new_empty(shape))
        end = self.used + k.shape[2]
        pair[0][:, :, self.used : end] = k
        pair[1][:, :, self.used : end] = v
        return pair[0][:, :, :end], pair[1][:, :, :end]

    def rewind(self, count: int) -> None:
        """Forgets the last `count` positions."""
        self.used -= count

    def keep(self, rows: Tensor) -> None:
        """Drops all batch rows but these."""
        self._pairs = [None if p is None else (p[0][rows], p[1][rows]) for p in self._pairs]

    def bytes(self) -> int:
        """Memory held."""
        return sum(t.numel() * t.element_size() for p in self._pairs if p for t in p)
