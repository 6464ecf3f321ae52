"""Small random weights in the published layouts, each with its config.json: what the tests of this folder share."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from remask.checkpoints.checkpoint import load
from remask.checkpoints.format import Format, formats
from remask.checkpoints.source import Source, Tensors
from remask.model.dit import DiTArchitecture
from remask.model.networks import network
from remask.model.sizes import Architecture

PLAIN = Architecture(layers=2, width=32, heads=4, kv_heads=4, head_width=8, ffn=48, context=64, rows=41, predicted=40)


GROUPED = replace(PLAIN, kv_heads=2, rope_base=5e5, rows=40)


DIT = DiTArchitecture(
    layers=2, width=32, heads=4, kv_heads=4, head_width=8, ffn=128, context=64, rows=41, predicted=41, condition=16
)


OWT = replace(DIT, layers=12, width=768, heads=12, kv_heads=12, head_width=64, ffn=3072, condition=128)


IDS = torch.arange(24).view(2, 12) % 37


SHAPES: dict[str, Architecture] = {
    "smdm": replace(PLAIN, rope_bf16=True),
    "smdm, autoregressive": replace(PLAIN, rope_bf16=True, rows=40),
    "llada": GROUPED,
    "llada, tied": replace(GROUPED, tied=True),
    "llada, many heads": replace(PLAIN, rows=40),
    "dit": DIT,
    "dit, conditioned": replace(DIT, time=True),
    "dit, causal": replace(DIT, adaln=False, condition=128),
    "llama": replace(GROUPED, rope_base=1e4),
    "llama, tied": replace(GROUPED, rope_base=1e4, tied=True),
    "llama, biases and norms": replace(GROUPED, qkv_bias=True, qk_norm=True, head_width=16),
    "llama, stretched": replace(GROUPED, rope_scaling=(8.0, 1.0, 4.0, 16.0)),
}


def weights(a: Architecture, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors of a network, by our names."""
    rng = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in network(a).named_parameters()}
    return {n: torch.randn(s, generator=rng) * (0.3 if len(s) > 1 else 0.1) + (len(s) == 1) for n, s in shapes.items()}


def form_of(name: str) -> Format:
    return formats()[name.split(",")[0]]


def config_of(name: str, a: Architecture) -> dict[str, Any]:
    """The config.json that lies beside such weights."""
    if name.startswith("smdm"):
        return {"n_head": a.heads}
    if name.startswith("llada"):
        return {
            "model_type": "llada",
            "n_heads": a.heads,
            "rope_theta": a.rope_base,
            "mask_token_id": 39,
            "eos_token_id": 3,
        }
    if name.startswith("dit"):
        return {"model_type": "mdlm" if "causal" not in name else "ar", "n_heads": 4, "time_conditioning": a.time}
    scale = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    stretched = {"rope_scaling": {**scale, "original_max_position_embeddings": 16}} if a.rope_scaling else {}
    heads = {"num_attention_heads": a.heads, "head_dim": a.head_width, "bos_token_id": 1, "eos_token_id": 2}
    return {"model_type": "llama", "rope_theta": a.rope_base, "tie_word_embeddings": a.tied, **heads, **stretched}


def publish(folder: Path, name: str, ours: dict[str, Tensor] | None = None) -> Path:
    """A folder in the published form."""
    a, form = SHAPES[name], form_of(name)
    ours = ours or weights(a)
    folder.mkdir(parents=True)
    theirs = {t: form.to_theirs([ours[o] for o in group], t, a).contiguous() for t, group in form.groups(a).items()}
    save_file(theirs, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config_of(name, a)))
    return folder


def reference(a: Architecture, ours: dict[str, Tensor]) -> Any:
    model = network(a)
    model.load_state_dict(ours | ({"lm_head.weight": ours["model.embed_tokens.weight"]} if a.tied else {}))
    return model.eval()


def empty(form: str, a: Architecture) -> Source:
    """A source with the shapes of a full-size model, and no weights."""
    layout = formats()[form].layout(a)
    return Source(
        "it",
        Tensors({n: (lambda: torch.empty(0)) for n in layout}, {n: (torch.float32, s) for n, s in layout.items()}),
        [],
    )


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, two: Path, **options: Any) -> bool:
    """Whether two sources are the same network with the same weights."""
    first, second = load(one, **options).model, load(two).model
    weights = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    alike = replace(first.architecture, context=1) == replace(second.architecture, context=1)
    return alike and all(a == b and torch.equal(x, y) for (a, x), (b, y) in weights)
