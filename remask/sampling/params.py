"""The options of a generation, written once: they are the keyword arguments of `remask.sample` and `remask.stream` and
the options of `remask sample`.
"""

import math
from dataclasses import dataclass
from typing import Any

from remask.errors import RemaskError

LARGEST = 2**16
"""The largest number of steps and the largest block that are accepted."""
USUAL_LENGTH = 128
"""Tokens that are written after a prompt where no length is given and the context leaves room for them."""


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How one text is to be written. Texts of one batch may each have their own."""

    length: int | None = None
    """Tokens to write after the prompt; by default 128, or what the prompt leaves of the context if that is less."""
    sampler: Any = None
    """Ancestral, FirstHitting, Confidence, Threshold, Factor, EntropyBound, LocalLeap, Runs, KLASS, Credit, WINO,
    FreeDave, Psi, EsoLM, LeftToRight, PromptLookup, or as published LLaDA, SMDM; by default the family's. Options of
    its own follow as LLaDA:late_end=true,remasking=random. In Python also a `Sampler`."""
    steps: int | None = None
    """Steps over the whole text; by default the sampler's own number."""
    block: int | None = None
    """Fill blocks of this many tokens from left to right, each with its share of the steps."""
    temperature: float = 1.0
    """Divides the logits before each draw; 0 writes the most probable token."""
    top_p: float = 1.0
    """Draw from the smallest set of most probable tokens whose probabilities sum to at least this."""
    top_k: int = 0
    """Draw from this many of the most probable tokens; 0: from all of them."""
    cache: Any = None
    """Approximate cache of a model that sees both sides: Prefix, Dual, Delayed or Selective, with options as
    Dual:refresh=8; by default none. Models with an exact cache use it by themselves."""
    window: int | None = None
    """With blocks: the network reads this many of the masked positions behind the current block, and the last one; by
    default all of them."""
    grow: bool = False
    """With blocks: each block is appended when the one before it is written, so that the network does not see how long
    the text may become, but for `window` masks. The text grows until its end-of-text token, or to `length`."""
    expand: Any = None
    """Lengthen the text while it is written, up to `length`, by what the model predicts: DAEDAL, with options as
    DAEDAL:initial=32,low=0.2; by default `length` tokens are written."""
    guidance: float = 0.0
    """Weight w of unsupervised classifier-free guidance: logits (1 + w) conditional - w unconditional."""
    seed: int = 0
    """The same seed and prompt give the same text, whatever shares the batch."""
    stop: bool = True
    """End a text at its end-of-text token."""
    matching: str | None = None
    """A regular expression that the written text, up to its end-of-text token, matches as a whole."""
    min_length: int = 0
    """Tokens that are written before a text may end."""

    def __post_init__(self) -> None:
        if self.length is not None and self.length < 1:
            raise RemaskError(f"length is {self.length}; it must be at least 1")
        most = USUAL_LENGTH if self.length is None else self.length
        if not 0 <= self.min_length <= most:
            raise RemaskError(f"min_length is {self.min_length}; it must be from 0 to length, which is {most}")
        for name in ("steps", "block"):
            given = getattr(self, name)
            if given is not None and not 1 <= given <= LARGEST:
                raise RemaskError(f"{name} is {given}; it must be at least 1, and at most {LARGEST}")
        if self.window is not None and not 0 <= self.window <= LARGEST:
            raise RemaskError(f"window is {self.window}; it must be 0 or more, and at most {LARGEST}")
        if not 0 <= self.temperature < math.inf:
            raise RemaskError(f"temperature is {self.temperature}; it must be 0 or more, and finite")
        if not 0 < self.top_p <= 1:
            raise RemaskError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if not 0 <= self.top_k < 2**31:
            raise RemaskError(f"top_k is {self.top_k}; it must be 0 (all) or more, and below 2^31")
        if not math.isfinite(self.guidance):
            raise RemaskError(f"guidance is {self.guidance}; it must be finite")
