"""The network of MDLM, Duo and Eso-LM: a diffusion transformer whose layers are modulated by the noise level.

LayerNorm without bias, one matrix for queries, keys and values, rotary positions, GELU, adaLN (Peebles & Xie 2023), an
untied head with bias. It is called in the same way as `Transformer`, so that every family, sampler and estimator works
with it. Parameters are named as in the published checkpoints (s-sahoo/scaling-dllms, models/dit.py).

Shapes: B batch, Q positions read, N asked positions, D width, H heads, d head width, V ids.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, layer_norm, silu

from remask import machine
from remask.errors import RemaskError
from remask.model.attention import FULL, Attention
from remask.model.cache import Cache
from remask.model.head import select
from remask.model.reading import Reading, locate
from remask.model.rotary import rotate
from remask.model.sizes import Architecture
from remask.model.soft import Soft, embed

FREQUENCIES = 256
"""Number of sinusoids in the embedding of the noise level."""
IMPOSSIBLE = -1e6
"""Logit of an id that is never predicted; finite, so that guidance may subtract it from itself."""


@dataclass(frozen=True, kw_only=True)
class DiTArchitecture(Architecture):
    """All settings of a `DiT`. Where `time` is False, the network reads noise level 0 whatever the time is."""

    adaln: bool = True
    """Whether layers have adaLN modulations; the causal baseline of MDLM, Duo and Eso-LM has none."""
    condition: int = 128
    """Width of the embedded noise level."""
    noise_eps: float = 1e-3
    """Share of tokens that are still clean at time 1. The network reads the noise level -log alpha(t), with
    alpha(t) = 1 - (1 - noise_eps) t."""
    silent: int | None = None
    """An id that is never predicted although the head has a row for it, such as the mask."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.time and not self.adaln:
            raise RemaskError("a DiT without adaLN cannot be conditioned on time")
        if self.silent is not None and not 0 <= self.silent < self.predicted:
            raise RemaskError(f"the silent id {self.silent} is not among the {self.predicted} predicted ones")
        for name in ("tied", "shifted", "qkv_bias", "qk_norm", "rope_bf16", "convolution"):
            if getattr(self, name):
                raise RemaskError(f"architecture.{name} is not for a DiT")
        if self.kv_heads != self.heads or self.head_width * self.heads != self.width:
            raise RemaskError("a DiT has as many key-value heads as heads, which together are as wide as the stream")

    @property
    def _time_parameters(self) -> int:
        """Parameters of the embedding of the noise level and of the adaLN modulations."""
        if not self.adaln:
            return 0
        c = self.condition
        return (FREQUENCIES + 1) * c + (c + 1) * c + (c + 1) * (6 * self.layers + 2) * self.width

    @property
    def non_embedding(self) -> int:
        block = 4 * self.width**2 + 2 * self.width * self.ffn + self.ffn + self.width + 2 * self.width
        return self.layers * block + self.width + self._time_parameters

    @property
    def parameters(self) -> int:
        return self.non_embedding + self.width * self.rows + (self.width + 1) * self.predicted

    def flops(self, length: int, *, asked: float = 1.0, causal: bool = False) -> float:
        pairs = (length + 1) / 2 if causal else length
        matrices = self.layers * (4 * self.width**2 + 2 * self.width * self.ffn) + self._time_parameters / length
        attention = 4 * pairs * self.width * self.layers
        return 3 * (2 * matrices + attention + 2 * self.width * self.predicted * asked)


class DiT(nn.Module):
    """A `Denoiser`: tokens and noise level in, logits at the asked positions out."""

    def __init__(self, architecture: DiTArchitecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.vocab_embed = nn.Embedding(a.rows, a.width)
        self.sigma_map = Level(a.condition) if a.adaln else None
        self.blocks = nn.ModuleList(DiTBlock(a, i) for i in range(a.layers))
        self.output_layer = Output(a)

    def forward(
        self,
        tokens: Tensor | Soft,
        *,
        index: Tensor | None = None,
        ask: Tensor | None = None,
        target: Tensor | None = None,
        time: Tensor | None = None,
        attention: Attention = FULL,
        positions: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """As `Transformer.forward`: (N, V) float32 logits at the asked positions, or (N,) nats of a target there."""
        _, reading = locate(self.architecture, tokens, index, attention, positions, cache)
        level = self._level(time, tokens.device)
        x = embed(tokens, self.vocab_embed.weight)  # (B, Q, D)
        for block in self.blocks:
            # a cache grows from call to call, so that what is compiled would have to be compiled again
            x = block(x, reading, level) if cache is None else block.forward(x, reading, level)
        logits = self.output_layer(x, level, ask).float()
        if self.architecture.silent is not None:
            logits[..., self.architecture.silent] = IMPOSSIBLE
        return logits if target is None else cross_entropy(logits, target, reduction="none")

    def _level(self, time: Tensor | None, device: torch.device) -> Tensor | None:
        """(1 or B, 1, C) or (B, Q, C) embeddings of the noise level -log alpha(t); None without adaLN."""
        if self.sigma_map is None:
            return None
        a = self.architecture
        if not a.time:
            return self.sigma_map(torch.zeros(1, 1, device=device))
        if time is None:
            raise RemaskError("this network is conditioned on time, but the call gave none")
        sigma = -torch.log1p(-(1 - a.noise_eps) * time.float())
        return self.sigma_map(sigma[:, None] if sigma.ndim == 1 else sigma)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles the blocks in place."""
        machine.compile_correctly()
        for block in self.blocks:
            block.compile(*args, **kwargs)

    @contextmanager
    def eagerly(self) -> Iterator[None]:
        """A context in which a compiled network runs as if it were not."""
        compiled = [block._compiled_call_impl for block in self.blocks]
        for block in self.blocks:
            block._compiled_call_impl = None
        try:
            yield
        finally:
            for block, call in zip(self.blocks, compiled, strict=True):
                block._compiled_call_impl = call

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.vocab_embed.weight.device


class DiTBlock(nn.Module):
    """Attention and an MLP; for each, adaLN shifts and scales the input and gates the output."""

    def __init__(self, a: DiTArchitecture, index: int) -> None:
        super().__init__()
        self.index, self.head_width = index, a.head_width
        self.norm1 = Norm(a)
        self.attn_qkv = nn.Linear(a.width, 3 * a.width, bias=False)
        self.attn_out = nn.Linear(a.width, a.width, bias=False)
        self.norm2 = Norm(a)
        self.mlp = nn.Sequential(nn.Linear(a.width, a.ffn), nn.GELU(approximate="tanh"), nn.Linear(a.ffn, a.width))
        self.adaLN_modulation = nn.Linear(a.condition, 6 * a.width) if a.adaln else None

    def forward(self, x: Tensor, reading: Reading, level: Tensor | None) -> Tensor:
        if self.adaLN_modulation is None:
            x = x + self.attention(self.norm1(x), reading)
            return x + self.mlp(self.norm2(x))
        a, b, c, d, e, f = self.adaLN_modulation(level).chunk(6, -1)  # shift, scale, gate; twice
        x = x + c * self.attention(modulate(self.norm1(x), a, b), reading)
        return x + f * self.mlp(modulate(self.norm2(x), d, e))

    def attention(self, x: Tensor, reading: Reading) -> Tensor:
        """(B, Q, D) -> (B, Q, D)."""
        q, k, v = self.attn_qkv(x).unflatten(-1, (3, -1, self.head_width)).permute(2, 0, 3, 1, 4)  # (B, H, S, d)
        q, k = rotate(q, *reading.table), rotate(k, *reading.table)
        if reading.cache is not None and reading.index is not None:
            k, v = reading.cache.update(self.index, reading.index, k, v)
        return self.attn_out(reading.attend(q, k, v).transpose(1, 2).flatten(2))


class Output(nn.Module):
    """The final norm with its adaLN modulation, and the head (`linear`)."""

    def __init__(self, a: DiTArchitecture) -> None:
        super().__init__()
        self.norm_final = Norm(a)
        self.linear = nn.Linear(a.width, a.predicted)
        self.adaLN_modulation = nn.Linear(a.condition, 2 * a.width) if a.adaln else None

    def forward(self, x: Tensor, level: Tensor | None, ask: Tensor | None) -> Tensor:
        """(B, Q, D) -> (B, Q, V) logits, or (N, V) at the asked positions, (B, Q) bool."""
        x = self.norm_final(x)
        if self.adaLN_modulation is not None:
            x = modulate(x, *self.adaLN_modulation(level).chunk(2, -1))
        return self.linear(x if ask is None else select(x, ask))


class Level(nn.Module):
    """(B, 1) or (B, Q) noise levels -> (..., C): sinusoids of the level, then two linear layers."""

    def __init__(self, condition: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, condition), nn.SiLU(), nn.Linear(condition, condition))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.parameters()).dtype

    def forward(self, sigma: Tensor) -> Tensor:
        half = FREQUENCIES // 2
        frequency = torch.exp(torch.arange(half, device=sigma.device) * (-math.log(1e4) / half))
        angle = sigma[..., None] * frequency
        return silu(self.mlp(torch.cat([angle.cos(), angle.sin()], -1).to(self.dtype)))


class Norm(nn.Module):
    """LayerNorm in float32 with a gain and no bias."""

    def __init__(self, a: DiTArchitecture) -> None:
        super().__init__()
        self.eps = a.norm_eps
        self.weight = nn.Parameter(torch.ones(a.width))

    def forward(self, x: Tensor) -> Tensor:
        return (layer_norm(x.float(), x.shape[-1:], eps=self.eps) * self.weight).to(x.dtype)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN: x (1 + scale) + shift."""
    return x * (1 + scale) + shift
