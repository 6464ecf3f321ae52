"""What people may know about a checkpoint that its tensors cannot show."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What tensors cannot show. What is not given comes from config.json, or from a named size whose shapes fit."""

    heads: int | None = None
    """Attention heads."""
    kv_heads: int | None = None
    """Heads of keys and values. They follow from the tensors once the heads are known, and must agree."""
    rope_theta: float | None = None
    """Base of the rotary frequencies."""
    norm_eps: float | None = None
    """What is added to the mean square under the root of a norm."""
    context: int | None = None
    """Longest text, in tokens."""
    family: str | None = None
    """Masked, Autoregressive, ...; a Llama read as Masked attends in both directions and gets a row for the mask."""
    shift: bool | None = None
    """Whether the prediction for position i is made at position i-1 (DiffuLLaMA, Dream)."""
    time: bool | None = None
    """Whether a DiT is conditioned on the noise level."""
    mask_id: int | None = None
    """Id of the mask."""
    start_id: int | None = None
    """Id that begins a text."""
    end: str | None = None
    """Token that ends a text, by its name or its id."""
