"""How the texts of a benchmark are written: the options `--writing.NAME` of `remask eval`."""

from dataclasses import dataclass, fields, replace
from typing import Any

from remask.errors import RemaskError
from remask.families import Family
from remask.sampling.params import SamplingParams
from remask.tasks.gsm8k.wording import Passes

UNHEEDED = ("sampler", "steps", "block", "cache", "window", "grow", "expand", "guidance")
"""The options that say nothing to an autoregressive model, so that one command asks it and its twin."""


@dataclass(frozen=True, kw_only=True)
class Writing(SamplingParams):
    """How solutions are written, for benchmarks whose answer is read from a text: gsm8k. All options of `remask sample`
    are among them; an autoregressive model heeds none about sampler, steps, blocks and guidance."""

    length: int | None = 256
    """Tokens of the steps or, with one pass, of steps and answer; fewer where the context has no room for them."""
    temperature: float = 0.0
    """Divides the logits before each draw; 0 writes the most probable token."""
    passes: Passes = 2
    """2: the steps, and then the answer behind them, as SMDM; 1: both at once."""
    answer_length: int = 16
    """Tokens of the answer in the second pass."""
    total: int | None = None
    """Tokens of prompt and text together, as SMDM's 256 in both passes, in place of length and answer_length."""
    batch: int = 16
    """Solutions that are written together."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("answer_length", "total", "batch"):
            given = getattr(self, name)
            if given is not None and given < 1:
                raise RemaskError(f"writing.{name} is {given}; it must be at least 1")

    def params(self, family: Family) -> SamplingParams:
        """The options of `SamplingParams`. A model that writes in any order takes `Confidence`, if nothing is named; an
        autoregressive one writes from left to right, whatever is said about sampler, steps, blocks and guidance."""
        params = SamplingParams(**{f.name: getattr(self, f.name) for f in fields(SamplingParams)})
        if family.exact:
            usual = {f.name: getattr(SamplingParams(), f.name) for f in fields(SamplingParams) if f.name in UNHEEDED}
            return replace(params, **usual)
        named = self.sampler is not None or family.order != "any"
        return params if named else replace(params, sampler="Confidence")

    @property
    def settings(self) -> dict[str, Any]:
        """What decides how a text is written, as JSON can hold it: all but the batch."""
        kept = {name: value for name, value in vars(self).items() if name != "batch"}
        plain = (int, float, str, bool, type(None))
        return {name: value if isinstance(value, plain) else str(value) for name, value in kept.items()}
