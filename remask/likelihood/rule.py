"""The probability that a sampler writes a text, by running it on that text (Turok et al. 2026, DUEL)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families import Denoiser, Family
from remask.likelihood.estimate import Estimate
from remask.likelihood.estimator import Copy, Estimator, batch_of
from remask.likelihood.masks import error_of_mean
from remask.likelihood.request import Request
from remask.sampling import Canvas, SamplingParams, State, start, stream
from remask.sampling.confidence import Confidence
from remask.seeds import mix_seeds


@dataclass(frozen=True, kw_only=True)
class Rule(Estimator):
    """-log p of a sampler whose choice of positions depends on the predictions alone.

    Exact where that choice is deterministic. A random order is a mixture of rules, and the mean of -log p over
    `draws` orders a bound.
    """

    name: ClassVar[str] = "rule"

    params: SamplingParams = field(default_factory=lambda: SamplingParams(sampler=Confidence()))
    """The sampler, made and no name, with its steps, block and temperature; by default `Confidence`, one token at a
    time."""
    guidance: float = 0.0
    """Weight of classifier-free guidance, where `params` has none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sampler, name = self.params.sampler, type(self.params.sampler).__name__
        if sampler.rewrites:
            raise RemaskError(f"{name} writes positions more than once, so its rule has no likelihood")
        if not sampler.chooses_first:
            raise RemaskError(
                f"{name} chooses positions by what it has drawn, so its rule has no likelihood; Confidence with the "
                "same steps is the rule that chooses first"
            )
        if self.guidance and self.params.guidance not in (0, self.guidance):
            raise RemaskError(f"guidance is {self.guidance}, and that of params {self.params.guidance}; give one")
        if self.guidance:
            object.__setattr__(self, "params", replace(self.params, guidance=self.guidance))

    @property
    def deterministic(self) -> bool:
        """Whether every run on a text makes the same choices."""
        return self.params.sampler.deterministic

    def count(self, request: Request) -> int:
        return 1 if self.deterministic else self.draws

    def copies(self, request: Request, family: Family) -> Iterator[Copy]:
        seed = request.noise_seed(self.seed)
        for i in range(self.count(request)):
            yield Copy(request, seed=mix_seeds(seed, i))

    def evaluate(
        self, denoiser: Denoiser, family: Family, copies: Sequence[Copy], device: str | torch.device
    ) -> Tensor:
        state = self.begin(family, copies, device)
        for _ in stream(denoiser, family, state):
            pass
        return -state.log_prob

    def evaluate_tokens(
        self, denoiser: Denoiser, family: Family, copies: Sequence[Copy], device: str | torch.device
    ) -> Tensor:
        state = self.begin(family, copies, device)
        nats = torch.zeros_like(state.confidence, dtype=torch.float64)
        before = state.log_prob.clone()
        for step in stream(denoiser, family, state):
            nats += divided(before - step.log_prob, step.confidence, step.changed)
            before = step.log_prob
        return nats[:, len(copies[0].request.prompt) :]

    def begin(self, family: Family, copies: Sequence[Copy], device: str | torch.device) -> State:
        """A state in which the sampler writes the texts of some copies."""
        batch, prompt = batch_of(family, copies, device)
        canvas = Canvas(batch.tokens, batch.scored, batch.scored | prompt)
        params = replace(self.params, stop=False)
        return start(family, canvas, params, [copy.seed for copy in copies], forced=batch.tokens)

    def groups_of(self, request: Request) -> list[int]:
        return [] if self.deterministic else [1] * self.draws

    def finish(self, request: Request, values: Tensor) -> Estimate:
        changed = [
            f"{name}={getattr(self.params, name)}"
            for name in ("steps", "block", "temperature", "top_p", "top_k", "cache", "window", "grow", "guidance")
            if getattr(self.params, name) != getattr(SamplingParams(), name)
        ]
        of = ", ".join([repr(self.params.sampler), *changed])
        return Estimate(
            float(values.mean()),
            0.0 if self.deterministic else error_of_mean(values),
            "exact" if self.deterministic else "bound",
            len(request.target),
            request.bytes,
            of,
            len(values),
        )


def divided(nats: Tensor, confidence: Tensor, changed: Tensor) -> Tensor:
    """(B, L) float64: the nats of a step, (B,), divided among the tokens that it wrote.

    Each has those of the probability with which it was written, which is kept in float32 only; so the least probable
    one of a row has what the others leave of the step's nats, where these are finite.
    """
    own = torch.where(changed, -confidence.double().log(), 0.0)
    least = torch.where(changed, own, -1.0).argmax(1, keepdim=True)
    left = nats[:, None] - own.scatter(1, least, 0.0).sum(1, keepdim=True)
    known = changed.any(1, keepdim=True) & left.isfinite()
    return torch.where(known, own.scatter(1, least, left), own)
