"""The loss of a step on preferences, with its reference, from pairs of which only some are in memory at a time."""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from remask.batch import Batch
from remask.families import Family, Loss
from remask.training.adapters import LowRank, merged
from remask.training.adversarial import Adversarial, AdversarialLoss, LossOf
from remask.training.preference.margin import SharedNoise, bounds
from remask.training.preference.objective import PreferenceObjective
from remask.training.reinforcement.likelihood import sum_of_parts

TOKENS = 2**14
"""Tokens that are read with a gradient at once, unless the copies of one pair have more."""


class PreferenceLoss(nn.Module):
    """The objective as training calls it, and its reference: the network as it is at the first step."""

    columns: ClassVar[tuple[str, ...]] = ("accuracy", "margin", "chosen", "rejected")
    """Means over the pairs of a step: the share whose margin is above 0, where one of 0, to rounding, counts half; the
    margin; and, of each reply, by how many nats its bound is above that of the reference. Where prompts are perturbed,
    these are of the prompts as they are, unless the weight of the perturbed loss is 1."""

    taken: Tensor
    """() bool, whether the reference has its weights."""

    def __init__(
        self,
        objective: PreferenceObjective,
        family: Family,
        reference: Any,
        adversarial: Adversarial | None = None,
        lora: LowRank | None = None,
    ) -> None:
        """`reference` is a network of the same shape, whose weights are filled at the first step; it has no adapters,
        also where the one that is trained has."""
        super().__init__()
        self.lora = lora or LowRank()
        self.objective, self.family, self.adversarial = objective, family, adversarial or Adversarial()
        self.reference = reference.requires_grad_(False)
        self.register_buffer("taken", torch.tensor(False))
        self.known = False

    def forward(self, policy: Any, batch: Batch, rng: torch.Generator) -> Loss:
        """The loss of pairs, summed over them; row 2 i of the batch is the chosen reply of pair i, the next one the
        rejected one. Its `tokens` are the pairs."""
        self.take_reference(policy)
        n, (rows, length) = self.objective.copies(self.family), batch.tokens.shape
        noise = SharedNoise.draw(batch, n, rng)
        at_once = 2 * max(1, TOKENS // (2 * n * length))
        parts = torch.arange(rows, device=batch.tokens.device).split(at_once)
        found: list[Loss] = []

        def totals() -> Iterator[Tensor]:
            for part in parts:
                found.append(self.of_pairs(policy, batch.at(part), noise.at(part), rng))
                yield found[-1].total

        weights = [weight for weight in policy.parameters() if weight.requires_grad]
        total = next(totals()) if len(parts) == 1 else sum_of_parts(totals(), weights)
        pairs = rows // 2
        measured = {name: sum(one.measured[name] * one.tokens for one in found) / pairs for name in self.columns}
        return Loss(total, pairs, measured)

    def take_reference(self, policy: Any) -> None:
        """Copies the network, where this is the first step of the run."""
        if not self.known and not bool(self.taken):  # read once, not at every step
            weights = policy.state_dict()
            self.reference.load_state_dict(merged(weights, self.lora) if self.lora.rank else weights)
            self.taken.fill_(True)
        self.known = True

    def of_pairs(self, policy: Any, batch: Batch, noise: SharedNoise, rng: torch.Generator) -> Loss:
        """The loss of pairs that are read at once."""
        loss = self.loss_under(noise, batch)
        return (self.hardened(loss) if self.adversarial.radius else loss)(policy, batch, rng)

    def loss_under(self, noise: SharedNoise, batch: Batch) -> LossOf:
        """The loss of the pairs of a batch under some noise, by which the reference reads them now."""
        with torch.no_grad():
            reference = bounds(self.reference, self.family, batch, noise)

        def loss(denoiser: Any, rows: Batch, _: torch.Generator) -> Loss:
            gains = (bounds(denoiser, self.family, rows, noise) - reference).view(-1, 2)
            total = self.objective.loss(gains[:, 0] - gains[:, 1]).sum()
            return Loss(total.float(), len(gains), measure(gains.detach()))

        return loss

    def hardened(self, loss: LossOf) -> AdversarialLoss:
        """The loss in part under perturbed prompts."""
        return AdversarialLoss(self.adversarial, self.family, loss, self.tied)

    def tied(self, gradient: Tensor) -> Tensor:
        """The gradient of (n P 2, S, D) perturbations where all copies of a pair have the same one, as they have the
        same prompt. A family that reads a row in a drawn order has each copy perturbed on its own."""
        if self.family.order == "drawn":
            return gradient
        copies = gradient.reshape(self.objective.copies(self.family), -1, 2, *gradient.shape[1:])
        return copies.sum((0, 2), keepdim=True).expand_as(copies).reshape(gradient.shape)


def measure(gains: Tensor) -> dict[str, float]:
    """The numbers of `PreferenceLoss.columns`, from (P, 2) gains of the chosen and of the rejected replies."""
    margin = gains[:, 0] - gains[:, 1]
    return {
        "accuracy": float(preferred(margin).mean()),
        "margin": float(margin.mean()),
        "chosen": float(gains[:, 0].mean()),
        "rejected": float(gains[:, 1].mean()),
    }


def preferred(margin: Tensor) -> Tensor:
    """(P,) margins -> 1 where the chosen reply is preferred, 0 where the other one is, 1/2 where neither is."""
    return margin.round(decimals=4).sign() / 2 + 0.5
