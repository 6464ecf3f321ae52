"""What to write at a chosen position: a draw from the prediction, sharpened or cut."""

import torch
from torch import Tensor

Number = float | Tensor
"""One number for all, or (N,) one for each."""


def log_probs(logits: Tensor, temperature: Number = 1.0, top_p: Number = 1.0, top_k: int | Tensor = 0) -> Tensor:
    """(N, V) logits -> (N, V) float64 log-probabilities of what is written.

    Temperature 0 leaves the most probable token alone; then `top_k` (0: all) and then `top_p` cut what is left.
    """
    logits = logits.double()
    if isinstance(temperature, Tensor) or isinstance(top_p, Tensor) or isinstance(top_k, Tensor):
        return _log_probs_by_row(logits, temperature, top_p, top_k)
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter_(-1, best, 0.0)
    logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        kept = logits.topk(top_k, -1)
        logits = torch.full_like(logits, -torch.inf).scatter_(-1, kept.indices, kept.values)
    if top_p < 1:
        ordered, index = logits.softmax(-1).sort(-1, descending=True)
        beyond = ordered.cumsum(-1) - ordered >= top_p
        logits = logits.masked_fill(beyond.scatter(-1, index, beyond), -torch.inf)
    return logits.log_softmax(-1)


def _log_probs_by_row(logits: Tensor, temperature: Number, top_p: Number, top_k: int | Tensor) -> Tensor:
    """`log_probs` where rows differ: temperature 0 is the same as keeping one token."""
    n, v = logits.shape
    heat, share, count = (
        torch.as_tensor(x, dtype=kind, device=logits.device).expand(n)[:, None]
        for x, kind in ((temperature, torch.float64), (top_p, torch.float64), (top_k, torch.int64))
    )
    count = torch.where(heat == 0, 1, torch.where(count == 0, v, count))
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
    if not isinstance(temperature, Tensor) and (temperature, top_p, top_k) == (1.0, 1.0, 0):
        return (logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)).double()
    return log_probs(logits, temperature, top_p, top_k).gather(-1, tokens[:, None])[:, 0]


def invert(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """(N, V) float64 log-probabilities, (N,) uniforms -> (N,) tokens: the inverse of the cumulative distribution.

    One uniform a position, in float64: the truncation of a Gumbel in float32 cannot occur (Zheng et al. 2024).
    """
    total = log_probs.exp().cumsum(-1)
    found = torch.searchsorted(total, uniform[:, None] * total[:, -1:], right=True)[:, 0]
    return found.clamp(max=log_probs.shape[-1] - 1)
