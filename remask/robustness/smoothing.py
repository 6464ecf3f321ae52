"""How texts are masked for a vote over copies of them (`remask.robustness.voting`), and how many copies there are.

These are options of `remask classify`, so that nothing heavy is imported here.
"""

from dataclasses import dataclass

from remask.errors import RemaskError


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """How texts are masked and filled in, and how many votes there are."""

    rate: float = 0.7
    """Share of the tokens of a text that each copy hides."""
    votes: int = 50
    """Copies that vote for a label."""
    draws: int = 500
    """Further copies, by which the probability of that label is bounded for a certificate."""
    alpha: float = 0.05
    """The probability, for each text, with which a certificate may be wrong."""
    steps: int = 4
    """Steps in which the hidden tokens of a copy are filled in."""

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise RemaskError(f"rate is {self.rate}; it must be above 0 and at most 1")
        for name in ("votes", "draws", "steps"):
            if getattr(self, name) < 1:
                raise RemaskError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.alpha < 1:
            raise RemaskError(f"alpha is {self.alpha}; it must lie between 0 and 1")

    def kept(self, length: int) -> int:
        """Tokens that a copy of a text of `length` tokens keeps: a function of the length alone, which no attack
        changes. At least one token is hidden."""
        return length - max(1, round(self.rate * length))
