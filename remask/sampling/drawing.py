"""Draws a token from a prediction, with temperature, top-k and top-p."""

import torch
from torch import Tensor

Number = float | Tensor
"""One number for all predictions, or (N,) a number for each."""


def log_probs(logits: Tensor, temperature: Number = 1.0, top_p: Number = 1.0, top_k: int | Tensor = 0) -> Tensor:
    """(N, V) logits -> (N, V) float64 log-probabilities of the tokens that may be drawn.

    The temperature is applied first (0 keeps only the most probable token), then `top_k` (0: all tokens), then
    `top_p`. Of equally probable tokens those with the lower ids are kept.
    """
    logits = logits.double()
    if not _equal((top_p, top_k), (1.0, 0)) or isinstance(temperature, Tensor):
        return _log_probs_by_row(logits, temperature, top_p, top_k)
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter_(-1, best, 0.0)
    return (logits / temperature).log_softmax(-1)


def _equal(options: tuple[Number, ...], numbers: tuple[float, ...]) -> bool:
    """Whether the options are these numbers, for all predictions."""
    return not any(isinstance(x, Tensor) for x in options) and options == numbers


def _log_probs_by_row(logits: Tensor, temperature: Number, top_p: Number, top_k: int | Tensor) -> Tensor:
    """`log_probs` with top-k or top-p, or with different options for each row. Temperature 0 is the same as top-k 1."""
    n, v = logits.shape
    heat, share, count = (
        torch.as_tensor(x, dtype=kind, device=logits.device).expand(n)[:, None]
        for x, kind in ((temperature, torch.float64), (top_p, torch.float64), (top_k, torch.int64))
    )
    count = torch.where(heat == 0, 1, torch.where(count == 0, v, count))
    share = torch.where(share == 1, torch.inf, share)  # rounded, probabilities may sum to 1 before the last token
    scaled = logits / torch.where(heat == 0, 1.0, heat)
    ordered, index = scaled.sort(stable=True, dim=-1, descending=True)
    ordered = ordered.masked_fill(torch.arange(v, device=logits.device) >= count, -torch.inf)
    p = ordered.softmax(-1)
    ordered = ordered.masked_fill(p.cumsum(-1) - p >= share, -torch.inf).log_softmax(-1)
    return torch.empty_like(logits).scatter_(-1, index, ordered)


def log_prob(
    logits: Tensor, tokens: Tensor, temperature: Number = 1.0, top_p: Number = 1.0, top_k: int | Tensor = 0
) -> Tensor:
    """(N, V) logits, (N,) tokens -> (N,) float64 log-probabilities of drawing these tokens."""
    if _equal((temperature, top_p, top_k), (1.0, 1.0, 0)):
        return (logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)).double()
    return log_probs(logits, temperature, top_p, top_k).gather(-1, tokens[:, None])[:, 0]


def invert(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """(N, V) float64 log-probabilities, (N,) uniforms -> (N,) tokens: the inverse of the cumulative distribution.

    Each position takes one uniform, in float64. So the draw is not truncated, as with Gumbel noise in float32 (Zheng et
    al. 2024).
    """
    total = log_probs.exp().cumsum(-1)
    token = torch.searchsorted(total, uniform[:, None] * total[:, -1:], right=True)[:, 0]
    return token.clamp(max=log_probs.shape[-1] - 1)
