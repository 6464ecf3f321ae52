"""How drafts are revised (`remask.robustness.revising`).

These are options of `remask revise`, so that nothing heavy is imported here.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from remask.errors import RemaskError, unknown

Choice = Literal["certainty", "random"]


@dataclass(frozen=True, kw_only=True)
class Revision:
    """How drafts are revised."""

    share: float = 0.3
    """Share of the tokens of a draft that are hidden and written anew in each round."""
    choose: Choice = "certainty"
    """Which ones: certainty, those that are least probable given all others; or random."""
    rounds: int = 1
    """How often; each round revises what the one before it has made."""
    temperature: float = 0.0
    """Divides the logits before each draw; 0 writes the most probable token."""
    seed: int = 0
    """Seed of what is drawn."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise RemaskError(f"share is {self.share}; it must be above 0 and at most 1")
        if self.choose not in get_args(Choice):
            raise unknown("choose", self.choose, get_args(Choice))
        if self.rounds < 1:
            raise RemaskError(f"rounds is {self.rounds}; it must be at least 1")
