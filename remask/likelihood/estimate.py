"""The answer: -log p, exact or a bound, with its standard error."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["exact", "bound"]


@dataclass(frozen=True)
class Estimate:
    """-log p of one text or of several together, in nats."""

    nats: float
    """The value; where `kind` is "bound", an upper bound on -log p."""
    stderr: float
    """Standard error of the Monte Carlo mean; 0 where nothing was drawn, nan where one draw shows no error."""
    kind: Kind
    tokens: int
    """Scored tokens."""
    bytes: int = 0
    """UTF-8 bytes of the text; 0 where unknown."""
    of: str = ""
    """Name of the distribution, where it is not the model's own."""
    draws: int = 0
    """Copies of the text that were scored; 0 where unknown."""

    @property
    def nats_per_token(self) -> float:
        """Nats per scored token."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of text; nan where the bytes are unknown."""
        return self.nats / math.log(2) / self.bytes if self.bytes else math.nan

    @property
    def bits_per_byte_stderr(self) -> float:
        """Standard error of `bits_per_byte`."""
        return self.stderr / math.log(2) / self.bytes if self.bytes else math.nan

    def __str__(self) -> str:
        sign = "=" if self.kind == "exact" else "<="
        error = "" if self.stderr == 0 else f" +- {self.bits_per_byte_stderr:.4f}"
        return f"{sign} {self.bits_per_byte:.4f}{error} bits/byte"

    @staticmethod
    def total(estimates: Iterable["Estimate"]) -> "Estimate":
        """The estimate of several texts together.

        Errors add in squares, which holds where the texts have noise of their own: not for requests of equal content or
        of one `noise_key`, whose errors are tied.
        """
        parts = list(estimates)
        return Estimate(
            nats=math.fsum(p.nats for p in parts),
            stderr=math.sqrt(math.fsum(p.stderr**2 for p in parts)),
            kind="exact" if all(p.kind == "exact" for p in parts) else "bound",
            tokens=sum(p.tokens for p in parts),
            bytes=sum(p.bytes for p in parts),
            of=parts[0].of if parts else "",
            draws=sum(p.draws for p in parts),
        )
