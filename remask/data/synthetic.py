"""A random language whose entropy is known exactly, so that a bound can be compared with the truth.

The source is a hidden Markov model that is unifilar: the next state is a function of the state and
of the symbol emitted (Travers and Crutchfield 2011, "Exact synchronization for finite-state
sources"). With a known first state a text determines its states, hence
log p(x) = sum_t log p(x_t | s_t), and the entropy of a text is Shannon's sum over states
(1948, "A mathematical theory of communication", section 7):
H(X_1..X_L) = sum_t sum_s P(s_t = s) H(emission of s).

`synthetic:symbols=8,states=4,length=64,documents=2000,seed=0` names such a corpus.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from remask.errors import RemaskError, unknown

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class HiddenMarkov:
    """A random language of `symbols` letters. Every text starts in state 0."""

    symbols: int = 8
    """Size of the alphabet, 2 to 26."""
    states: int = 4
    """Number of hidden states."""
    seed: int = 0
    """Seed from which the emission probabilities and the next states are drawn."""
    sharpness: float = 2.0
    """Standard deviation of the logits of the emissions: 0 is uniform noise, large is predictable."""

    def __post_init__(self) -> None:
        if not 2 <= self.symbols <= len(LETTERS):
            raise RemaskError(f"symbols={self.symbols}: a synthetic language has 2 to {len(LETTERS)} symbols")
        if self.states < 1:
            raise RemaskError(f"states={self.states}: a synthetic language has at least 1 state")
        if self.sharpness < 0 or self.seed < 0:
            raise RemaskError("sharpness and seed of a synthetic language are not negative")

    @cached_property
    def emission(self) -> NDArray[np.float64]:
        """(states, symbols) float64: p(symbol | state)."""
        rng = np.random.default_rng([self.seed, 0])
        logits = self.sharpness * rng.normal(size=(self.states, self.symbols))
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    @cached_property
    def following(self) -> NDArray[np.int64]:
        """(states, symbols) int64: the next state after a symbol. The first symbol alone leads through every state."""
        table = np.random.default_rng([self.seed, 1]).integers(self.states, size=(self.states, self.symbols))
        table[:, 0] = (np.arange(self.states) + 1) % self.states
        return table

    @cached_property
    def transition(self) -> NDArray[np.float64]:
        """(states, states) float64: p(next state | state), summed over the symbols."""
        matrix = np.zeros((self.states, self.states))
        rows = np.repeat(np.arange(self.states), self.symbols)
        np.add.at(matrix, (rows, self.following.ravel()), self.emission.ravel())
        return matrix

    def sample(self, texts: int, length: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(texts, length) int64 symbols in [0, symbols)."""
        edges = self.emission.cumsum(axis=1)[:, :-1]  # (states, symbols - 1)
        state = np.zeros(texts, dtype=np.int64)
        drawn = np.empty((texts, length), dtype=np.int64)
        for position in range(length):
            drawn[:, position] = (rng.random(texts)[:, None] >= edges[state]).sum(axis=1)
            state = self.following[state, drawn[:, position]]
        return drawn

    def log_prob(self, symbols: NDArray[np.integer]) -> NDArray[np.float64]:
        """(B,) float64 nats, exactly log p of each of the (B, L) rows of symbols."""
        state = np.zeros(symbols.shape[0], dtype=np.int64)
        total = np.zeros(symbols.shape[0])
        with np.errstate(divide="ignore"):
            log_emission = np.log(self.emission)
        for column in symbols.T:  # (B,)
            total += log_emission[state, column]
            state = self.following[state, column]
        return total

    def entropy(self, length: int) -> float:
        """Nats of one text of `length` symbols, exact."""
        safe = np.where(self.emission > 0, self.emission, 1.0)
        of_state = -(self.emission * np.log(safe)).sum(axis=1)  # (states,)
        occupied = np.eye(self.states)[0]  # P(s_t), first all in state 0
        total = 0.0
        for _ in range(length):
            total += float(occupied @ of_state)
            occupied = occupied @ self.transition
        return total

    def render(self, symbols: NDArray[np.integer]) -> str:
        """(L,) symbols as letters: 0 is 'a'."""
        return "".join(LETTERS[symbol] for symbol in symbols)


@dataclass(frozen=True)
class Synthetic:
    """A corpus of texts of one language, which `synthetic:KEY=VALUE,...` names."""

    language: HiddenMarkov
    length: int = 64
    """Symbols, and bytes, of one text."""
    documents: int = 2000
    draw: int = 0
    """Number of the sample: another one gives other texts of the same language."""

    def texts(self) -> list[str]:
        """The documents, always the same for the same options."""
        rng = np.random.default_rng([self.language.seed, 2, self.draw])
        return [self.language.render(row) for row in self.language.sample(self.documents, self.length, rng)]


def parse(options: str) -> Synthetic:
    """Reads `symbols=8,states=4,length=64,documents=2000,seed=0,sharpness=2,draw=0`; each may be left out."""
    kinds = {"symbols": int, "states": int, "seed": int, "sharpness": float}
    kinds |= {"length": int, "documents": int, "draw": int}
    values: dict[str, int | float] = {}
    for option in filter(None, options.split(",")):
        key, _, value = (part.strip() for part in option.partition("="))
        if key not in kinds:
            raise unknown("option of a synthetic corpus", key, kinds)
        try:
            values[key] = kinds[key](value)
        except ValueError:
            raise RemaskError(f"synthetic corpus: {key}={value!r} is not a number") from None
    corpus = {key: int(values.pop(key)) for key in ("length", "documents", "draw") if key in values}
    for key, least in (("length", 1), ("documents", 1), ("draw", 0)):
        if corpus.get(key, least) < least:
            raise RemaskError(f"synthetic corpus: {key}={corpus[key]} must be at least {least}")
    return Synthetic(HiddenMarkov(**values), **corpus)  # type: ignore[arg-type]
