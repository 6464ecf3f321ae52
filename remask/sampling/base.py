"""What a sampler is: a generator of steps that fill a canvas.

Which positions to write (selection, from the predictions alone) is kept apart from what to write
there (`Pen`). So the same sampler that generates text also gives the exact likelihood of its own rule:
`remask.likelihood` runs it with a `Dictation` in place of the pen (DUEL, Turok et al. 2026).

A new sampler is one new file in this folder with a subclass of `Sampler`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families.base import Denoiser, Family
from remask.model.attention import FULL, Padded
from remask.seeds import mix_seeds


@dataclass(frozen=True)
class Canvas:
    """Rows of tokens with open positions. Infilling is a canvas with fixed text around them."""

    tokens: Tensor
    """(B, L) int64; what stands at open positions is not read."""
    open: Tensor
    """(B, L) bool, True where the sampler is to write."""
    valid: Tensor
    """(B, L) bool, False on the padding behind a row."""
    end: int | None = None
    """End-of-text id at which a row is complete; None fills everything."""

    @staticmethod
    def of(rows: Sequence[Sequence[int | None]], end: int | None = None, device: Any = None) -> "Canvas":
        """A canvas from rows of ids with None at the open positions; short rows are padded behind."""
        length = max(map(len, rows))
        filled = [[0 if i is None else i for i in row] + [0] * (length - len(row)) for row in rows]
        open_ = [[i is None for i in row] + [False] * (length - len(row)) for row in rows]
        valid = [[True] * len(row) + [False] * (length - len(row)) for row in rows]
        return Canvas(*(torch.tensor(x, device=device) for x in (filled, open_, valid)), end=end)


@dataclass(frozen=True)
class Step:
    """One change of the canvas."""

    tokens: Tensor
    """(B, L) the canvas after the step."""
    changed: Tensor
    """(B, L) bool, what this step wrote."""
    masked: Tensor
    """(B, L) bool, what is still to be written."""
    confidence: Tensor
    """(B, L) float32, the probability with which each token was written; 1 on given text, 0 where masked."""
    log_prob: Tensor
    """(B,) float64 nats, log probability of what has been written so far."""
    evaluations: Tensor
    """(B,) int64, network passes so far over each row."""


@dataclass(frozen=True, kw_only=True)
class Pen:
    """What to write at a chosen position: a draw from the prediction, sharpened or cut."""

    temperature: float = 1.0
    """0 writes the most probable token."""
    top_p: float = 1.0
    """Keep the most probable tokens up to this probability."""
    top_k: int = 0
    """Keep this many tokens; 0 keeps all."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise RemaskError(f"temperature is {self.temperature}; it must be 0 or more, and finite")
        if not 0 < self.top_p <= 1:
            raise RemaskError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if self.top_k < 0:
            raise RemaskError(f"top_k is {self.top_k}; it must be 0 (all) or more")

    def log_probs(self, logits: Tensor) -> Tensor:
        """(N, V) logits -> (N, V) float64 log-probabilities of what this pen writes."""
        logits = logits.double()
        if self.temperature == 0:
            best = logits.argmax(-1, keepdim=True)
            return torch.full_like(logits, -torch.inf).scatter_(-1, best, 0.0)
        logits = logits / self.temperature
        if 0 < self.top_k < logits.shape[-1]:
            kept = logits.topk(self.top_k, -1)
            logits = torch.full_like(logits, -torch.inf).scatter_(-1, kept.indices, kept.values)
        if self.top_p < 1:
            ordered, index = logits.softmax(-1).sort(-1, descending=True)
            beyond = ordered.cumsum(-1) - ordered >= self.top_p
            logits = logits.masked_fill(beyond.scatter(-1, index, beyond), -torch.inf)
        return logits.log_softmax(-1)

    def draw(self, logits: Tensor, where: tuple[Tensor, Tensor], uniform: Tensor) -> tuple[Tensor, Tensor]:
        """(N, V) logits, (N,) rows and columns, (N,) uniforms -> (N,) tokens and their float64 log-probabilities."""
        if self.temperature == 0 and type(self) is Pen:  # certain, so nothing need be computed in float64
            best = logits.max(-1)
            return best.indices, (best.values * 0).double()  # nan where the prediction is
        log_probs = self.log_probs(logits)
        written = self.write(log_probs, where, uniform)
        return written, log_probs.gather(-1, written[:, None])[:, 0]

    def log_prob(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """(N, V) logits, (N,) tokens -> (N,) float64 log-probabilities with which this pen writes them."""
        if (self.temperature, self.top_p, self.top_k) == (1.0, 1.0, 0):
            return (logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)).double()
        return self.log_probs(logits).gather(-1, tokens[:, None])[:, 0]

    def write(self, log_probs: Tensor, where: tuple[Tensor, Tensor], uniform: Tensor) -> Tensor:
        """(N, V) log-probabilities, (N,) rows and columns, (N,) uniforms -> (N,) tokens.

        Inverse of the cumulative distribution in float64: one uniform a position, no truncated Gumbel.
        """
        if self.temperature == 0:
            return log_probs.argmax(-1)
        total = log_probs.exp().cumsum(-1)
        return torch.searchsorted(total, uniform[:, None] * total[:, -1:], right=True)[:, 0].clamp(
            max=log_probs.shape[-1] - 1
        )


@dataclass(frozen=True, kw_only=True)
class Dictation(Pen):
    """A pen that writes a given text, so that a sampler's rule can be scored on it."""

    text: Tensor
    """(B, L) int64."""

    def write(self, log_probs: Tensor, where: tuple[Tensor, Tensor], uniform: Tensor) -> Tensor:
        return self.text[where]


class Dice:
    """Uniforms for every row from its own generator: a row's draws do not depend on its neighbours."""

    def __init__(self, seed: int, rows: int, device: Any = None) -> None:
        self.device = device
        self._of = [torch.Generator().manual_seed(mix_seeds(seed, row)) for row in range(rows)]

    def uniforms(self, valid: Tensor, rows: Tensor) -> Tensor:
        """(B, L) float64 in [0, 1) for the `rows`, (B,) bool, that need them; others are 0 and draw nothing.

        A row of n valid positions takes n draws.
        """
        out = torch.zeros(valid.shape, dtype=torch.float64)
        for row, (length, needed) in enumerate(zip(valid.sum(1).tolist(), rows.tolist(), strict=True)):
            if needed:
                out[row, :length] = torch.rand(length, dtype=torch.float64, generator=self._of[row])
        return out.to(self.device)


Mixture = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""(N,) probabilities of the tokens at hand -> probabilities of keeping them, of the prior, and of the prediction."""


@dataclass
class Writing:
    """A canvas being filled: the state that every sampler shares."""

    denoiser: Denoiser
    family: Family
    canvas: Canvas
    dice: Dice
    tokens: Tensor = field(init=False)
    masked: Tensor = field(init=False)
    focus: Tensor | None = None
    """(B, L) bool: the part that may be written now, when not all."""

    def __post_init__(self) -> None:
        blank = self.family.vocabulary.mask if self.family.vocabulary.mask is not None else 0
        self.tokens = self.canvas.tokens.masked_fill(self.canvas.open, blank)
        self.masked = self.canvas.open.clone()
        rows = len(self.tokens)
        self.confidence = (~self.canvas.open & self.canvas.valid).float()
        self.log_prob = torch.zeros(rows, dtype=torch.float64, device=self.tokens.device)
        self.evaluations = torch.zeros(rows, dtype=torch.int64, device=self.tokens.device)
        self.padded = not bool(self.canvas.valid.all())

    @property
    def todo(self) -> Tensor:
        """(B, L) bool: masked positions that may be written now."""
        return self.masked if self.focus is None else self.masked & self.focus

    def uniforms(self, where: Tensor) -> Tensor:
        """(B, L) fresh float64 uniforms for the rows with a position in `where`, (B, L) bool."""
        return self.dice.uniforms(self.canvas.valid, where.any(1))

    def predict(self, ask: Tensor, time: float | None = None) -> Tensor:
        """(B, L) bool -> (N, V) float32 logits at those positions; the mask itself is impossible.

        A network that wants a time gets `time`, or the share of the open positions still masked. Only rows with a
        question go through the network, cut to the longest of them.
        """
        rows = ask.any(1).nonzero()[:, 0]
        valid = self.canvas.valid[rows]
        length = int(valid.sum(1).max()) if self.padded else valid.shape[1]
        attention = Padded(valid[:, :length]) if not bool(valid[:, :length].all()) else FULL
        hidden, writable = self.masked[rows].sum(1), self.canvas.open[rows].sum(1)
        denoiser = narrowed(self.denoiser, rows)
        logits = denoiser(
            self.tokens[rows, :length],
            ask=ask[rows, :length],
            attention=attention,
            time=hidden / writable if time is None else torch.full_like(hidden, time, dtype=torch.float32),
        )
        self.evaluations[rows] += getattr(denoiser, "passes", 1)
        return self.without_mask(logits)

    def without_mask(self, logits: Tensor) -> Tensor:
        """(N, V) logits in which the mask itself is impossible, where the vocabulary holds it."""
        mask = self.family.vocabulary.mask
        if mask is None or mask >= logits.shape[-1]:
            return logits
        return logits.index_fill(-1, torch.tensor([mask], device=logits.device), -torch.inf)

    def write(self, pen: Pen, chosen: Tensor, logits: Tensor) -> Step:
        """Writes at the chosen positions, (B, L) bool, from their (N, V) logits."""
        return self.put(chosen, *self.draft(pen, chosen, logits))

    def draft(self, pen: Pen, asked: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """What the pen would write at the asked positions: (N,) tokens and their (N,) float64 log-probabilities."""
        row, column = asked.nonzero().unbind(1)
        return pen.draw(logits, (row, column), self.uniforms(asked)[row, column])

    def keep(self, asked: Tensor, count: Tensor, scores: Tensor, drawn: tuple[Tensor, Tensor]) -> Step:
        """Of what was drawn at the asked positions, writes the `count` (B,) of highest `scores` (N,) of each row."""
        spread = torch.zeros(asked.shape, dtype=scores.dtype, device=asked.device).masked_scatter(asked, scores)
        chosen = largest(spread, asked, count)
        kept = chosen[asked]
        return self.put(chosen, drawn[0][kept], drawn[1][kept])

    def put(self, chosen: Tensor, tokens: Tensor, log_prob: Tensor) -> Step:
        """Writes (N,) tokens, drawn with (N,) log-probabilities, at the chosen positions, (B, L) bool."""
        self.tokens[chosen] = tokens
        self.confidence[chosen] = log_prob.exp().float()
        self.log_prob.index_add_(0, chosen.nonzero()[:, 0], log_prob)
        self.masked = self.masked & ~chosen
        if self.canvas.end is not None:
            self._close(self.canvas.end)
        return self.step(chosen)

    def hide(self, positions: Tensor) -> None:
        """Takes back what was written at the positions, (B, L) bool."""
        if self.family.vocabulary.mask is not None:
            self.tokens[positions] = self.family.vocabulary.mask
        self.masked = self.masked | positions
        self.confidence[positions] = 0.0

    def start(self) -> None:
        """Open positions as noise leaves them at time 1."""
        self.tokens = torch.where(self.masked, self.family.prior(self.uniforms(self.masked)), self.tokens)

    def revise(self, pen: Pen, t: float, s: float, mixture: Mixture | None = None) -> Step:
        """Draws every open position from q(z_s | z_t, x), with what the pen makes of the prediction for x.

        q is a mixture: the token stays, any id, or one of the prediction. So the prediction is drawn from only
        where it is chosen, and no law over the whole vocabulary is made. `mixture` makes its weights of the
        probability of the token at hand; by default they are the family's own.
        """
        todo = self.todo
        logits, before = self.predict(todo, t), self.tokens[todo]
        own = pen.log_prob(logits, before).exp()
        keep, fresh, predicted = self.family.posterior_weights(own, s, t) if mixture is None else mixture(own)
        choice, other, dice = (self.uniforms(todo)[todo] for _ in range(3))
        drawn = torch.where(choice < keep, before, self.family.prior(other))
        told = (choice >= keep + fresh).nonzero()[:, 0]
        row, column = todo.nonzero().unbind(1)
        drawn[told] = pen.draw(logits[told], (row[told], column[told]), dice[told])[0]
        share = pen.log_prob(logits, drawn).exp()
        q = keep * (drawn == before) + fresh / self.family.vocabulary.predicted + predicted * share
        self.tokens[todo] = drawn
        self.confidence[todo] = share.float()
        self.log_prob.index_add_(0, row, q.log())
        self.masked = self.masked & ~todo if s == 0 else self.masked
        return self.step(todo.masked_scatter(todo, drawn != before))

    def step(self, changed: Tensor) -> Step:
        """The canvas as it is now."""
        state = self.tokens, changed, self.masked, self.confidence, self.log_prob, self.evaluations
        return Step(*(x.clone() for x in state))

    def _close(self, end: int) -> None:
        """Rows whose text has ended are complete: nothing masked before the end, only open canvas behind it."""
        given = ~self.canvas.open & self.canvas.valid
        given_behind = given.flip(1).cumsum(1).flip(1) > 0
        masked_before = self.masked.cumsum(1) > 0
        ended = ((self.tokens == end) & self.canvas.open & ~self.masked & ~given_behind & ~masked_before).cumsum(1) > 0
        rest = ended & self.masked
        if bool(rest.any()):
            self.tokens[rest] = end
            self.masked = self.masked & ~rest


def narrowed(denoiser: Denoiser, rows: Tensor) -> Denoiser:
    """The denoiser for some of the batch rows. One that knows its rows offers `rows`."""
    narrow = getattr(denoiser, "rows", None)
    return narrow(rows) if narrow is not None else denoiser


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """A way of filling a canvas."""

    pen: Pen = Pen()

    @torch.inference_mode()  # as a decorator it holds while a step is made, and not between steps
    def stream(self, denoiser: Denoiser, family: Family, canvas: Canvas, dice: Dice) -> Iterator[Step]:
        """Fills the canvas, one `Step` at a time. No network call once nothing is masked.

        RemaskError when this sampler does not fit the family.
        """
        if not self.fits(family):
            fitting = sorted(name for name, kind in samplers().items() if kind().fits(family))
            raise RemaskError(
                f"{type(self).__name__} does not fit {type(family).__name__} models; these do: {', '.join(fitting)}"
            )
        yield from self.fill(Writing(denoiser, family, canvas, dice))

    def writing_with(self, pen: Pen) -> "Sampler":
        """The same choice of positions, written by another pen."""
        return replace(self, pen=pen)

    @property
    def written_with(self) -> Pen:
        """The pen that writes."""
        return self.pen

    def fits(self, family: Family) -> bool:
        """Whether this sampler can write with a model of that family."""
        return family.any_order

    @abstractmethod
    def fill(self, writing: Writing) -> Iterator[Step]:
        """Writes until `writing.todo` is empty."""

    @property
    def chooses_first(self) -> bool:
        """Whether positions are chosen before tokens are drawn, so that the rule has a likelihood."""
        return True

    @property
    def rewrites(self) -> bool:
        """Whether a position may be written more than once."""
        return False

    @property
    def deterministic(self) -> bool:
        """Whether the choice of positions depends on the state alone, so that its likelihood is exact."""
        return False


def samplers() -> dict[str, type[Sampler]]:
    """Every sampler of this package by class name."""
    found: dict[str, type[Sampler]] = {}
    todo = list(Sampler.__subclasses__())
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if kind.__module__.startswith("remask.sampling."):
            found[kind.__name__] = kind
    return found


def largest(scores: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """(B, L) bool: in each row the `count` (B,) highest `scores` (B, L) of those `among` (B, L).

    Ties go to the left.
    """
    order = scores.double().masked_fill(~among, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(1)
    return (rank < count[:, None]) & among
