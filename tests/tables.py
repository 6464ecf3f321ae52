"""Real denoisers that are small enough to be enumerated, and what their laws are, worked out apart from the package.

A masked state is a number in base V + 1 (digit V is the mask), and a denoiser a table with a row of
log-probabilities for every state and position. `Table.of(joint)` is the exact conditional of a known
joint distribution; `Table.random` holds conditionals that fit no joint, so that orders matter.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

from remask.families.base import Denoiser, Family
from remask.model.attention import FULL, Attention
from remask.model.sizes import Architecture
from remask.model.transformer import Transformer
from remask.sampling import Canvas, Sampler, SamplingParams, Step, start, stream
from remask.seeds import mix_seeds
from remask.vocabulary import Vocabulary

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For laws, on a machine that is busy with something else."""

State = tuple[int | None, ...]
"""What stands at each position; None is a mask."""
Law = dict[tuple[int, ...], float]
"""The probability of each text."""


def rng(seed: int) -> torch.Generator:
    """A seeded generator."""
    return torch.Generator().manual_seed(seed)


def random_joint(symbols: int, length: int, seed: int, sharpness: float = 1.0) -> Tensor:
    """(V,)*L float64, a strictly positive distribution over texts."""
    logits = sharpness * torch.randn((symbols,) * length, generator=rng(seed), dtype=torch.float64)
    return logits.flatten().softmax(0).view_as(logits)


def answer(logits: Tensor, ask: Tensor | None, target: Tensor | None) -> Tensor:
    """(B, Q, V) logits as a `Denoiser` gives them: at the asked positions, or the nats of a target there."""
    found = (logits if ask is None else logits[ask]).float().clone()
    return found if target is None else torch.nn.functional.cross_entropy(found, target, reduction="none")


class Table:
    """p(x_i | visible tokens) looked up: a `Denoiser` over V ids, whose mask is id V."""

    def __init__(self, log_probs: Tensor) -> None:
        self.log_probs = log_probs
        """((V+1)^L, L, V) float64, by state, position and token."""
        _, self.length, self.symbols = log_probs.shape

    @classmethod
    def of(cls, joint: Tensor) -> "Table":
        """The exact conditionals of a joint distribution (V,)*L, by summing it."""
        length, symbols = joint.ndim, joint.shape[0]
        rows = []
        for state in itertools.product(range(symbols + 1), repeat=length):
            fits = joint.clone()
            for i, token in enumerate(state):
                if token < symbols:
                    keep = torch.zeros(symbols, dtype=torch.float64)
                    keep[token] = 1.0
                    fits = fits * keep.view([-1 if j == i else 1 for j in range(length)])
            marginals = [fits.movedim(i, 0).reshape(symbols, -1).sum(1) for i in range(length)]
            rows.append(torch.stack([(m / m.sum()).log() for m in marginals]))
        return cls(torch.stack(rows))

    @classmethod
    def random(cls, symbols: int, length: int, seed: int, sharpness: float = 1.0) -> "Table":
        """Conditionals drawn anew for every state and position: consistent with no joint distribution."""
        shape = ((symbols + 1) ** length, length, symbols)
        return cls((sharpness * torch.randn(shape, generator=rng(seed), dtype=torch.float64)).log_softmax(-1))

    @property
    def vocabulary(self) -> Vocabulary:
        """V ids and the mask."""
        return Vocabulary(size=self.symbols + 1, mask=self.symbols)

    @property
    def texts(self) -> Tensor:
        """(V^L, L) int64, every text."""
        return torch.tensor(list(itertools.product(range(self.symbols), repeat=self.length)))

    def given(self, state: State) -> list[list[float]]:
        """[L][V] log-probabilities in a state, as plain numbers."""
        digits = [self.symbols if token is None else token for token in state]
        number = sum(d * (self.symbols + 1) ** (self.length - 1 - i) for i, d in enumerate(digits))
        return self.log_probs[number].tolist()

    def __call__(
        self,
        tokens: Tensor,
        *,
        index: Tensor | None = None,
        ask: Tensor | None = None,
        target: Tensor | None = None,
        time: Tensor | None = None,
        attention: Attention = FULL,
        positions: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """Log-probabilities as logits; the whole row is always read."""
        assert tokens.shape[1] == self.length, f"a table of length {self.length} read a row of {tokens.shape[1]}"
        place = (self.symbols + 1) ** torch.arange(self.length - 1, -1, -1)
        logits = self.log_probs[(tokens * place).sum(1)]  # (B, L, V)
        return answer(logits, ask, target)


class OrderedTable:
    """A `Table` for a network that reads known tokens and masks in any order, at their positions: every query looks
    up the state of what it may see of the text, so a wrong layout, position or rule gives another number."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __call__(
        self,
        tokens: Tensor,
        *,
        index: Tensor | None = None,
        ask: Tensor | None = None,
        target: Tensor | None = None,
        time: Tensor | None = None,
        attention: Attention = FULL,
        positions: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """(B, Q) ids at (B, Q) positions -> logits; what is not seen is a mask."""
        length, mask = self.table.length, self.table.symbols
        rows, size = tokens.shape
        index = torch.arange(size).expand(rows, -1) if index is None else index
        positions = index.clamp(min=0) if positions is None else positions
        seen = attention.mask(rows, index)
        seen = torch.ones(rows, 1, size, size, dtype=torch.bool) if seen is None else seen.expand(rows, -1, -1, -1)
        known = seen[:, 0] & (tokens != mask)[:, None, :]  # (B, query, key)
        state = torch.full((rows, size, length), mask)
        for key in range(size):
            at = positions[:, key][:, None, None].expand(rows, size, 1)
            old = state.gather(2, at)
            state.scatter_(2, at, torch.where(known[:, :, key, None], tokens[:, key][:, None, None], old))
        place = (mask + 1) ** torch.arange(length - 1, -1, -1)
        number = (state * place).sum(2)
        logits = self.table.log_probs[number, positions]
        return answer(logits, ask, target)


class CausalTable:
    """p(x_i | x_<i) of a joint distribution (V,)*L: a `Denoiser` that reads the text behind an end id."""

    def __init__(self, joint: Tensor, end: int) -> None:
        self.end, self.symbols, length = end, joint.shape[0], joint.ndim
        prefixes = [joint.sum(list(range(i + 1, length))) if i + 1 < length else joint for i in range(length)]
        self.conditional = [(p / p.sum(-1, keepdim=True)).log() for p in prefixes]
        """For every position i, (V,)*(i+1) log p(x_i | x_<i)."""

    @property
    def vocabulary(self) -> Vocabulary:
        """V ids and the end, which is not one of them."""
        return Vocabulary(size=self.symbols + 1, end=self.end)

    def __call__(
        self,
        tokens: Tensor,
        *,
        index: Tensor | None = None,
        ask: Tensor | None = None,
        target: Tensor | None = None,
        time: Tensor | None = None,
        attention: Attention = FULL,
        positions: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """(B, S) the end id and then the text so far; column i predicts token i of the text."""
        assert bool((tokens[:, 0] == self.end).all()), "a text must start with the end id"
        rows = []
        for i in range(tokens.shape[1]):
            rows.append(self.conditional[i][tuple(tokens[:, 1 : i + 1].unbind(1))].expand(len(tokens), -1))
        logits = torch.stack(rows, 1)  # (B, S, V)
        return answer(logits, ask, target)


class Counting:
    """A denoiser that counts its calls and the rows and questions of each."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.sizes: list[int] = []
        self.asked: list[int] = []

    @property
    def calls(self) -> int:
        """Number of network calls."""
        return len(self.sizes)

    def __call__(self, tokens: Tensor, *, ask: Tensor | None = None, **reading: Any) -> Tensor:
        self.sizes.append(len(tokens))
        self.asked.append(tokens.numel() if ask is None else int(ask.sum()))
        return self.denoiser(tokens, ask=ask, **reading)


def steps_of(
    denoiser: Denoiser, family: Family, canvas: Canvas, sampler: Sampler, *, seed: int = 0, **options: Any
) -> list[Step]:
    """The steps by which a sampler fills a canvas; each row has noise of its own."""
    usual = {"stop": False, "temperature": 0.0 if sampler.greedy else 1.0}
    params = SamplingParams(sampler=sampler, **{**usual, **options})
    state = start(family, canvas, params, [mix_seeds(seed, row) for row in range(len(canvas.tokens))])
    return list(stream(denoiser, family, state))


def tiny(rows: int, predicted: int, *, seed: int = 0, sharpness: float = 1.0, **more: Any) -> Transformer:
    """A real Transformer of two layers with random weights, large enough that its predictions are not flat."""
    shape = {"layers": 2, "width": 16, "heads": 2, "kv_heads": 1, "ffn": 24, "head_width": 8, "context": 64}
    model = Transformer(Architecture(**{**shape, **more}, rows=rows, predicted=predicted))
    draw = rng(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.fill_(1.0)
            else:
                scale = sharpness if name.startswith("lm_head") else 1.0
                weight.normal_(0.0, scale * (1.0 if weight.ndim < 2 else weight.shape[1] ** -0.5), generator=draw)
    return model.eval()


# Laws, worked out by recursion over states. None of this calls the package.


def chain(table: Table, text: Sequence[int], order: Sequence[int]) -> float:
    """Nats: -log p(text) revealed one token at a time in an order."""
    state: list[int | None] = [None] * table.length
    nats = 0.0
    for i in order:
        nats -= table.given(tuple(state))[i][text[i]]
        state[i] = text[i]
    return nats


def any_order(table: Table, text: Sequence[int]) -> float:
    """Nats: the mean over all L! orders of the chain rule, which the bound equals."""
    orders = list(itertools.permutations(range(table.length)))
    return math.fsum(chain(table, text, order) for order in orders) / len(orders)


def masked_nats(table: Table, text: Sequence[int], hidden: Iterable[int]) -> float:
    """Nats: the sum of -log p over the hidden positions, the others visible."""
    hidden = set(hidden)
    given = table.given(tuple(None if i in hidden else token for i, token in enumerate(text)))
    return -math.fsum(given[i][text[i]] for i in hidden)


def subsets(length: int) -> list[tuple[int, ...]]:
    """Every set of positions but the empty one."""
    return [s for k in range(1, length + 1) for s in itertools.combinations(range(length), k)]


Choose = Callable[[int, list[list[float]], list[int]], Sequence[int]]
"""(step, [L][V] log-probabilities, masked positions) -> the positions to write in this step."""


def rule_law(table: Table, choose: Choose) -> Law:
    """The texts a deterministic rule writes when it draws each chosen token from its own prediction."""
    law: Law = {}

    def reveal(state: State, step: int, probability: float) -> None:
        masked = [i for i, token in enumerate(state) if token is None]
        if not masked:
            law[tuple(t for t in state if t is not None)] = law.get(state, 0.0) + probability  # type: ignore[arg-type]
            return
        given = table.given(state)
        chosen = choose(step, given, masked)
        for drawn in itertools.product(range(table.symbols), repeat=len(chosen)):
            then, p = list(state), probability
            for i, token in zip(chosen, drawn, strict=True):
                then[i], p = token, p * math.exp(given[i][token])
            reveal(tuple(then), step + 1, p)

    reveal((None,) * table.length, 0, 1.0)
    return law


def parts_law(table: Table, parts: Sequence[Sequence[int]]) -> Law:
    """The texts written by revealing given sets of positions one after another."""
    return rule_law(table, lambda step, given, masked: parts[step])


def mixture(laws: Iterable[tuple[float, Law]]) -> Law:
    """The weighted mean of laws."""
    mixed: Law = {}
    for weight, law in laws:
        for text, p in law.items():
            mixed[text] = mixed.get(text, 0.0) + weight * p
    return mixed


def joint_law(joint: Tensor) -> Law:
    """A joint distribution (V,)*L as a law."""
    texts = itertools.product(range(joint.shape[0]), repeat=joint.ndim)
    return {text: float(joint[text]) for text in texts}
