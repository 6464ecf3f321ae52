"""The one Transformer of every family, and of the autoregressive baseline.

Pre-RMSNorm, SwiGLU, rotary positions (half-split), grouped-query attention, no biases: the architecture of SMDM and
LLaDA, which is Llama's. Whether attention is causal is decided by the attention rule of the call, not by the weights.
Parameters are named as in Hugging Face's Llama.

Shapes: B batch, Q positions read, N asked positions, D width, H heads, G key-value heads, d head width, V predictable
ids. Asked positions are those at which the caller wants a prediction.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from remask import machine
from remask.errors import RemaskError
from remask.model.attention import FULL, Attention
from remask.model.cache import Cache
from remask.model.convolution import Convolution
from remask.model.eager import GatedProduct, Normalisation, by_blocks
from remask.model.head import Head, nll_to_compile, select
from remask.model.reading import LAST_HIDDEN, Reading, locate
from remask.model.rotary import rotate
from remask.model.sizes import FREQUENCIES, TIME, Architecture
from remask.model.soft import Soft, embed


class Transformer(nn.Module):
    """A `Denoiser`: it reads tokens and returns logits at the asked positions, or -log p of given targets there."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.model = Trunk(architecture)
        self.lm_head = Head(architecture)
        if architecture.tied:
            self.lm_head.weight = self.model.embed_tokens.weight

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
        """Reads Q tokens of each row and predicts.

        Arguments:
            tokens: (B, Q) ids or soft tokens.
            index: (B, Q) canvas positions of these tokens, -1 for a hole; None: 0 to Q - 1.
            ask: (B, Q) bool, the positions at which to predict; None: all.
            target: (N,) ids whose probability is wanted at the asked positions, row by row.
            time: (B,) or (B, Q) noise level, for a network that is conditioned on it.
            attention: which canvas position may see which.
            positions: (B, Q) rotary positions; None: the canvas positions.
            cache: keys and values of canvas positions that were read before; those of this call are added.

        Returns:
            Logits in float32, (N, V) at the asked positions or (B, Q, V) where `ask` is None; with a target
            (N,) float32 nats, -log p(target), without ever holding float32 logits.
        """
        return self.lm_head(self.hidden_states(tokens, index, ask, time, attention, positions, cache), target)

    def hidden_states(
        self,
        tokens: Tensor | Soft,
        index: Tensor | None = None,
        ask: Tensor | None = None,
        time: Tensor | None = None,
        attention: Attention = FULL,
        positions: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """What the head reads, for the arguments of `forward`: (N, D) at the asked positions, or (B, Q, D)."""
        positions, reading = locate(self.architecture, tokens, index, attention, positions, cache)
        # a cache grows from call to call, so that what is compiled would have to be compiled again
        trunk = self.model if cache is None else self.model.forward
        hidden = trunk(tokens, reading, time)
        if self.architecture.shifted:
            hidden = shift_hidden_states(hidden, positions, reading)
        return hidden if ask is None else select(hidden, ask)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles trunk and head in place, once. The number of asked positions may differ from call to call."""
        if self.lm_head.compiled is None:
            machine.compile_correctly()
            self.model.compile(*args, **kwargs)
            self.lm_head.compiled = torch.compile(nll_to_compile, *args, **{"dynamic": True, **kwargs})

    @contextmanager
    def eagerly(self) -> Iterator[None]:
        """A context in which a compiled network runs as if it were not; what else is compiled stays so."""
        trunk, head = self.model._compiled_call_impl, self.lm_head.compiled
        self.model._compiled_call_impl = self.lm_head.compiled = None
        try:
            yield
        finally:
            self.model._compiled_call_impl, self.lm_head.compiled = trunk, head

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.embed_tokens.weight.device


class Trunk(nn.Module):
    """Embedding, layers, final norm."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.embed_tokens = Embedding(a.rows, a.width)
        self.time_embed = TimeEmbedding() if a.time else None
        self.layers = nn.ModuleList(Block(a, i) for i in range(a.layers))
        self.norm = RMSNorm(a.width, eps=a.norm_eps)

    def forward(
        self,
        tokens: Tensor | Soft,
        reading: Reading,
        time: Tensor | None = None,
    ) -> Tensor:
        """(B, Q) ids -> (B, Q, D) normalised hidden states, which the head reads."""
        x = embed(tokens, self.embed_tokens.weight)
        level = self.time_embed(time) if self.time_embed is not None else None
        for layer in self.layers:
            x = layer(x, reading, level)
        return self.norm(x)


class Block(nn.Module):
    """Attention and SwiGLU, each of which reads a normalised copy of the residual stream and adds its output to it.

    Where the architecture has convolutions, each reads its neighbours' copies too.
    """

    def __init__(self, a: Architecture, index: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(a.width, eps=a.norm_eps)
        self.self_attn = SelfAttention(a, index)
        self.post_attention_layernorm = RMSNorm(a.width, eps=a.norm_eps)
        self.mlp = SwiGLU(a)
        self.modulation = nn.Linear(TIME, 6 * a.width) if a.time else None
        self.attention_conv = Convolution(a.convolution, a.width, 2 * index) if a.convolution else None
        self.mlp_conv = Convolution(a.convolution, a.width, 2 * index + 1) if a.convolution else None

    def forward(self, x: Tensor, reading: Reading, level: Tensor | None) -> Tensor:
        if self.modulation is None:
            x = x + self.self_attn(self.attention_input(x, reading), reading)
            return x + self.mlp(self.mlp_input(x, reading))
        # adaLN: a shift, a scale and a gate for attention and for SwiGLU; with zero weights they change nothing
        a, b, c, d, e, f = self.modulation(level).chunk(6, -1)
        x = x + (1 + c) * self.self_attn(self.attention_input(x, reading) * (1 + b) + a, reading)
        return x + (1 + f) * self.mlp(self.mlp_input(x, reading) * (1 + e) + d)

    def attention_input(self, x: Tensor, reading: Reading) -> Tensor:
        """What attention reads: (B, Q, D) -> (B, Q, D)."""
        x = self.input_layernorm(x)
        return (
            x
            if self.attention_conv is None
            else self.attention_conv(x, reading.neighbours, reading.index, reading.cache)
        )

    def mlp_input(self, x: Tensor, reading: Reading) -> Tensor:
        """What SwiGLU reads: (B, Q, D) -> (B, Q, D)."""
        x = self.post_attention_layernorm(x)
        return x if self.mlp_conv is None else self.mlp_conv(x, reading.neighbours, reading.index, reading.cache)


class SelfAttention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, a: Architecture, index: int) -> None:
        super().__init__()
        self.index, self.head_width = index, a.head_width
        self.q_proj = Linear(a.width, a.heads * a.head_width, a.qkv_bias)
        self.k_proj = Linear(a.width, a.kv_heads * a.head_width, a.qkv_bias)
        self.v_proj = Linear(a.width, a.kv_heads * a.head_width, a.qkv_bias)
        self.o_proj = Linear(a.heads * a.head_width, a.width)
        self.q_norm = RMSNorm(a.head_width, eps=a.norm_eps) if a.qk_norm else None
        self.k_norm = RMSNorm(a.head_width, eps=a.norm_eps) if a.qk_norm else None

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (B, H or G, Q, d)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, *reading.table), rotate(k, *reading.table)
        if reading.cache is not None and reading.index is not None:
            k, v = reading.cache.update(self.index, reading.index, k, v)
        return self.o_proj(reading.attend(q, k, v).transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.gate_proj = Linear(a.width, a.ffn)
        self.up_proj = Linear(a.width, a.ffn)
        self.down_proj = Linear(a.ffn, a.width)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        return self.down_proj(GatedProduct.apply(gate, up) if by_blocks(gate) else silu(gate) * up)


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean x^2 + eps) * weight."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.weight is not None and self.eps is not None
        return Normalisation.apply(x, self.weight, self.eps) if by_blocks(x) else super().forward(x)


class Linear(nn.Linear):
    """A linear layer that starts with uninitialised weights: `initialise` or a checkpoint sets them."""

    def __init__(self, wide: int, out: int, bias: bool = False) -> None:
        super().__init__(wide, out, bias=bias)

    def reset_parameters(self) -> None:
        """Does nothing: drawing weights that are overwritten afterwards would take seconds."""


class Embedding(nn.Embedding):
    """An embedding that starts with uninitialised weights, as `Linear`."""

    def reset_parameters(self) -> None:
        """Does nothing, as in `Linear`."""


class TimeEmbedding(nn.Module):
    """(B,) or (B, Q) noise levels in [0, 1] -> (B, 1, 128) or (B, Q, 128): sinusoids, then two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(FREQUENCIES, TIME)
        self.outer = nn.Linear(TIME, TIME)

    def forward(self, time: Tensor | None) -> Tensor:
        if time is None:
            raise RemaskError("this network is conditioned on time, but the call gave none")
        half = FREQUENCIES // 2
        frequency = 1000 * torch.exp(torch.arange(half, device=time.device) * (-math.log(1e4) / half))
        angle = (time[:, None] if time.ndim == 1 else time)[..., None].float() * frequency
        waves = torch.cat([angle.cos(), angle.sin()], -1).to(self.inner.weight.dtype)
        return silu(self.outer(silu(self.inner(waves))))


def shift_hidden_states(hidden: Tensor, positions: Tensor, reading: Reading) -> Tensor:
    """(B, Q, D) hidden states, each replaced by that of the canvas position before it, for `Architecture.shifted`.

    The first position of a text (rotary position 0) keeps its own. With a cache, the position before may have been
    read in an earlier call; without one, it must be read in this call.
    """
    index, cache = reading.index, reading.cache
    if index is None:
        before = torch.cat([hidden[:, :1], hidden[:, :-1]], 1)
    else:
        if cache is not None:
            canvas = cache.update_hidden(LAST_HIDDEN, index, hidden)
        else:
            canvas = hidden.new_zeros(len(hidden), int(index.max()) + 2, hidden.shape[2])
            canvas = canvas.scatter(1, (index + 1)[..., None].expand_as(hidden), hidden)[:, 1:]
        before = canvas.gather(1, (index - 1).clamp(min=0)[..., None].expand_as(hidden))
    return torch.where((positions == 0)[..., None], hidden, before)


Initialisation = Literal["smdm", "normal"]


@torch.no_grad()
def initialise(model: Transformer, rule: Initialisation, rng: torch.Generator) -> None:
    """Draws the initial weights.

    smdm: N(0, 2/(5 D)), but N(0, 1/(D layers^2)) for the matrices whose output is added to the residual stream.
    normal: a standard deviation of 0.02, divided by sqrt(2 layers) for those matrices (GPT-2). Convolutions start as
    N(0, 0.2^2) in both.
    """
    a = model.architecture
    inner = {"smdm": math.sqrt(2 / (5 * a.width)), "normal": 0.02}[rule]
    added = {"smdm": 1 / (math.sqrt(a.width) * a.layers), "normal": 0.02 / math.sqrt(2 * a.layers)}[rule]
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.fill_(1.0)
        elif "modulation" in name or name.endswith("bias"):
            weight.zero_()
        elif "conv" in name:
            weight.normal_(0.0, 0.2, generator=rng)
        else:
            std = added if name.endswith(("o_proj.weight", "down_proj.weight")) else inner
            weight.normal_(0.0, std, generator=rng)
