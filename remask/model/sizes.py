"""Architectures of the network: their settings, parameter counts and FLOPs, and the named sizes.

The named sizes are all 30 of *Scaling up Masked Diffusion Models on Text* (named by their non-embedding parameters),
the 1B and 8B of LLaDA, and small ones for CPUs, which have short convolutions.
"""

from dataclasses import dataclass, replace

from remask.errors import RemaskError, unknown


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """All settings of a `Transformer`: two networks with the same settings and weights compute the same."""

    layers: int
    width: int
    """D, width of the residual stream."""
    heads: int
    kv_heads: int
    """Key and value heads; fewer than `heads` is grouped-query attention."""
    ffn: int
    """Inner width of the SwiGLU."""
    head_width: int
    """Width of one attention head; even, since rotary embeddings rotate pairs of dimensions."""
    context: int = 2048
    """Longest sequence that the network is trained for."""
    rope_base: float = 10000.0
    """Base of the rotary frequencies."""
    rope_bf16: bool = False
    """Whether the rotary tables are rounded to bfloat16, as they were when SMDM's weights were trained."""
    rope_scaling: tuple[float, float, float, float] | None = None
    """Llama 3's scaling of the rotary frequencies: factor, low and high frequency factor, original context."""
    norm_eps: float = 1e-5
    """Added to the mean square under the root of each norm."""
    tied: bool = False
    """Whether the head is the embedding matrix."""
    qkv_bias: bool = False
    """Whether queries, keys and values have a bias (Qwen 2)."""
    qk_norm: bool = False
    """Whether queries and keys are normalised in each head (Qwen 3)."""
    shifted: bool = False
    """Whether the logits for position i come from the hidden state of position i - 1, as in networks that were
    autoregressive before (DiffuLLaMA, Dream). The first position of a text uses its own."""
    time: bool = False
    """Whether every layer is conditioned on the noise level."""
    convolution: int = 0
    """Positions that the short convolutions of a layer cover, an odd number such as 5; 0 for none. There is one on the
    normalised input of attention and one on that of the SwiGLU. Of these positions, causal models see half."""
    rows: int = 0
    """Rows of the embedding: the number of ids that can be read."""
    predicted: int = 0
    """V, rows of the head: the number of ids that can be predicted."""

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "kv_heads", "ffn", "head_width", "context"):
            if not 1 <= getattr(self, name) < 2**31:
                raise RemaskError(f"architecture.{name} is {getattr(self, name)}; it must be at least 1")
        if self.layers > 10_000:
            raise RemaskError(f"architecture.layers is {self.layers}; it must be at most 10,000")
        for name in ("norm_eps", "rope_base"):
            if not 0 < getattr(self, name) < float("inf"):
                raise RemaskError(f"architecture.{name} is {getattr(self, name)}; it must be above 0, and finite")
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.heads % self.kv_heads:
            raise RemaskError(f"architecture.kv_heads {self.kv_heads} does not divide heads {self.heads}")
        if self.head_width % 2:
            raise RemaskError(f"architecture.head_width {self.head_width} is odd; rotary embeddings need an even one")
        if self.convolution and (self.convolution % 2 == 0 or not 3 <= self.convolution <= 63):
            raise RemaskError(
                f"architecture.convolution is {self.convolution}; it must be 0, for none, or an odd number of "
                "positions from 3 to 63"
            )
        if self.rope_scaling is not None:
            object.__setattr__(self, "rope_scaling", tuple(map(float, self.rope_scaling)))
            if len(self.rope_scaling) != 4 or min(self.rope_scaling) <= 0:
                raise RemaskError(f"architecture.rope_scaling is {self.rope_scaling}; it must be four positive numbers")
        if self.tied and self.predicted > self.rows:
            raise RemaskError(f"a tied head cannot predict {self.predicted} ids from {self.rows} embeddings")

    @property
    def non_embedding(self) -> int:
        """N: the number of parameters outside embedding and head, those of the norms included."""
        attention = 2 * self.width * self.head_width * (self.heads + self.kv_heads)
        block = attention + 3 * self.width * self.ffn + 2 * self.width + self._attention_vectors + self._convolutions
        return self.layers * block + self.width + self._time_parameters

    @property
    def _time_parameters(self) -> int:
        """Parameters of the time embedding and of the layers' adaLN modulations."""
        if not self.time:
            return 0
        return self.layers * (TIME + 1) * 6 * self.width + TIME * (FREQUENCIES + TIME) + 2 * TIME

    @property
    def _attention_vectors(self) -> int:
        """Parameters of one layer's attention that are vectors: biases and norms of queries, keys and values."""
        bias = self.head_width * (self.heads + 2 * self.kv_heads) if self.qkv_bias else 0
        return bias + (2 * self.head_width if self.qk_norm else 0)

    @property
    def _convolutions(self) -> int:
        """Parameters of one layer's convolutions: a weight for each channel of each neighbour."""
        return 2 * (self.convolution - 1) * self.width if self.convolution else 0

    @property
    def parameters(self) -> int:
        """The number of all parameters."""
        return self.non_embedding + self.width * (self.rows + (0 if self.tied else self.predicted))

    def flops(self, length: int, *, asked: float = 1.0, causal: bool = False) -> float:
        """Exact FLOPs of matrix products and convolutions per token, forward and backward, for rows of `length` tokens.

        `asked` is the share of positions at which the head runs. Attention counts the pairs of query and key that see
        each other, which are about half of all when it is causal.
        """
        vectors = (2 * self.layers + 1) * self.width + self.layers * self._attention_vectors
        unused = self._time_parameters * (1 - 1 / length)  # the noise level is embedded once a row, not once a token
        pairs = (length + 1) / 2 if causal else length
        attention = 4 * pairs * self.heads * self.head_width * self.layers
        return 3 * (2 * (self.non_embedding - vectors - unused) + attention + 2 * self.width * self.predicted * asked)

    @property
    def flops_6n(self) -> int:
        """6N: FLOPs per token by the convention of the scaling-law literature."""
        return 6 * self.non_embedding


FREQUENCIES = 256
"""Number of sinusoids in the time embedding."""
TIME = 128
"""Width of the time embedding."""


def _shape(layers: int, heads: int, width: int, ffn: int, **more: float) -> Architecture:
    given = {"kv_heads": heads, "head_width": width // heads, **more}
    return Architecture(layers=layers, heads=heads, width=width, ffn=ffn, **given)  # type: ignore[arg-type]


_SMDM = {
    "6M": (6, 4, 256, 1024),
    "19M": (8, 6, 384, 1536),
    "34M": (8, 8, 512, 2048),
    "48M": (9, 9, 576, 2304),
    "66M": (10, 10, 640, 2560),
    "75M": (16, 8, 640, 1600),
    "85M": (13, 10, 640, 2560),
    "113M": (12, 12, 768, 3072),
    "142M": (15, 12, 768, 3072),
    "170M": (18, 12, 768, 3072),
    "180M": (14, 14, 896, 3584),
    "206M": (16, 14, 896, 3584),
    "231M": (18, 14, 896, 3584),
    "268M": (16, 16, 1024, 4096),
    "302M": (18, 16, 1024, 4096),
    "336M": (20, 16, 1024, 4096),
    "472M": (18, 10, 1280, 5120),
    "551M": (21, 10, 1280, 5120),
    "571M": (18, 11, 1408, 5632),
    "629M": (24, 10, 1280, 5120),
    "666M": (21, 11, 1408, 5632),
    "717M": (19, 12, 1536, 6144),
    "761M": (24, 11, 1408, 5632),
    "831M": (22, 12, 1536, 6144),
    "944M": (25, 12, 1536, 6144),
    "1028M": (20, 14, 1792, 7168),
    "1233M": (24, 14, 1792, 7168),
    "1476M": (22, 16, 2048, 8192),
    "1678M": (25, 16, 2048, 8192),
    "2121M": (28, 17, 2176, 8704),
}

SIZES: dict[str, Architecture] = {
    "tiny": _shape(4, 4, 128, 384, convolution=5),
    "3M": _shape(6, 4, 192, 640, convolution=5),
    "10M": _shape(6, 6, 384, 1024, convolution=5),
    "30M": _shape(8, 8, 512, 1792, convolution=5),
    **{name: _shape(*shape) for name, shape in _SMDM.items()},
    "LLaDA-1B": _shape(22, 32, 2048, 5634, kv_heads=4, context=4096, rope_base=500000.0),
    "LLaDA-8B": _shape(32, 32, 4096, 12288, context=4096, rope_base=500000.0),
}


def size(name: str) -> Architecture:
    """The architecture of a named size; `rows` and `predicted`, which depend on the vocabulary, are still 0."""
    if name not in SIZES:
        raise unknown("model size", name, SIZES)
    return SIZES[name]


@dataclass(frozen=True, kw_only=True)
class SizeOverrides:
    """Changes to a named size. A setting that is None stays as it is in the named size."""

    layers: int | None = None
    width: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    ffn: int | None = None
    context: int | None = None
    rope_base: float | None = None
    rope_bf16: bool | None = None
    norm_eps: float | None = None
    tied: bool | None = None
    qk_norm: bool | None = None
    time: bool | None = None
    convolution: int | None = None

    def of(self, base: Architecture) -> Architecture:
        """`base` with these changes. Where the width or the number of heads changes, the head width follows."""
        given = {k: v for k, v in vars(self).items() if v is not None}
        if "heads" in given and "kv_heads" not in given:
            given["kv_heads"] = given["heads"]
        width, heads = given.get("width", base.width), given.get("heads", base.heads)
        if "width" in given or "heads" in given:
            if heads < 1 or width % heads:
                raise RemaskError(f"architecture.heads {heads} does not divide architecture.width {width}")
            given["head_width"] = width // heads
        return replace(base, **given)
