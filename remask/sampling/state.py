"""Rows of text that are being written, and all that a sampler knows about them between two steps.

The first dimension of every field is the row. So rows can leave, join and be reordered between any two steps, and the
text of a row depends on its own prompt, options and seed only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from remask.families.base import Family
from remask.sampling import drawing
from remask.sampling.constraints import Constraint, kept_together
from remask.sampling.params import SamplingParams
from remask.uniforms import uniforms, uniforms_at

CERTAINTY = "certainty"
"""(B, L) float64 in `State.extras`: the highest probability that was last predicted at each position, where a policy or
a constraint goes by it."""


@dataclass(frozen=True)
class Canvas:
    """Rows of tokens with open positions, which a sampler fills. In infilling, given text stands around them."""

    tokens: Tensor
    """(B, L) int64; the ids at open positions are not read."""
    open: Tensor
    """(B, L) bool, True where a sampler is to write."""
    valid: Tensor
    """(B, L) bool, False on the padding after the end of a row."""

    @staticmethod
    def of(rows: Sequence[Sequence[int | None]], device: Any = None) -> "Canvas":
        """A canvas from rows of ids with None at the open positions; shorter rows are padded at their end."""
        length = max(map(len, rows))
        filled = [[0 if i is None else i for i in row] + [0] * (length - len(row)) for row in rows]
        open_ = [[i is None for i in row] + [False] * (length - len(row)) for row in rows]
        valid = [[True] * len(row) + [False] * (length - len(row)) for row in rows]
        return Canvas(*(torch.tensor(x, device=device) for x in (filled, open_, valid)))


@dataclass
class State:
    """Rows being written, B of them on a canvas of L positions. `remask.sampling.start` makes one."""

    tokens: Tensor
    """(B, L) int64, the mask id where nothing is written yet."""
    open: Tensor
    """(B, L) bool, positions that are to be written or have been written; False on given text."""
    masked: Tensor
    """(B, L) bool, positions that are still to be written."""
    valid: Tensor
    """(B, L) bool, False on the padding after the end of a row."""
    confidence: Tensor
    """(B, L) float32, the probability with which each token was written; 1 on given text, 0 where masked."""
    cached: Tensor
    """(B, L) bool, positions whose keys and values are in the cache and need not be computed again."""
    blocks: Tensor
    """(B, L) int64, number of the block that an open position belongs to; -1 elsewhere."""
    step: Tensor
    """(B,) int64, steps done in the current block."""
    block: Tensor
    """(B,) int64, number of the current block."""
    calls: Tensor
    """(B,) int64, network passes over the row; with guidance each call makes two."""
    log_prob: Tensor
    """(B,) float64 nats, log-probability of what has been written."""
    seed: Tensor
    """(B,) int64, the seed of each row's random draws."""
    draws: Tensor
    """(B,) int64, how many times the row has drawn uniforms."""
    end: Tensor
    """(B,) int64, the end-of-text id that ends a row; -1: none does."""
    finished: Tensor
    """(B,) bool, rows that are complete."""
    params: tuple[SamplingParams, ...]
    """The options of each row as `loop.resolve` returns them: the sampler is a `Sampler`, and the number of steps is
    that of one block."""
    forced: Tensor | None = None
    """(B, L) int64, a text that is written in place of the tokens drawn. `log_prob` is then its log-probability."""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """What a sampler needs to remember between steps; the first dimension is the row."""
    constraints: tuple[tuple[Constraint, ...], ...] = ()
    """Of each row, what may be written in it."""

    # rows

    def rows(self, index: Tensor) -> "State":
        """A copy of the rows `index`, in that order."""
        changed = self._with(lambda x: x[index])
        params, constraints = (tuple(x[i] for i in index.tolist()) for x in (self.params, self.constraints))
        return replace(changed, params=params, constraints=constraints)

    def join(self, other: "State") -> "State":
        """The rows of this state, then those of the other; shorter canvases are padded."""
        length = max(self.tokens.shape[1], other.tokens.shape[1])
        mine, theirs = self._widen(length), other._widen(length)
        names = {*mine.extras, *theirs.extras}
        extras = {}
        for name in names:
            one, two = mine.extras.get(name), theirs.extras.get(name)
            one = two.new_zeros(len(mine.params), *two.shape[1:]) if one is None and two is not None else one
            two = one.new_zeros(len(theirs.params), *one.shape[1:]) if two is None and one is not None else two
            assert one is not None and two is not None
            shape = [max(sizes) for sizes in zip(one.shape[1:], two.shape[1:], strict=True)]
            extras[name] = torch.cat([pad_to(one, shape), pad_to(two, shape)])
        if (mine.forced is None) != (theirs.forced is None):
            raise ValueError("rows with a forced text and rows without one cannot share a state")
        return replace(
            mine,
            **{name: torch.cat([getattr(mine, name), getattr(theirs, name)]) for name in mine._tensors()},
            params=(*mine.params, *theirs.params),
            constraints=(*mine.constraints, *theirs.constraints),
            extras=extras,
        )

    @torch.inference_mode()
    def put(self, index: Tensor, rows: "State") -> None:
        """Writes back the rows that `rows(index)` copied."""
        for name in self._tensors():
            mine, theirs = getattr(self, name), getattr(rows, name)
            if mine.ndim == 2:
                mine[index, : theirs.shape[1]] = theirs
            else:
                mine[index] = theirs
        for name, theirs in rows.extras.items():
            self.extras[name][index] = pad_to(theirs, self.extras[name].shape[1:])

    def _tensors(self) -> list[str]:
        return [f.name for f in fields(self) if isinstance(getattr(self, f.name), Tensor)]

    def _with(self, change: Callable[[Tensor], Tensor]) -> "State":
        changed = {name: change(getattr(self, name)) for name in self._tensors()}
        return replace(self, **changed, extras={name: change(x) for name, x in self.extras.items()})

    def _widen(self, length: int) -> "State":
        more = length - self.tokens.shape[1]
        wide = self._with(lambda x: pad(x, (0, more)) if x.ndim == 2 else x)
        return replace(wide, blocks=pad(self.blocks, (0, more), value=-1))

    # what may be written, and with which draws

    @property
    def active(self) -> Tensor:
        """(B, L) bool: the masked positions of the current block."""
        return self.masked & (self.blocks == self.block[:, None])

    @property
    def steps(self) -> int:
        """Steps of one block, the same for all rows that a sampler sees at once; 0 where it needs no number."""
        return self.params[0].steps or 0

    @property
    def block_size(self) -> Tensor:
        """(B,) number of open positions in the current block, written or not."""
        return (self.blocks == self.block[:, None]).sum(1)

    def option(self, name: str) -> float | Tensor:
        """The values of a numeric option, (B,), or a single number where all rows have the same."""
        values = [getattr(params, name) for params in self.params]
        if len(set(values)) == 1:
            return values[0]
        kind = torch.float64 if any(isinstance(x, float) for x in values) else torch.int64
        return torch.tensor(values, dtype=kind, device=self.tokens.device)

    def uniforms(self, where: Tensor) -> Tensor:
        """(B, L) float64 in [0, 1). Rows with a position in `where`, (B, L) bool, advance to their next draw."""
        return uniforms(self.seed, self.next_draw(where), where.shape[1])

    def next_draw(self, where: Tensor) -> Tensor:
        """(B,) int64, the number of each row's draw; counts one for rows with a position in `where`, (B, L) bool."""
        number = self.draws
        self.draws = number + where.any(1)
        return number

    def draw(self, asked: Tensor, logits: Tensor, greedy: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draws a token for each asked position, (B, L) bool, from (N, V) logits, without writing it.

        Returns (N,) tokens and their (N,) float64 log-probabilities under the temperature, top-k and top-p of each row.
        Rows that are `greedy`, (B,) bool, take the most probable token.
        """
        row, column = asked.nonzero(as_tuple=True)
        return self.draw_at(row, column, logits, self.next_draw(asked)[row], greedy)

    def draw_at(
        self, row: Tensor, column: Tensor, logits: Tensor, number: Tensor, greedy: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`draw` at (N,) rows and columns; `number` (N,) is the number of each draw in its row (`next_draw`)."""
        options = self._drawing(row)
        if greedy is not None:
            options["temperature"] = torch.where(greedy[row], 0.0, options["temperature"])
        certain = not isinstance(options["temperature"], Tensor) and options["temperature"] == 0
        if certain and self.forced is None:  # then nothing has to be computed in float64
            best = logits.max(-1)
            return best.indices, (best.values * 0).double()  # 0, or nan where the logits are nan
        log_probs = drawing.log_probs(logits, **options)
        if self.forced is None:
            tokens = drawing.invert(log_probs, uniforms_at(self.seed[row], number, column))
        else:
            tokens = self.forced[row, column]
        return tokens, log_probs.gather(-1, tokens[:, None])[:, 0]

    def log_prob_of(self, row: Tensor, logits: Tensor, tokens: Tensor) -> Tensor:
        """(N,) float64 log-probabilities of (N,) tokens under (N, V) logits and the options of their (N,) rows."""
        return drawing.log_prob(logits, tokens, **self._drawing(row))

    def _drawing(self, row: Tensor) -> dict[str, Any]:
        options = {name: self.option(name) for name in ("temperature", "top_p", "top_k")}
        return {name: x[row] if isinstance(x, Tensor) else x for name, x in options.items()}

    # writing

    def write(self, chosen: Tensor, tokens: Tensor, log_prob: Tensor) -> None:
        """Writes (N,) tokens, drawn with (N,) log-probabilities, at the chosen positions, (B, L) bool.

        Positions whose tokens do not go together under a constraint of their row stay as they are.
        """
        if any(self.constraints):
            found = self.extras.get(CERTAINTY)
            sure = log_prob.new_zeros(len(log_prob)) if found is None else found[chosen]
            sure = torch.stack([log_prob, sure], 1)  # greedy tokens all have probability 1
            kept = kept_together(chosen, tokens, sure, self.tokens, self.masked, self.constraints)
            chosen, tokens, log_prob = chosen.masked_scatter(chosen, kept), tokens[kept], log_prob[kept]
        row, column = chosen.nonzero(as_tuple=True)
        self.tokens[row, column] = tokens
        self.confidence[row, column] = log_prob.exp().float()
        self.log_prob.index_add_(0, row, log_prob)
        self.masked = self.masked & ~chosen

    def hide(self, positions: Tensor, mask: int) -> None:
        """Masks the positions, (B, L) bool, again."""
        self.tokens = self.tokens.masked_fill(positions, mask)
        self.masked = self.masked | positions
        self.confidence = self.confidence.masked_fill(positions, 0.0)

    def close(self) -> None:
        """Completes the rows whose text has ended.

        A text has ended where an end-of-text token is written, nothing is masked before it, and no given text stands
        after it. All masked positions after it then become end-of-text too.
        """
        if not any(params.stop for params in self.params):
            return
        ends = self.ends()
        if not bool(ends.any()):
            return
        rest = (ends.cumsum(1) > 0) & self.masked
        self.tokens = torch.where(rest, self.end[:, None], self.tokens)
        self.masked = self.masked & ~rest

    def ends(self) -> Tensor:
        """(B, L) bool, the end-of-text tokens at which the text of a row has ended."""
        given = ~self.open & self.valid
        given_behind = given.flip(1).cumsum(1).flip(1) > 0
        masked_before = self.masked.cumsum(1) > 0
        return (self.tokens == self.end[:, None]) & self.open & ~self.masked & ~given_behind & ~masked_before


def blank_state(
    family: Family,
    canvas: Canvas,
    params: Sequence[SamplingParams],
    seeds: Sequence[int],
    forced: Tensor | None = None,
    constraints: Sequence[tuple[Constraint, ...]] | None = None,
) -> State:
    """A state in which nothing is written yet, from resolved params (`loop.resolve`)."""
    device, rows = canvas.tokens.device, len(canvas.tokens)
    vocabulary = family.vocabulary
    blank = vocabulary.mask if vocabulary.mask is not None else 0
    none = torch.zeros(rows, dtype=torch.int64, device=device)
    end = -1 if vocabulary.end is None else vocabulary.end
    return State(
        tokens=canvas.tokens.masked_fill(canvas.open, blank),
        open=canvas.open,
        masked=canvas.open.clone(),
        valid=canvas.valid,
        confidence=(~canvas.open & canvas.valid).float(),
        cached=torch.zeros_like(canvas.open),
        blocks=block_numbers(canvas.open, params),
        step=none,
        block=none.clone(),
        calls=none.clone(),
        log_prob=none.double(),
        seed=torch.tensor(list(seeds), device=device),
        draws=none.clone(),
        end=torch.tensor([end if p.stop else -1 for p in params], device=device),
        finished=~canvas.open.any(1),
        params=tuple(params),
        forced=forced,
        constraints=((),) * rows if constraints is None else tuple(constraints),
    )


def block_numbers(open_: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """(B, L) int64, the number of the block of each open position, (B, L) bool; -1 elsewhere."""
    size = torch.tensor([p.block or open_.shape[1] for p in params], device=open_.device)
    return torch.where(open_, (open_.cumsum(1) - 1) // size[:, None], -1)


def moved(x: Tensor, source: Tensor) -> Tensor:
    """(B, L, ...) values of positions, taken from where `source`, (B, L) int64, says; 0 where that is -1."""
    index = source.clamp(min=0).view(*source.shape, *[1] * (x.ndim - 2)).expand(x.shape)
    new = (source < 0).view(*source.shape, *[1] * (x.ndim - 2))
    return x.gather(1, index).masked_fill(new, 0)


def pad_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, ...) -> (B, *shape), with zeros behind what is there."""
    more = [(0, size - own) for size, own in zip(shape, x.shape[1:], strict=True)]
    return pad(x, [n for pair in reversed(more) for n in pair]) if any(n for _, n in more) else x
