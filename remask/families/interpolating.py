"""Interpolating diffusion (Eso-LM): part of a text is denoised in random order, the rest written left to right.

With alpha(t) = alpha_0 (1 - t) a token is still hidden at time 0 with probability 1 - alpha_0, and those are written
one by one (Sahoo et al. 2025, *Esoteric Language Models*):

    -log p(x) <= E_{z_0}                   sum_{i hidden} -log p(x_i | z_0, x_<i)
                 + E_t alpha_0/(1 - alpha_t) sum_{i hidden} -log p(x_i | z_t)

alpha_0 = 1 is masked diffusion, alpha_0 = 0 the autoregressive model. The network is causal in the order of writing:
it reads what is known first, then the masks, each at its own rotary position. So keys and values of written tokens
never change, and sampling caches them without error.

Variant A lets the known tokens see each other, B does not, and is the one with a cache and with `in_order`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from remask.batch import Batch, Noise, strata
from remask.errors import RemaskError, unknown
from remask.families.base import Family, Loss, Order, Time
from remask.families.denoiser import Denoiser, Noisy, per_row
from remask.families.rates import CEILING, MaskRates
from remask.model.attention import CAUSAL, FULL, Attention, Front, TwoStreams
from remask.model.sizes import Architecture

Variant = Literal["A", "B"]
Objective = Literal["bound", "low_variance"]


@dataclass(frozen=True, kw_only=True)
class Interpolating(MaskRates, Family):
    """Between masked diffusion and left to right, on a network that is causal in the order of writing."""

    order: ClassVar[Order] = "drawn"
    time: ClassVar[Time] = "none"
    sampler: ClassVar[str] = "EsoLM"

    alpha_0: float = 1.0
    """Share of the tokens that diffusion writes; the others are written left to right behind them."""
    variant: Variant = "B"
    """B: the network is causal throughout and can be cached. A: known tokens all see each other."""
    objective: Objective | None = None
    """What training minimises in the diffusion term: bound, or low_variance, weight 1 at all times, which is not a
    bound. By default low_variance where alpha_0 is 1, as published, and bound elsewhere."""
    eps: float = 1e-3
    """Smallest time in training; the bound is drawn at all times."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha_0 <= 1:
            raise RemaskError(f"alpha_0 is {self.alpha_0}; it must be from 0 (left to right) to 1 (diffusion)")
        if self.variant not in get_args(Variant):
            raise unknown("variant", self.variant, get_args(Variant))
        if self.objective is not None and self.objective not in get_args(Objective):
            raise unknown("objective", self.objective, get_args(Objective))
        if not 0 <= self.eps < 1:
            raise RemaskError(f"eps is {self.eps}; it must be at least 0 and below 1")
        self.check_rates(self.minimised)

    @property
    def minimised(self) -> Objective:
        """The objective, the default in place of None."""
        return self.objective or ("low_variance" if self.alpha_0 == 1 else "bound")

    # what is hidden, and in which order it is read

    def alpha(self, t: Any) -> Any:
        """alpha_0 (1 - t), the share of the tokens that diffusion has written by time t."""
        return self.alpha_0 * (1 - t)

    def corrupt(self, batch: Batch, rng: Noise, levels: Tensor | None = None) -> Noisy:
        """The diffusion term: tokens hidden independently, with the weights of the objective."""
        levels = batch.levels(rng) if levels is None else levels
        which, order = (batch.draw((batch.tokens.shape[1],), rng) for _ in range(2))
        return self.diffusion_inputs(batch, *self.masks(batch.scored, levels, which), order)

    def masks(self, scored: Tensor, levels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L) bool, tokens that diffusion has not written at `levels` (B,), and each row's weight, (B,) float32."""
        p = 1 - self.alpha_0 + self.alpha_0 * ((1 - self.eps) * levels + self.eps)
        weight = torch.ones_like(p) if self.minimised == "low_variance" else self.alpha_0 / p
        return (uniform < p[:, None]) & scored, weight

    def inputs_for(self, batch: Batch, ask: Tensor, weight: Tensor) -> Noisy:
        """The row with the asked positions hidden, those before and those after in the order of the text."""
        if self.alpha_0 == 0:
            return self.sequential_inputs(batch, ask, weight=weight)
        return self.diffusion_inputs(batch, ask, weight, text_order(ask))

    def diffusion_inputs(self, batch: Batch, hidden: Tensor, weight: Tensor, order: Tensor) -> Noisy:
        """Known tokens, then masks, both sorted by `order`, (B, L) in [0, 1). `weight` is as in `inputs_for`."""
        order = sorted_by(batch.scored, hidden, order, order)
        tokens, ask = batch.tokens.gather(1, order), hidden.gather(1, order)
        return Noisy(
            tokens=tokens.masked_fill(ask, self.mask),
            ask=ask,
            target=tokens[ask],
            weight=batch.weigh(weight).gather(1, order)[ask],
            attention=self.front_rule((~hidden).sum(1)) & batch.visible(FULL).at(order),
            positions=rotary_positions(batch, order),
        )

    def sequential_inputs(
        self, batch: Batch, hidden: Tensor, order: Tensor | None = None, weight: Tensor | None = None
    ) -> Noisy:
        """[z_0 ; x], from which one pass predicts each hidden token given the known ones and the hidden ones before it.

        `order`, (B, L) in [0, 1), sorts the known tokens; where it is None, or alpha_0 = 0, they keep their order.
        """
        text = text_order(hidden)
        order = sorted_by(batch.scored, hidden, text if order is None or self.alpha_0 == 0 else order, text)
        return self.chain_inputs(batch, hidden, order, (~hidden).sum(1), weight)

    def chain_inputs(
        self,
        batch: Batch,
        hidden: Tensor,
        order: Tensor,
        known: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Noisy:
        """[z ; x], from which one pass predicts each hidden token given all before it in `order`, (B, L) positions.

        `known` (B,) is the number of tokens in front that see each other in variant A.
        """
        length = order.shape[1]
        weight = torch.ones(len(order), device=order.device) if weight is None else weight
        x, ask = batch.tokens.gather(1, order), hidden.gather(1, order)
        twice = torch.cat([order, order], 1)
        front = known if self.variant == "A" else None
        return Noisy(
            tokens=torch.cat([x.masked_fill(ask, self.mask), x], 1),
            ask=torch.cat([ask, torch.zeros_like(ask)], 1),
            target=x[ask],
            weight=batch.weigh(weight).gather(1, order)[ask],
            attention=TwoStreams(length, front=front) & batch.visible(FULL).at(twice),
            positions=rotary_positions(batch, twice),
        )

    def front_rule(self, known: Tensor) -> Attention:
        """The attention rule where `known` (B,) tokens stand in front of the masks."""
        return Front(known) if self.variant == "A" else CAUSAL

    # losses

    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        """Nats of both terms. Where 0 < alpha_0 < 1, each row serves one of them and counts double.

        The rows of the global batch alternate between the terms, and a coin says which term has the even rows: so in
        the mean both weigh alike for any number of rows. Levels are stratified over the rows of the diffusion term.
        """
        mixed, device = 0 < self.alpha_0 < 1, batch.tokens.device
        global_rows = batch.global_rows or len(batch.tokens)
        number = torch.arange(batch.offset, batch.offset + len(batch.tokens))  # of each row in the global batch
        if mixed:
            parity = int(torch.randint(2, (), generator=rng, device=rng.device))
            is_diffusion, stratum = number % 2 == parity, number // 2
            levels = strata(len(range(parity, global_rows, 2)), rng)
        else:
            is_diffusion, stratum = torch.full_like(number, self.alpha_0 == 1, dtype=torch.bool), number
            levels = strata(global_rows, rng)
        which, order, left = (batch.draw((batch.tokens.shape[1],), rng) for _ in range(3))
        total = torch.zeros((), device=device)
        if bool(is_diffusion.any()):
            rows = is_diffusion.nonzero()[:, 0].to(device)
            part, times = batch.at(rows), self.training_levels(levels[stratum[is_diffusion]], batch.progress).to(device)
            hidden, weight = self.masks(part.scored, times, which[rows])
            total = total + self.token_loss(denoiser, self.diffusion_inputs(part, hidden, weight, order[rows])).sum()
        if not bool(is_diffusion.all()):
            rows = (~is_diffusion).nonzero()[:, 0].to(device)
            part = batch.at(rows)
            hidden = self.left(part.scored, left[rows])
            total = total + self.token_loss(denoiser, self.sequential_inputs(part, hidden, order[rows])).sum()
        return Loss(total * (2 if mixed else 1), int(batch.scored.sum()))

    def bound(self, denoiser: Denoiser, batch: Batch, rng: Noise, levels: Tensor | None = None) -> Tensor:
        """(B,) float64: one draw of both terms, the diffusion term with exactly k tokens hidden.

        With k drawn as `counts` says and weight alpha_0 L/k the mean is that of independent masks, and varies less.
        Exact where alpha_0 = 0.
        """
        total = torch.zeros(len(batch.tokens), dtype=torch.float64, device=batch.tokens.device)
        if self.alpha_0 > 0:
            levels = batch.levels(rng) if levels is None else levels
            which, order = (batch.draw((batch.tokens.shape[1],), rng) for _ in range(2))
            length = batch.scored.sum(1).clamp(min=1)
            k = self.counts(length, levels)
            hidden = (which.masked_fill(~batch.scored, 2.0).argsort(1).argsort(1) < k[:, None]) & batch.scored
            noisy = self.diffusion_inputs(batch, hidden, self.alpha_0 * length / k, order)
            total += per_row(self.token_loss(denoiser, noisy), noisy.ask)
        if self.alpha_0 < 1:
            left, order = (batch.draw((batch.tokens.shape[1],), rng) for _ in range(2))
            noisy = self.sequential_inputs(batch, self.left(batch.scored, left), order)
            total += per_row(self.token_loss(denoiser, noisy), noisy.ask)
        return total

    def left(self, scored: Tensor, uniform: Tensor) -> Tensor:
        """(B, L) bool: the tokens that diffusion leaves to be written from left to right."""
        return (uniform >= self.alpha_0) & scored

    def counts(self, length: Tensor, levels: Tensor) -> Tensor:
        """(B,) numbers k of hidden tokens among `length` (B,), for stratified `levels` (B,) in [0, 1).

        k has the law P(Bin(L, 1 - alpha_0) < k) / (alpha_0 L), since for the integral over p = 1 - alpha(t) of the
        chance of k masks, C(L, k) p^(k-1) (1-p)^(L-k), is P(Bin(L, 1 - alpha_0) < k) / k. Even, where alpha_0 = 1.
        """
        n, q = length.double()[:, None], 1 - self.alpha_0
        b = torch.arange(int(length.max()) + 1, dtype=torch.float64, device=length.device)
        choose = torch.lgamma(n + 1) - torch.lgamma(b + 1) - torch.lgamma((n - b).clamp(min=0) + 1)
        log = (
            choose
            + torch.special.xlogy(b, torch.full_like(n, q))
            + torch.special.xlogy(n - b, torch.full_like(n, 1 - q))
        )
        below = log.exp().masked_fill(b > n, 0.0).cumsum(1).masked_fill(b >= n, 0.0)  # P(Bin < b + 1), b + 1 to L
        share = below.cumsum(1) / below.sum(1, keepdim=True)
        return 1 + torch.searchsorted(share, levels.double()[:, None], right=True)[:, 0].clamp(max=length - 1)

    # the likelihood of an order

    def writing_order(self, hidden: Tensor, uniform: Tensor) -> Tensor:
        """(B, L) float64 that sorts a text as it is written: known tokens, those of diffusion, those left to right.

        `uniform` (B, L): diffusion writes the hidden tokens below alpha_0, in this order.
        """
        text, uniform = text_order(hidden), uniform.double()
        known = text if self.alpha_0 == 0 else uniform
        return torch.where(hidden, torch.where(uniform < self.alpha_0, 1 + uniform, 2 + text), known)

    def in_order(self, denoiser: Denoiser, batch: Batch, uniform: Tensor) -> Tensor:
        """(B,) float64 nats, -log p(x | the order that `uniform`, (B, L), gives), of variant B, one token at a time.

        This is the likelihood of the sampler that writes one token at a time: -log of the mean of p over orders tends
        to its -log p(x). It is no estimate of `bound`, where a mask sees the masks before it; here it sees none.
        """
        if self.variant != "B":
            raise RemaskError("orders have a likelihood of their own in variant B only: in A a token's reading changes")
        noisy = self.chain_inputs(batch, batch.scored, self.writing_order(batch.scored, uniform).argsort(1))
        return per_row(self.token_loss(denoiser, noisy), noisy.ask)

    # what others ask of a family

    @property
    def default_ceiling(self) -> float:
        return CEILING if self.minimised == "low_variance" else 1.0

    @property
    def has_curriculum(self) -> bool:
        return self.changes_rates

    @property
    def known_see_each_other(self) -> bool:
        return self.variant == "A"

    @property
    def exact(self) -> bool:
        """With alpha_0 = 0 there is only one order, from left to right."""
        return self.alpha_0 == 0

    @property
    def estimators(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("exact",) if self.exact else ("draws", "orders")

    @property
    def reads(self) -> float:  # type: ignore[override]
        """The sequential term reads every row twice; between 0 and 1 it serves half of the rows."""
        return {0.0: 2.0, 1.0: 1.0}.get(self.alpha_0, 1.5)

    def flops(self, architecture: Architecture, length: int) -> float:
        hidden = 1 - self.alpha_0 + self.alpha_0 * self.mean_rate, 1 - self.alpha_0
        one = architecture.flops(length, asked=hidden[0], causal=self.variant == "B")
        two = 2 * architecture.flops(length, asked=hidden[1] / 2, causal=True)
        return (2 - self.reads) * one + (self.reads - 1) * two


def text_order(like: Tensor) -> Tensor:
    """(B, L) float64 in [0, 1), increasing from left to right; (B, L) is the shape of `like`."""
    length = like.shape[1]
    return (torch.arange(length, dtype=torch.float64, device=like.device) / length).expand(like.shape)


def sorted_by(scored: Tensor, hidden: Tensor, known: Tensor, unknown: Tensor) -> Tensor:
    """(B, L) positions in the order in which the network reads them: given, then written, then hidden ones.

    Given and written positions are sorted by `known`, hidden ones by `unknown`, both in [0, 1). So a prompt comes
    first, as it does in sampling.
    """
    return torch.where(hidden, 2 + unknown.double(), scored + known.double()).argsort(dim=1, stable=True)


def rotary_positions(batch: Batch, order: Tensor) -> Tensor:
    """(B, S) rotary positions of what is read in `order`."""
    own = batch.positions()
    return order if own is None else own.gather(1, order)
