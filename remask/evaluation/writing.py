"""Writes texts as `remask.sample` does, batch by batch, and notes when each of them begins and is complete."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from remask.checkpoints.checkpoint import Checkpoint
from remask.generation.request import GenerationRequest
from remask.generation.result import Sample, finished_texts
from remask.generation.rows import begin
from remask.sampling import SamplingParams, stream
from remask.seeds import mix_seeds


@dataclass
class Written:
    """Texts, and how long it took to write them."""

    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0
    """Of all batches, one after another."""
    first: list[float] = field(default_factory=list)
    """For each text, seconds from the start of its batch to the end of the step that wrote its first token."""
    last: list[float] = field(default_factory=list)
    """The same for the step after which nothing of it changed."""
    calls: int = 0
    """Network calls, each for all rows of a batch that are not complete."""
    memory: int | None = None
    """The most bytes on the GPU that writing took, and those of the model's weights; None on a CPU."""

    @property
    def tokens(self) -> int:
        """Tokens of all texts, each up to its end-of-text token, which does not count."""
        return sum(len(s.tokens) for s in self.samples)


def write(checkpoint: Checkpoint, prompts: Sequence[Sequence[int]], params: SamplingParams, batch: int) -> Written:
    """Continues each prompt of ids. A text depends on its number in the list, and not on its batch.

    A prompt that has no ids is one where the model's texts begin with no special token.
    """
    written = Written()
    device, others = checkpoint.model.device, 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        weights = sum(p.numel() * p.element_size() for p in checkpoint.model.parameters())
        others = torch.cuda.memory_allocated(device) - weights  # such as the other models that are compared
    for start in range(0, len(prompts), batch):
        chosen = [list(prompt) for prompt in prompts[start : start + batch]]
        seeds = [mix_seeds(params.seed, start + i) for i in range(len(chosen))]
        options: dict[str, Any] = {**vars(params), "prompt": [p or "" for p in chosen], "seed": seeds}
        _write_batch(checkpoint, GenerationRequest(**options), written)
    if device.type == "cuda":
        written.memory = torch.cuda.max_memory_allocated(device) - others
    return written


def _write_batch(checkpoint: Checkpoint, request: GenerationRequest, written: Written) -> None:
    """Writes one batch and adds it to what is written."""
    begun = now = _now(checkpoint)
    state = begin(checkpoint, request)
    rows = len(state.params)
    first, last = torch.full((rows,), -1.0), torch.zeros(rows)
    calls: Tensor = torch.zeros(rows, dtype=torch.int64)
    for step in stream(checkpoint.model, checkpoint.family, state):
        changed, counted = step.changed.any(1).cpu(), step.calls.cpu()  # which waits for a GPU
        now = _now(checkpoint)
        first = torch.where(changed & (first < 0), now - begun, first)
        last = torch.where(changed, now - begun, last)
        written.calls += int((counted > calls).any())
        calls = counted
    written.seconds += _now(checkpoint) - begun
    written.first += first.tolist()
    written.last += last.tolist()
    written.samples += finished_texts(checkpoint, state, request)


def _now(checkpoint: Checkpoint) -> float:
    """The time in seconds, after all that was asked of a GPU is done."""
    if checkpoint.model.device.type == "cuda":
        torch.cuda.synchronize(checkpoint.model.device)
    return time.perf_counter()
