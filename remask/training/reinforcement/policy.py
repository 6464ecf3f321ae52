"""One step of reinforcement: texts are written, rewarded, and weighed against each other."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from remask.batch import Batch
from remask.data.tokenizer import Tokenizer
from remask.families import Family, Loss
from remask.sampling import Canvas, start, stream
from remask.tasks.base import Example, Task
from remask.training.interruption import StepFailed
from remask.training.reinforcement.likelihood import weighted_nats
from remask.training.reinforcement.objective import PolicyObjective
from remask.training.reinforcement.prompts import PromptBatch

Reward = Callable[[Task, Example, str], float]
"""(task, question, the text that was written) -> reward."""


def right(task: Task, example: Example, text: str) -> float:
    """1 for a right answer, else 0."""
    return float(task.right(example.question, text))


class Policy(nn.Module):
    """The objective as training calls it."""

    columns: ClassVar[tuple[str, ...]] = (
        "reward", "reward_spread", "right", "informative", "weight", "text_tokens", "ended"
    )  # fmt: skip
    """Means over the texts of a step: the reward; the standard deviation, between prompts, of their mean rewards; the
    share of right answers; the share of groups whose rewards differ, from which alone something is learnt; the absolute
    weight of a text; its tokens; the share that ended before the room was full."""

    def __init__(self, objective: PolicyObjective, family: Family, tokenizer: Tokenizer, reward: Reward) -> None:
        super().__init__()
        self.objective, self.family, self.tokenizer, self.reward = objective, family, tokenizer, reward

    def forward(self, denoiser: Any, batch: Batch, rng: torch.Generator) -> Loss:
        """The weighted nats of texts that are written now, summed over all of them."""
        assert isinstance(batch, PromptBatch)
        seeds = (batch.draw((), rng, torch.float64) * 2**53).long()
        tokens = self.write(denoiser, batch, seeds.tolist())
        written = up_to_end(tokens, batch.scored, self.ends)
        texts = [self.tokenizer.decode_behind(row[w].tolist()) for row, w in zip(tokens.cpu(), written.cpu())]
        rewards = [self.rewarded(*one, text) for one, text in zip(batch.asked, texts, strict=True)]
        in_groups = torch.tensor(rewards, dtype=torch.float64).view(-1, self.objective.group)
        weights = self.objective.weights(in_groups)
        filled = replace(batch, tokens=tokens)
        copies = self.objective.copies(self.family, filled, written, rng)
        weight = weights.flatten().float().to(tokens.device)
        total = weighted_nats(denoiser, self.family, filled, copies, weight)
        share_right = sum(task.right(one.question, text) for (task, one), text in zip(batch.asked, texts)) / len(texts)
        numbers = self.measure(in_groups, weights, written, batch.scored)
        return Loss(total, int(batch.scored.sum()), {**numbers, "right": share_right})

    @property
    def ends(self) -> list[int]:
        """The ids that end a text."""
        v = self.family.vocabulary
        return [i for i in (v.end, v.end_of_turn) if i is not None]

    def write(self, denoiser: Any, batch: PromptBatch, seeds: list[int]) -> Tensor:
        """(B, L) the prompts with a text behind each, which depends on its prompt, its seed and the weights."""
        assert batch.valid is not None
        canvas = Canvas(batch.tokens, batch.scored, batch.valid)
        state = start(self.family, canvas, self.objective.sampling(self.family), seeds)
        for _ in stream(denoiser, self.family, state):
            pass
        return state.tokens.clone()  # outside of inference mode, so that gradients may be taken

    def rewarded(self, task: Task, example: Example, text: str) -> float:
        """The reward of a text. StepFailed, with the prompt and the text, where there is none."""
        where = f"of {text!r} behind the prompt {example.prompt!r}"
        try:
            found = float(self.reward(task, example, text))
        except Exception as error:
            raise StepFailed(f"the reward {where} raised {type(error).__name__}: {error}. The run is saved") from error
        if not math.isfinite(found):
            raise StepFailed(f"the reward {where} is {found}; it must be finite. The run is saved")
        return found

    @staticmethod
    def measure(rewards: Tensor, weights: Tensor, written: Tensor, open_: Tensor) -> dict[str, float]:
        """The numbers of `columns` but for `right`, from (P, G) rewards and weights, and (B, L) bool positions."""
        of_prompts = rewards.mean(1)
        return {
            "reward": float(rewards.mean()),
            "reward_spread": float(of_prompts.std()) if len(of_prompts) > 1 else math.nan,
            "informative": float((rewards != rewards[:, :1]).any(1).double().mean()),
            "weight": float(weights.abs().mean()),
            "text_tokens": float(written.sum(1).double().mean()),
            "ended": float((written.sum(1) < open_.sum(1)).double().mean()),
        }


def up_to_end(tokens: Tensor, open_: Tensor, ends: list[int]) -> Tensor:
    """(B, L) bool: the open positions up to the first of the `ends` in each row, that among them; all without one."""
    is_end = torch.isin(tokens, torch.tensor(ends, device=tokens.device, dtype=tokens.dtype)) & open_
    return open_ & (is_end.cumsum(1) - is_end.long() == 0)
