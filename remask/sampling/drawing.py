"""What to write at a chosen position: a draw from the prediction, sharpened or cut."""

import torch
from torch import Tensor

Number = float | Tensor
"""One number for all, or (N,) one for each."""


def log_probs(logits: Tensor, temperature: Number = 1.0, top_p: Number = 1.0, top_k: int | Tensor = 0) -> Tensor:
    """(N, V) logits -> (N, V) float64 log-probabilities of what is written.

    Temperature 0 leaves the most probable token alone; then `top_k` (0: all) and then `top_p` cut what is left. Of
    equally probable tokens the first are kept.
    """
    logits = logits.double()
    if not _equal((top_p, top_k), (1.0, 0)) or isinstance(temperature, Tensor):
        return _log_probs_by_row(logits, temperature, top_p, top_k)
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter_(-1, best, 0.0)
    return (logits / temperature).log_softmax(-1)


def _equal(options: tuple[Number, ...], numbers: tuple[float, ...]) -> bool:
    """Whether options are these numbers for all rows at once."""
    return not any(isinstance(x, Tensor) for x in options) and options == numbers


def _log_probs_by_row(logits: Tensor, temperature: Number, top_p: Number, top_k: int | Tensor) -> Tensor:
    """`log_probs` with cuts, or where rows differ: temperature 0 is the same as keeping one token."""
    n, v = logits.shape
    heat, share, count = (
        torch.as_tensor(x, dtype=kind, device=logits.device).expand(n)[:, None]
        for x, kind in ((temperature, torch.float64), (top_p, torch.float64), (top_k, torch.int64))
    )
    count = torch.where(heat == 0, 1, torch.where(count == 0, v, count))
    share = torch.where(share == 1, torch.inf, share)  # a sum of probabilities may reach 1 before the last
    scaled = logits / torch.where(heat == 0, 1.0, heat)
    ordered, index = scaled.sort(stable=True, dim=-1, descending=True)
    ordered = ordered.masked_fill(torch.arange(v, device=logits.device) >= count, -torch.inf)
    p = ordered.softmax(-1)
    ordered = ordered.masked_fill(p.cumsum(-1) - p >= share, -torch.inf).log_softmax(-1)
    return torch.empty_like(logits).scatter_(-1, index, ordered)


def log_prob(
    logits: Tensor, tokens: Tensor, temperature: Number = 1.0, top_p: Number = 1.0, top_k: int | Tensor = 0
) -> Tensor:
    """(N, V) logits, (N,) tokens -> (N,) float64 log-probabilities with which they are written."""
    if _equal((temperature, top_p, top_k), (1.0, 1.0, 0)):
        return (logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)).double()
    return log_probs(logits, temperature, top_p, top_k).gather(-1, tokens[:, None])[:, 0]


def invert(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """(N, V) float64 log-probabilities, (N,) uniforms -> (N,) tokens: the inverse of the cumulative distribution.

    One uniform a position, in float64: the truncation of a Gumbel in float32 cannot occur (Zheng et al. 2024).
    """
    total = log_probs.exp().cumsum(-1)
    found = torch.searchsorted(total, uniform[:, None] * total[:, -1:], right=True)[:, 0]
    return found.clamp(max=log_probs.shape[-1] - 1)
