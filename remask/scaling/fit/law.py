"""The parametric scaling law as a function: L(N, D) = E + A/N^alpha + B/D^beta (Hoffmann et al. 2022)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Surface:
    """L = E + A/N^alpha + B/D^beta in nats a token, of N parameters without embeddings trained on D tokens."""

    e: float
    a: float
    b: float
    alpha: float
    beta: float

    def __call__(self, n: Array | float, d: Array | float) -> Array:
        """Nats per token of N parameters trained on D tokens."""
        return self.e + self.a * np.asarray(n, float) ** -self.alpha + self.b * np.asarray(d, float) ** -self.beta

    @property
    def size_exponent(self) -> float:
        """The best N grows as C to this power."""
        return self.beta / (self.alpha + self.beta)

    def best(self, c: float) -> tuple[float, float, float]:
        """(N, D, loss) of least loss at C = 6 N D."""
        g = (self.alpha * self.a / (self.beta * self.b)) ** (1 / (self.alpha + self.beta))
        n = g * (c / 6) ** self.size_exponent
        d = c / 6 / n
        return n, d, float(self(n, d))
