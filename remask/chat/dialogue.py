"""A conversation in which a model answers: what was said, what of it the model reads, and the steps of an answer."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

import remask
from remask.checkpoints.checkpoint import Checkpoint
from remask.conversation import Reading, require_template, within_context
from remask.data.chat import TemplateName
from remask.errors import RemaskError
from remask.generation.request import GenerationRequest
from remask.generation.result import finished_texts
from remask.generation.rows import begin
from remask.sampling.loop import Step
from remask.sampling.params import SamplingParams
from remask.seeds import mix_seeds


@dataclass
class Exchange:
    """A message of the user, and the answer to it."""

    message: str
    answer: str | None = None
    """None where there is none yet, or where it was stopped before anything was written."""
    attempt: int = 0
    """How many answers were written to it before, each with a seed of its own."""


@dataclass
class Dialogue:
    """A conversation. Nothing is ever removed from it because of the context; the model then reads a part of it."""

    checkpoint: Checkpoint
    template: TemplateName
    system: str
    """The system message; "" for none."""
    params: SamplingParams
    exchanges: list[Exchange] = field(default_factory=list)

    def __post_init__(self) -> None:
        """RemaskError where the tokenizer has no such template, or the model cannot be asked with these settings."""
        require_template(self.checkpoint, self.template)
        self.check(self.params)

    @property
    def turns(self) -> list[tuple[str, str]]:
        """Pairs of role and text. A message that has no answer is left out unless it is the last."""
        found = [("system", self.system)] if self.system else []
        for exchange in self.exchanges:
            if exchange.answer is not None:
                found += [("user", exchange.message), ("assistant", exchange.answer)]
        if self.exchanges and self.exchanges[-1].answer is None:
            found.append(("user", self.exchanges[-1].message))
        return found

    def check(self, params: SamplingParams) -> None:
        """RemaskError, naming the option, where no answer can be written with these settings."""
        context = self.checkpoint.model.architecture.context
        if params.length is not None and params.length >= context:
            raise RemaskError(f"length is {params.length}; it must be below the context of {context} tokens")
        turns = [("system", self.system)] if self.system else []
        reading = within_context(self.checkpoint, [*turns, ("user", "?")], self.template, params.length)
        begin(self.checkpoint, self.request(reading, params))

    def reading(self) -> Reading:
        """What the model reads before it answers the last message, whose answer must be None."""
        return within_context(self.checkpoint, self.turns, self.template, self.params.length)

    def request(self, reading: Reading, params: SamplingParams | None = None) -> GenerationRequest:
        """The request of an answer. The seed depends on the number of the message and of the attempt."""
        params = params or self.params
        attempt = self.exchanges[-1].attempt if self.exchanges else 0
        seed = mix_seeds(params.seed, len(self.exchanges), attempt)
        options: dict[str, Any] = vars(replace(params, length=reading.length, seed=seed))
        return GenerationRequest(prompt=reading.ids, **options)

    def steps(self, request: GenerationRequest) -> Iterator[Step]:
        """The steps in which an answer is written."""
        return remask.stream(self.checkpoint, **vars(request))

    def text(self, request: GenerationRequest, step: Step) -> str:
        """The answer as it is after a step: its text before the first token that is still to be written."""
        columns = torch.arange(step.tokens.shape[1], device=step.tokens.device)
        open_columns = columns[step.masked[0] & step.valid[0]].tolist()
        most = min(open_columns, default=len(columns))
        valid = step.valid & (columns < most)
        (sample,) = finished_texts(self.checkpoint, replace(step, valid=valid), request)
        return sample.text.strip()

    def messages(self) -> list[dict[str, str]]:
        """The conversation in the usual form, {"role": "user", "content": "..."}, of the messages with an answer."""
        turns = self.turns
        whole = turns[:-1] if turns and turns[-1][0] == "user" else turns
        return [{"role": role, "content": text} for role, text in whole]
