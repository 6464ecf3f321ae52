"""The output head: hidden states to logits, or straight to the nats of given ids."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy, linear, pad

from remask.model.eager import NegativeLogLikelihood, by_blocks, for_products
from remask.model.sizes import Architecture


class Head(nn.Linear):
    """Turns hidden states into logits over the V ids that can be predicted, or into -log p of given ids."""

    def __init__(self, a: Architecture) -> None:
        super().__init__(a.width, a.predicted, bias=False)
        self.predicted = a.predicted
        self.compiled: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
        """The compiled form of `nll`; None in a network that was not compiled."""
        self.product: Callable[[Tensor], Tensor] | None = None
        """A faster product with the weight, (..., D) -> (..., V) (`packing`, `int8`); None: the plain one."""

    def reset_parameters(self) -> None:
        """Does nothing: weights are filled by `initialise` or by a checkpoint."""

    def forward(self, hidden: Tensor, target: Tensor | None = None) -> Tensor:
        """(..., D) -> (..., V) float32 logits; (N, D) and a target (N,) -> (N,) float32 nats."""
        rows = len(hidden)
        if hidden.ndim == 2 and hidden.device.type == "cpu" and (more := round_up(rows) - rows):
            hidden = pad(hidden, (0, 0, 0, more))
            if target is None:
                return self.predict(hidden, None)[:rows]
            return self.predict(hidden, pad(target, (0, more)))[:rows].clone()  # no view, which FSDP warns of
        return self.predict(hidden, target)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle holds: all but the compiled form, so that a copy is compiled when it is asked to."""
        return {**super().__getstate__(), "compiled": None}

    def predict(self, hidden: Tensor, target: Tensor | None) -> Tensor:
        """As `forward`, of exactly these rows."""
        if self.product is not None:
            if target is None:
                return self.product(hidden).float()
            return nll_by(self.product, self.predicted, hidden, target)
        weight = self.weight[: self.predicted]  # a tied head also has a row for the mask, which is not predicted
        if target is None:
            return linear(hidden, weight).float()
        if len(target) * self.predicted > LARGE and CHUNKED:
            return nll_in_chunks(hidden, weight, target)
        return (self.compiled or nll)(hidden, weight, target)


SIZES_AN_OCTAVE = 8
"""Between a number of rows and its double, the head is computed for so many different numbers."""


def round_up(rows: int) -> int:
    """The next of the few numbers of rows for which the head is computed: at most an eighth more.

    The number of asked positions differs from call to call, and for each number of rows oneDNN builds products of
    their own, which took a third of the head's time in training and up to two gigabytes of memory.
    """
    if rows <= 4 * SIZES_AN_OCTAVE:  # products of few rows are cheap to build, and packed ones have limits of their own
        return rows
    grain = 2 ** ((rows - 1).bit_length() - SIZES_AN_OCTAVE.bit_length())
    return -(-rows // grain) * grain


def select(hidden: Tensor, ask: Tensor) -> Tensor:
    """(B, Q, D) hidden states and (B, Q) bool -> (N, D), those of the asked positions, row by row."""
    return hidden.flatten(0, 1).index_select(0, ask.flatten().nonzero()[:, 0])


def nll(hidden: Tensor, head: Tensor, target: Tensor) -> Tensor:
    """(N, D) hidden states, (V, D) head weights, (N,) ids -> (N,) float32 nats, -log p of each id."""
    if by_blocks(hidden):
        dtype = for_products(hidden)
        return NegativeLogLikelihood.apply(hidden.to(dtype), head.to(dtype), target)
    return cross_entropy(linear(hidden, head).float(), target, reduction="none")


def nll_by(product: Callable[[Tensor], Tensor], predicted: int, hidden: Tensor, target: Tensor) -> Tensor:
    """`nll` with another product, (N, D) -> (N, V), for at most `LARGE` logits at once."""
    rows = max(1, LARGE // predicted)
    parts = zip(hidden.split(rows), target.split(rows), strict=True)
    return torch.cat([cross_entropy(product(h).float(), t, reduction="none") for h, t in parts])


def nll_to_compile(hidden: Tensor, head: Tensor, target: Tensor) -> Tensor:
    """`nll` in a form that, once compiled, writes the (N, V) logits to memory once, in the dtype of the product."""
    logits = linear(hidden, head).float()
    return logits.logsumexp(-1) - logits.gather(-1, target[:, None])[:, 0]


LARGE = 2**28
"""Number of logits in one call above which they are computed in chunks (half a gigabyte in bfloat16)."""
CHUNKED = hasattr(torch.nn, "LinearCrossEntropyOptions")
"""Whether torch has the chunked cross entropy, which came with version 2.13."""


def nll_in_chunks(hidden: Tensor, head: Tensor, target: Tensor) -> Tensor:
    """`nll` without holding all (N, V) logits at once: less than half of the memory, up to twice the time."""
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, head = hidden.to(dtype), head.to(dtype)
    options = torch.nn.LinearCrossEntropyOptions()
    return functional.linear_cross_entropy(hidden, head, target, reduction="none", options=options).float()
