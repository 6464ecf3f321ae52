"""What tensors cannot tell about a checkpoint, and people can."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What tensors cannot tell. What is not given comes from config.json, or from a named size whose shapes fit."""

    heads: int | None = None
    """Attention heads."""
    kv_heads: int | None = None
    """Heads of keys and values; the tensors tell it once the heads are known, and must agree."""
    rope_theta: float | None = None
    """Base of the rotary frequencies."""
    norm_eps: float | None = None
    """Added under the root of a norm."""
    context: int | None = None
    """Longest text, in tokens."""
    family: str | None = None
    """Masked, Autoregressive, ...; a Llama read as Masked gets its attention opened and a row for the mask."""
    shift: bool | None = None
    """Whether position i is predicted where i-1 is read (DiffuLLaMA, Dream)."""
    time: bool | None = None
    """Whether a DiT is told the noise level."""
    mask_id: int | None = None
    """Id of the mask."""
    start_id: int | None = None
    """Id that begins a text."""
    end_id: int | None = None
    """Id that ends a text."""
