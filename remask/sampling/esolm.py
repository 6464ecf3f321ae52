"""In an order drawn beforehand, with an exact key-value cache: the sampler of interpolating models (Eso-LM).

Each pass reads the tokens written by the pass before, whose keys and values it keeps, and the masks it is to fill.
So the network reads every position twice in all, however many passes there are, and a pass that fills nothing is not
made. Source: Sahoo et al. 2025, *Esoteric Language Models*.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Family
from remask.families.interpolating import Interpolating
from remask.model.attention import Attention, Padded
from remask.model.cache import KeyValueCache
from remask.sampling.base import Pen, Sampler, Step, Writing
from remask.sampling.guidance import Guided


@dataclass(frozen=True, kw_only=True)
class EsoLM(Sampler):
    """The reverse process on a time grid, then left to right.

    The uniform u of a token says when it is written: in the step in which alpha(t) passes u, and from left to right
    behind all of them if none does. So a step writes a binomial number of tokens, each row its own.
    """

    steps: int = 64
    """Points of the time grid of the diffusion part, from t = 1 to 0."""
    parallel_blocks: int = 0
    """Cut the text in so many parts, and let each step write one token of every part, from its left to its right,
    instead of tokens at random places (block order)."""
    cache: bool = True
    """Keep keys and values. Without, every pass reads all that is known, to the same end."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RemaskError(f"steps is {self.steps}; it must be at least 1")
        if self.parallel_blocks and self.steps != EsoLM.steps:
            raise RemaskError(
                "steps is for random places; with parallel_blocks, one token of each is written at a time"
            )
        if self.parallel_blocks < 0:
            raise RemaskError(f"parallel_blocks is {self.parallel_blocks}; it must be 0 (random places) or more")

    def fits(self, family: Family) -> bool:
        return isinstance(family, Interpolating)

    def fill(self, writing: Writing) -> Iterator[Step]:
        order, turn, diffused = self.plan(writing)
        decoding = Decoding(writing, order, turn, diffused, self.cache)
        for number in range(int(turn.max()) + 1):
            if bool(writing.todo.any()):  # a text may have ended before its canvas
                yield decoding.write(self.pen, number)

    def plan(self, writing: Writing) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L) positions in the order of writing, (B, L) which pass writes each of these, (B,) passes of diffusion.

        Known positions stand in front, with pass -1; what is neither known nor to be written behind, with -2.
        """
        hidden, known = writing.todo, ~writing.masked & writing.canvas.valid
        family, uniform = writing.family, writing.uniforms(hidden)
        assert isinstance(family, Interpolating)
        if self.parallel_blocks:
            uniform = in_parallel(hidden, self.parallel_blocks)
            step = uniform
        else:
            times = torch.linspace(1, 0, self.steps + 1, dtype=torch.float64)[1:]
            passed = torch.tensor([family.alpha(t) for t in times.tolist()], device=uniform.device, dtype=uniform.dtype)
            step = torch.searchsorted(passed, uniform, right=True).double()
        diffused = uniform < family.alpha(0.0)
        step = torch.where(diffused, step, self.steps + torch.arange(hidden.shape[1]).to(uniform))
        order = (
            family.writing_order(hidden, uniform).masked_fill(~known & ~hidden, torch.inf).argsort(dim=1, stable=True)
        )
        step, hidden, known, diffused = (x.gather(1, order) for x in (step, hidden, known, diffused))
        starts = hidden.clone()
        starts[:, 1:] &= (step[:, 1:] != step[:, :-1]) | ~hidden[:, :-1]
        turn = torch.where(hidden, starts.cumsum(1) - 1, torch.where(known, -1, -2))
        return order, turn, (starts & diffused).sum(1)


@dataclass
class Decoding:
    """What the network has read and kept, and what it reads next. A slot is a place in that sequence.

    Rows write different numbers of tokens in a pass; the shorter have holes there, which nobody sees.
    """

    writing: Writing
    order: Tensor
    """(B, L) positions in the order of writing."""
    turn: Tensor
    """(B, L) the pass that writes each of these."""
    diffused: Tensor
    """(B,) how many passes are diffusion's."""
    keeps: bool
    """Whether keys and values are kept."""
    rows: Tensor = field(init=False)
    """(R,) rows that are still being written."""
    slots: Tensor = field(init=False)
    """(R, C) positions of the known tokens in the order of reading."""
    real: Tensor = field(init=False)
    """(R, C) bool, False on holes."""
    front: Tensor = field(init=False)
    """(R,) slots that see each other in variant A: those known, and those written by diffusion."""

    def __post_init__(self) -> None:
        writing, count = self.writing, len(self.order)
        self.rows = torch.arange(count, device=self.order.device)
        self.slots = self.order[:, :0]
        self.real = self.slots.bool()
        self.front = torch.zeros_like(self.rows)
        assert isinstance(writing.family, Interpolating)
        self.family = writing.family
        self.guidance = writing.denoiser if isinstance(writing.denoiser, Guided) else None
        self.denoiser = writing.denoiser if self.guidance is None else self.guidance.denoiser
        counts = torch.stack([(self.turn == i).sum(1).max() for i in range(-1, int(self.turn.max()) + 1)])
        architecture = getattr(self.denoiser, "architecture", None)
        self.used = 0
        branches = 1 if self.guidance is None else 2
        slots = int(counts.sum() + counts.max())
        self.cache = KeyValueCache(architecture.layers, count, slots, branches) if architecture else None

    def write(self, pen: Pen, number: int) -> Step:
        """One pass: reads what is new, and writes what is its turn."""
        writing = self.writing
        self.drop()
        self.learn(*self.block(number - 1), number)
        places, asks = self.block(number)
        logits = self.read(places, asks)
        row, column = self.rows[asks.nonzero()[:, 0]], places[asks]
        chosen = torch.zeros_like(writing.masked)
        chosen[row, column] = True
        uniform = writing.uniforms(chosen)[row, column]
        tokens, log_prob = pen.draw(writing.without_mask(logits), (row, column), uniform)
        writing.evaluations[self.rows[asks.any(1)]] += 1 if self.guidance is None else self.guidance.passes
        text = (row * chosen.shape[1] + column).argsort()
        return writing.put(chosen, tokens[text], log_prob[text])

    def drop(self) -> None:
        """Rows that are complete leave the batch."""
        going = self.writing.todo[self.rows].any(1)
        if bool(going.all()):
            return
        self.rows, self.slots, self.real, self.front = (
            x[going] for x in (self.rows, self.slots, self.real, self.front)
        )
        if self.cache is not None:
            self.cache = self.cache.rows(going.nonzero()[:, 0])

    def block(self, number: int) -> tuple[Tensor, Tensor]:
        """(R, k) positions that belong to a pass, and (R, k) bool, False where a row has fewer."""
        order, mine = self.order[self.rows], self.turn[self.rows] == number
        count = mine.sum(1)
        along = torch.arange(int(count.max()), device=order.device)
        first = mine.int().argmax(1)
        return order.gather(1, (first[:, None] + along).clamp(max=order.shape[1] - 1)), along < count[:, None]

    def learn(self, places: Tensor, real: Tensor, number: int) -> None:
        """Takes the tokens at `places`, (R, k), written before pass `number`, as known."""
        self.slots, self.real = torch.cat([self.slots, places], 1), torch.cat([self.real, real], 1)
        grows = self.diffused[self.rows] >= number
        self.front = torch.where(grows, self.slots.shape[1], self.front)
        again = not self.keeps or (self.family.variant == "A" and bool(grows.any()))
        if self.cache is not None and again:
            self.used = 0

    def read(self, places: Tensor, asks: Tensor) -> Tensor:
        """(N, V) logits at the masks of `places`, (R, k), where `asks`. Their keys and values are not kept."""
        used = self.used if self.cache is not None else 0
        tokens = self.writing.tokens[self.rows].gather(1, self.slots[:, used:])
        tokens = torch.cat([tokens, torch.full_like(places, self.family.mask)], 1)
        positions = torch.cat([self.slots[:, used:], places], 1)
        ask = torch.zeros_like(tokens, dtype=torch.bool)
        ask[:, tokens.shape[1] - places.shape[1] :] = asks
        real, front = torch.cat([self.real, asks], 1), self.front
        if self.guidance is not None:  # the prompt is left out of the second half
            prompt = self.guidance.prompt[self.rows].gather(1, torch.cat([self.slots, places], 1))
            real = torch.cat([real, real & ~prompt])
            tokens, positions, ask, front = (x.repeat(2, *[1] * (x.ndim - 1)) for x in (tokens, positions, ask, front))
        rule: Attention = self.family.front_rule(front)
        if not bool(real.all()):
            rule = rule & Padded(real)
        index = torch.arange(used, used + tokens.shape[1], device=tokens.device).expand(tokens.shape)
        index = None if self.cache is None else index
        logits = self.denoiser(tokens, index=index, ask=ask, attention=rule, positions=positions, cache=self.cache)
        self.used = self.slots.shape[1]
        return logits if self.guidance is None else self.guidance.mixed(*logits.chunk(2))


def in_parallel(hidden: Tensor, parallel_blocks: int) -> Tensor:
    """(B, L) float64 in [0, 1): the hidden positions in so many parts, the i-th of each with the same value."""
    place, count = hidden.cumsum(1) - 1, hidden.sum(1, keepdim=True)
    size = (count + parallel_blocks - 1).div(parallel_blocks, rounding_mode="floor").clamp(min=1)
    return torch.where(hidden, (place % size).double() / size, 0.0)
