"""Drafts before and after their revision, under an autoregressive judge, which reads them as they come."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.evaluation.judging import Quality, entropy_of
from remask.likelihood import Request, score
from remask.robustness.drafts import Draft
from remask.robustness.revising import Revised

TOGETHER = 32
"""Texts that the judge reads at a time, and the most that are kept."""


@dataclass
class Moments:
    """Mean and variance of values that are counted one by one, without keeping them (Welford)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of the squared differences from the mean."""

    def add(self, value: float) -> None:
        """Counts a value."""
        self.count += 1
        change = value - self.mean
        self.mean += change / self.count
        self.squares += change * (value - self.mean)

    @property
    def error(self) -> float:
        """Standard error of the mean; nan of fewer than two values."""
        return math.sqrt(self.squares / (self.count - 1) / self.count) if self.count > 1 else math.nan


class Judging:
    """What a judge says of texts given their prompts: of "drafts" as they were, and "revised"."""

    def __init__(self, critic: Checkpoint, drafts: Sequence[Draft]) -> None:
        """RemaskError, before anything is revised, where the judge is not autoregressive, there are fewer than two
        drafts, or one is beyond its context."""
        if not critic.family.exact:
            raise RemaskError(f"the judge is a {type(critic.family).__name__} model; give an autoregressive one")
        if len(drafts) < 2:
            raise RemaskError("a judge reads two drafts or more, so that there is an error")
        self.critic = critic
        self.moments = {name: (Moments(), Moments()) for name in ("drafts", "revised")}
        """Nats per token, and token entropy."""
        self.waiting: list[Revised] = []
        self.problem: RemaskError | None = None
        """Why the judge could not go on. Drafts are revised all the same."""
        for draft in drafts:
            self.request(draft.prompt, draft.text)

    def request(self, prompt: str, text: str) -> Request:
        """A text as ids of the judge. RemaskError where it is beyond the judge's context."""
        encode, end = self.critic.tokenizer.encode, self.critic.family.vocabulary.end
        given = encode(prompt) if prompt else []
        ids = encode(text, behind=bool(given)) or [i for i in [end] if i is not None]  # of a text without tokens
        longest = self.critic.model.architecture.context
        if len(ids) + len(given) > longest:
            raise RemaskError(f"a text of {len(ids) + len(given)} tokens is beyond the judge's context of {longest}")
        return Request(ids, given)

    def add(self, one: Revised) -> None:
        """Takes the next text, which is read with others."""
        self.waiting.append(one)
        if len(self.waiting) == TOGETHER:
            self.read()

    def read(self) -> None:
        """Reads the texts that wait, and forgets them."""
        texts, self.waiting = self.waiting, []
        try:
            for name, pairs in (
                ("drafts", [(one.prompt, one.draft) for one in texts]),
                ("revised", [(one.prompt, one.text) for one in texts]),
            ):
                self.count(name, [self.request(*pair) for pair in pairs] if self.problem is None else [])
        except RemaskError as error:
            self.problem = error

    def count(self, name: str, requests: Sequence[Request]) -> None:
        """Counts the nats and the entropy of some texts."""
        nats, entropy = self.moments[name]
        for _, estimate in score(self.critic.model, self.critic.family, requests, device=self.critic.model.device):
            nats.add(estimate.nats_per_token)
        for request in requests:
            entropy.add(entropy_of(torch.tensor(request.target)))

    def found(self) -> dict[str, Quality]:
        """The quality of all texts that were given. RemaskError where a revised one was beyond the judge's context."""
        self.read()
        if self.problem is not None:
            raise self.problem
        return {
            name: Quality(nll=nats.mean, nll_error=nats.error, entropy=entropy.mean, entropy_error=entropy.error)
            for name, (nats, entropy) in self.moments.items()
        }


def judged(critic: Checkpoint, found: Iterable[Revised]) -> dict[str, Quality]:
    """The quality of texts that are there. RemaskError as of `Judging`."""
    every = list(found)
    judging = Judging(critic, [Draft(one.prompt, one.draft) for one in every])
    for one in every:
        judging.add(one)
    return judging.found()
