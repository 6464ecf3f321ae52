"""Whether greedy decoding writes a text: the definition of `is_greedy` for models that write in any order.

Greedy decoding writes one token at a time, at temperature 0, by a named rule: `Confidence` writes the position first at
which the network is most certain, `Confidence:rule=left` the leftmost one; autoregressive models write from left to
right. It is told the number of tokens, as in SMDM and LLaDA. A text is written if, at each step, the token at the
chosen position is the most probable one. So the rule is run on the text itself and needs no drawing: as long as all
tokens agree, the state is that of the decoding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.families import Denoiser, Family
from remask.families.denoiser import per_row
from remask.likelihood import Copy, Estimate, Estimator, Request
from remask.likelihood.estimator import batch_of
from remask.likelihood.rule import Rule
from remask.sampling import SamplingParams
from remask.sampling.sampler import require_fit, sampler_of


def greedy_estimator(family: Family, rule: str, guidance: float) -> Estimator | None:
    """An estimator of -log p of greedy decoding: 0 for the text that it writes, above 0 for any other.

    None for a family that no such rule fits. RemaskError for a rule that is unknown or not deterministic.
    """
    if family.exact:
        return LeftToRightGreedy()
    sampler = sampler_of(family, rule)
    if not (sampler.chooses_first and sampler.deterministic and not sampler.rewrites):
        raise RemaskError(
            f"greedy is {rule!r}; it must be a rule that chooses positions by the predictions alone, such as "
            "Confidence or Confidence:rule=left"
        )
    try:
        require_fit(sampler, family)
    except RemaskError:
        return None
    return Rule(params=SamplingParams(sampler=sampler, temperature=0.0, guidance=guidance))


@dataclass(frozen=True, kw_only=True)
class LeftToRightGreedy(Estimator):
    """The number of tokens that are not the most probable ones, given those before: all from one reading."""

    def count(self, request: Request) -> int:
        return 1

    def copies(self, request: Request, family: Family) -> Iterator[Copy]:
        yield Copy(request)

    def evaluate(
        self, denoiser: Denoiser, family: Family, copies: Sequence[Copy], device: str | torch.device
    ) -> Tensor:
        batch, _ = batch_of(family, copies, device)
        noisy = family.inputs_for(batch, batch.scored, torch.ones(len(copies), device=device))
        logits = denoiser(noisy.inputs, ask=noisy.ask, **noisy.conditions)
        return per_row(logits.argmax(-1) != noisy.target, noisy.ask)

    def finish(self, request: Request, values: Tensor) -> Estimate:
        return Estimate(float(values), 0.0, "exact", len(request.target), request.bytes, "greedy decoding")
