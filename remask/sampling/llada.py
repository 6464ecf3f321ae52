"""LLaDA's `generate.py`, by its own rules: draw everywhere in a block, keep what was drawn with the most confidence.

Here the choice follows the token drawn; in `Confidence` it comes first. At temperature 0 the two agree. Two
faults of the published code are not kept: guidance without an attention mask works, and the second end-of-text flag
holds for both tokens at every temperature. Source: Nie et al. 2025 and generate.py of ML-GSAI/LLaDA (October 2025).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from remask.errors import RemaskError, unknown
from remask.sampling.base import Sampler, Step, Writing, largest

Remasking = Literal["low_confidence", "random"]


@dataclass(frozen=True, kw_only=True)
class LLaDA(Sampler):
    """Blocks from left to right, each with an equal share of the steps, and each step with an equal share of the
    block's masks (the remainder in the first steps). Rows of a batch do not see each other's counts."""

    steps: int | None = None
    """Over the whole text; None writes one token a step."""
    block: int | None = None
    """Open positions of a block; None takes the whole text as one."""
    remasking: Remasking = "low_confidence"
    """What is kept of a step's draws: the most probable, or any."""
    never_end: bool = False
    """Never write the end-of-text token (`logits_eos_inf`)."""
    late_end: bool = False
    """Write end-of-text and end-of-turn tokens last (`confidence_eos_eot_inf`)."""

    def __post_init__(self) -> None:
        for name in ("steps", "block"):
            if (given := getattr(self, name)) is not None and given < 1:
                raise RemaskError(f"{name} is {given}; it must be at least 1")
        if self.remasking not in get_args(Remasking):
            raise unknown("remasking", self.remasking, get_args(Remasking))

    @property
    def chooses_first(self) -> bool:
        return self.remasking == "random"

    def fill(self, writing: Writing) -> Iterator[Step]:
        vocabulary = writing.family.vocabulary
        if (self.never_end or self.late_end) and vocabulary.end is None:
            raise RemaskError("never_end and late_end need a vocabulary with an end-of-text id")
        listed = [i for i in (vocabulary.end, vocabulary.end_of_turn) if i is not None]
        ends = torch.tensor(listed, dtype=torch.int64, device=writing.tokens.device)
        outer, open_ = writing.focus, writing.todo
        length = open_.sum(1).clamp(min=1)  # (B,): each row has its own blocks and its own share of the steps
        size = length if self.block is None else length.clamp(max=self.block)
        blocks = -(-length // size)
        share = -(-(length if self.steps is None else torch.full_like(length, self.steps)) // blocks)
        block = (open_.cumsum(1) - 1) // size[:, None]
        for number in range(int(blocks.max())):
            writing.focus = open_ & (block == number)
            yield from self._block(writing, share, ends)
        writing.focus = outer

    def _block(self, writing: Writing, steps: Tensor, ends: Tensor) -> Iterator[Step]:
        """One block in `steps` (B,) steps."""
        start = writing.todo.sum(1)
        for i in range(int(steps.max())):
            todo = writing.todo
            count = torch.minimum(start // steps + (i < start % steps), todo.sum(1))
            asked = todo & (count > 0)[:, None]
            if not bool(asked.any()):
                continue
            if self.remasking == "random":  # needs no prediction: ask only what is written
                chosen = largest(writing.uniforms(asked), asked, count)
                yield writing.write(self.pen, chosen, self.allowed(writing.predict(chosen), ends))
                continue
            logits = self.allowed(writing.predict(asked), ends)
            tokens, log_prob = writing.draft(self.pen, asked, logits)
            judged = logits.index_fill(-1, ends, -torch.inf) if self.late_end else logits
            scores = (judged.gather(-1, tokens[:, None])[:, 0] - judged.logsumexp(-1)).exp()
            yield writing.keep(asked, count, scores, (tokens, log_prob))

    def allowed(self, logits: Tensor, ends: Tensor) -> Tensor:
        """(N, V) logits without what is never to be written."""
        return logits.index_fill(-1, ends[:1], -torch.inf) if self.never_end else logits
