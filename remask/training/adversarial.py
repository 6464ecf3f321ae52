"""Training under perturbed embeddings: a few steps of ascent move what the network reads, within a ball, to where its
loss is larger, and it learns to be right there too.

    remask train --model runs/x --data DATA --out RUN --adversarial.radius 0.1

With the embeddings e of what is read, of which those of the prompt (or, where a row has none, all) are perturbed,

    d* = argmax_{|d_i| <= r for each position i} loss(e + d),        loss' = (1 - w) loss(e) + w (loss + a unl)(e + d*),

loss the family's own, with the same noise in all of them, and unl_n = -log(1 - p(y_n)) the unlikelihood of the most
probable wrong token y_n of each asked position under the perturbation. d* is sought by signed gradient steps, each
projected on the ball. This is C-AdvUL (Xhonneux et al. 2024, arXiv 2405.15589): it learns towards the right answer,
away from the one that the attack aims at, and keeps its usefulness by the first term. There the wrong answer is a
harmful text given with each row; here it is what the perturbed network would most probably say instead, so that any
data will do. Its other form, C-AdvIPO, has the loss of preferences in place of the family's:
`remask prefer --objective IPO --adversarial.radius 0.1`. r is a share of the root mean square length of the embeddings,
so that it means the same in every model.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from remask.batch import Batch
from remask.errors import RemaskError
from remask.families import Family, Loss
from remask.model.soft import Soft


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """Training under perturbed embeddings."""

    radius: float = 0.0
    """Largest length of the perturbation of one embedding, as a share of the usual length of an embedding (C-AdvUL);
    0: nothing is perturbed."""
    steps: int = 3
    """Steps of ascent, each of which costs as much as a step of training."""
    weight: float = 0.5
    """Share of the perturbed loss; the rest is that of the text as it is."""
    away: float = 0.0
    """Weight, in the perturbed loss, of the unlikelihood of the most probable wrong tokens."""

    def __post_init__(self) -> None:
        if not 0 <= self.radius < math.inf:
            raise RemaskError(f"adversarial.radius is {self.radius}; it must be 0 or more, and finite")
        if self.steps < 1:
            raise RemaskError(f"adversarial.steps is {self.steps}; it must be at least 1")
        if not 0 < self.weight <= 1:
            raise RemaskError(f"adversarial.weight is {self.weight}; it must be above 0 and at most 1")
        if not 0 <= self.away < math.inf:
            raise RemaskError(f"adversarial.away is {self.away}; it must be 0 or more, and finite")

    def objective(self, denoiser: Any, family: Family, compiled: bool) -> "AdversarialLoss":
        """What `remask.training.run.carry_out` minimises."""
        return AdversarialLoss(self, family)


LossOf = Callable[[Any, Batch, torch.Generator], Loss]
"""(network, rows, generator) -> a loss."""


class AdversarialLoss(nn.Module):
    """A loss, by default that of a family, in part under perturbed embeddings."""

    def __init__(
        self,
        options: Adversarial,
        family: Family,
        loss: LossOf | None = None,
        tied: Callable[[Tensor], Tensor] = lambda gradient: gradient,
    ) -> None:
        """`tied` gives the rows of a gradient, (B, S, D), that are to have one perturbation the same gradient."""
        super().__init__()
        self.options, self.family, self.loss, self.tied = options, family, loss or family.loss, tied

    def forward(self, denoiser: Any, batch: Batch, rng: torch.Generator) -> Loss:
        """(1 - w) times the loss of the batch, and w times that under the perturbation that ascent finds."""
        weight, state = self.options.weight, rng.get_state()
        shifts = self.ascend(denoiser, batch, rng)
        rng.set_state(state)
        hard = self.loss(Perturbed(denoiser, shifts, self.options.away), batch, rng)
        if weight == 1:
            return hard
        rng.set_state(state)
        plain = self.loss(denoiser, batch, rng)
        return Loss((1 - weight) * plain.total + weight * hard.total, plain.tokens, plain.measured)

    def ascend(self, denoiser: Any, batch: Batch, rng: torch.Generator) -> list[Tensor]:
        """The perturbation of what each call of the network reads, (B, S, D), within the ball."""
        state, table = rng.get_state(), embeddings_of(denoiser)
        radius = self.options.radius * float(table.detach().float().square().sum(1).mean().sqrt())
        length = 2 * radius / self.options.steps  # of one step: all of them together can cross the ball
        shifts: list[Tensor] = []
        for _ in range(self.options.steps):
            rng.set_state(state)
            reader = Perturbed(denoiser, shifts)
            with torch.enable_grad():
                total = self.loss(reader, batch, rng).total
                gradients = torch.autograd.grad(total, reader.shifts)
            places = [perturbed_positions(self.family, batch, shift) for shift in reader.shifts]
            ways = [self.tied(gradient).sign() * length / math.sqrt(table.shape[1]) for gradient in gradients]
            moved = [
                within(shift.detach() + way, radius) * place[..., None]
                for shift, way, place in zip(reader.shifts, ways, places, strict=True)
            ]
            shifts = [shift.requires_grad_() for shift in moved]
        return [shift.detach() for shift in shifts]


class Perturbed:
    """A `Denoiser` that reads embeddings with something added to them.

    `shifts` has what is added in each of its calls; where that is missing it is 0, and can be derived by.
    """

    def __init__(self, denoiser: Any, shifts: Sequence[Tensor], away: float = 0.0) -> None:
        self.denoiser, self.shifts, self.away, self.calls = denoiser, list(shifts), away, 0

    def __call__(
        self, tokens: Any, *, ask: Tensor | None = None, target: Tensor | None = None, **reading: Any
    ) -> Tensor:
        table = embeddings_of(self.denoiser)
        if self.calls == len(self.shifts):
            self.shifts.append(torch.zeros(*tokens.shape, table.shape[1], device=table.device, requires_grad=True))
        soft = tokens if isinstance(tokens, Soft) else Soft(table.new_ones(*tokens.shape, 1), tokens[..., None])
        soft = replace(soft, shift=self.shifts[self.calls])
        self.calls += 1
        if not self.away:
            return self.denoiser(soft, ask=ask, target=target, **reading)
        if target is None:
            raise RemaskError(
                f"adversarial.away is {self.away}; it must be 0 where the loss of a token is not -log p alone, as of "
                "Uniform models and with forcing"
            )
        logits = self.denoiser(soft, ask=ask, **reading)
        return cross_entropy(logits, target, reduction="none") + self.away * unlikelihood(logits, target)


def unlikelihood(logits: Tensor, target: Tensor) -> Tensor:
    """(N, V) logits, (N,) ids -> (N,) nats, -log(1 - p) of the most probable token that is not the target."""
    others = logits.scatter(-1, target[:, None], -torch.inf)
    wrong = others.argmax(-1, keepdim=True)
    rest = logits.scatter(-1, wrong, -torch.inf).logsumexp(-1)  # all tokens but the wrong one
    return logits.logsumexp(-1) - rest


def within(shift: Tensor, radius: float) -> Tensor:
    """(B, S, D) perturbations, each no longer than the radius: its projection on the ball."""
    return shift * (radius / shift.norm(dim=-1, keepdim=True).clamp(min=1e-12)).clamp(max=1)


def perturbed_positions(family: Family, batch: Batch, shift: Tensor) -> Tensor:
    """(B, S) bool: where the prompts of the rows are read. All positions of a row that has none, and of what a family
    reads in a form of its own."""
    last = batch.scored.flip(1).cumsum(1).flip(1) > 0  # up to the last scored position
    prompt = ~batch.scored & last
    prompt = prompt | ~prompt.any(1, keepdim=True)
    if family.order == "left":  # position i reads token i - 1
        prompt = torch.cat([prompt[:, :1], prompt[:, :-1]], 1)
    if shift.shape[1] != prompt.shape[1] or len(shift) % len(prompt):
        return torch.ones(shift.shape[:2], dtype=torch.bool, device=shift.device)
    return prompt.repeat(len(shift) // len(prompt), 1).to(shift.device)


def embeddings_of(denoiser: Any) -> Tensor:
    """(rows, D), the table of a network's input embeddings."""
    names = ("embed_tokens.weight", "vocab_embed.weight")
    return next(weight for name, weight in denoiser.named_parameters() if name.endswith(names))
